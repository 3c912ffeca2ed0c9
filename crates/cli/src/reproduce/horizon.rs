//! C3: far beyond the horizon.

use anyhow::Result;
use lopt_adam::GRID;
use lopt_eval::{Curve, Score, adams};
use lopt_plot::{Axis, Color, Figure, Item, Panel, Shape};

use super::{
    lab::{EVALUATION_SEEDS, Lab, OUTER_STEPS, VARIANTS, diverged, horizon},
    report::Report,
    seeds::lines,
    spread::Spread,
};
use crate::table::new_table;

/// Times the horizon of meta-training.
const FACTORS: [u64; 5] = [1, 3, 10, 30, 100];

/// C3.
pub fn keeps_descending(lab: &mut Lab) -> Result<Report> {
    let horizon = horizon();
    let ends = FACTORS.map(|factor| (factor * horizon) as usize);
    let steps = ends[FACTORS.len() - 1];
    let mut curves: Vec<Vec<Vec<Curve>>> = vec![];
    for variant in &VARIANTS {
        let runs = lab.runs(variant, OUTER_STEPS)?;
        curves.push(lab.train_by(&runs, steps as u64)?);
    }
    let adam = lab.train(&adams(&GRID), steps as u64)?;
    // Adam's rate is constant: a longer run begins with a shorter one.
    let best = |end: usize| finals(&adam, end).fold(f64::INFINITY, f64::min);
    let mut header = vec!["times the horizon"];
    header.extend(VARIANTS.iter().map(|variant| variant.name));
    header.push("best Adam");
    let mut table = new_table(&header, 1);
    let mut medians = vec![vec![]; VARIANTS.len()];
    let mut best_adam = vec![];
    for (factor, end) in FACTORS.into_iter().zip(ends) {
        let mut row = vec![format!("{factor}×")];
        for (curves, medians) in curves.iter().zip(&mut medians) {
            let spread = Spread::of(finals(curves, end));
            medians.push(spread.median);
            row.push(spread.to_string());
        }
        let best = best(end);
        best_adam.push(best);
        row.push(format!("{best:.4}"));
        table.add_row(row);
    }
    let counts: Vec<[usize; 2]> = curves.iter().map(|c| diverged(c, steps)).collect();
    let mut row = vec!["diverged".to_owned()];
    row.extend(
        counts
            .iter()
            .map(|[diverged, all]| format!("{diverged}/{all}")),
    );
    row.push(String::new());
    table.add_row(row);

    let descends = |star: usize| {
        let of_star = &medians[star];
        let pairs = of_star.windows(2);
        let path: Vec<String> = of_star.iter().map(|loss| format!("{loss:.4}")).collect();
        let name = VARIANTS[star].name;
        let text = format!("{name} descends up to 100× ({})", path.join(", "));
        (text, pairs.clone().all(|pair| pair[1] < pair[0]))
    };
    let last = FACTORS.len() - 1;
    let mut items = vec![];
    for (index, (variant, curves)) in VARIANTS.iter().zip(&curves).enumerate() {
        items.extend(lines(
            Color::nth(index),
            variant.name,
            &thinned(curves, steps),
        ));
    }
    let line = points(steps).map(|end| (end as f64, best(end))).collect();
    items.push(
        Item::new(Color::Black, Shape::DashedLine(line)).labelled("best Adam for that many steps"),
    );
    Ok(Report {
        claim: "STAR keeps descending far beyond its horizon, the blackbox diverges".to_owned(),
        criteria: vec![
            descends(0),
            descends(1),
            (
                format!(
                    "the blackbox diverges by 100× ({} of {} runs)",
                    counts[2][0], counts[2][1]
                ),
                2 * counts[2][0] > counts[2][1],
            ),
            (
                format!(
                    "STAR is below the blackbox at 100× ({:.4} and {:.4})",
                    medians[0][last], medians[2][last]
                ),
                medians[0][last] < medians[2][last],
            ),
            (
                format!(
                    "STAR is below the best Adam at 100× ({:.4} and {:.4})",
                    medians[0][last], best_adam[last]
                ),
                medians[0][last] < best_adam[last],
            ),
        ],
        table,
        legend: format!(
            "Training loss of the last twentieth of the steps: median over {} meta-training seeds \
             [lowest, highest]; {EVALUATION_SEEDS} fresh networks each. The horizon is {horizon}. Adam: the \
             best of its grid for each number of steps.",
            curves[0].len()
        ),
        figure: Figure {
            title: "C3: beyond the horizon".to_owned(),
            caption: "Training loss of the last twentieth of so many steps. Lines: medians over \
                      meta-training seeds. Bands: from the lowest to the highest."
                .to_owned(),
            panels: vec![Panel {
                title: String::new(),
                x: Axis::logarithmic("inner steps"),
                y: Axis::logarithmic("training loss"),
                items,
            }],
            columns: 1,
        },
    })
}

/// Numbers of steps at equal ratios.
fn points(steps: usize) -> impl Iterator<Item = usize> {
    const FIRST: f64 = 20.0;
    const POINTS: u32 = 40;
    let ratio = steps as f64 / FIRST;
    (0..=POINTS).map(move |k| (FIRST * ratio.powf(f64::from(k) / f64::from(POINTS))) as usize)
}

/// The final loss of the first `end` steps, of each optimizer.
fn finals(curves: &[Vec<Curve>], end: usize) -> impl Iterator<Item = f64> {
    curves
        .iter()
        .map(move |of_seeds| Score::of(of_seeds, end).final_loss)
}

/// Final losses of all meta-training seeds after some numbers of steps.
fn thinned(curves: &[Vec<Curve>], steps: usize) -> Vec<(f64, Spread)> {
    let at = |end| (end as f64, Spread::of(finals(curves, end)));
    points(steps).map(at).collect()
}
