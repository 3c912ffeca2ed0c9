//! C1 and C2: meta-training, over seeds.

use anyhow::Result;
use lopt_adam::GRID;
use lopt_eval::{Score, adams};
use lopt_plot::{Axis, Color, Figure, Item, Panel, Shape};

use super::{
    lab::{EVALUATION_SEEDS, Lab, OUTER_STEPS, Run, VARIANTS, diverged, horizon},
    report::Report,
    spread::{Spread, deviation},
};
use crate::table::new_table;

/// The runs of each of [`VARIANTS`].
fn all_runs(lab: &mut Lab) -> Result<Vec<Vec<Run>>> {
    VARIANTS
        .iter()
        .map(|variant| lab.runs(variant, OUTER_STEPS))
        .collect()
}

/// Mean held-out losses of all seeds at each evaluated outer step.
pub fn held_out(runs: &[Run]) -> Vec<(f64, Spread)> {
    let at = |(index, &(step, _)): (usize, &(u64, f64))| {
        let losses = runs.iter().map(|run| run.held_out[index].1);
        (step as f64, Spread::of(losses))
    };
    runs[0].held_out.iter().enumerate().map(at).collect()
}

/// A line through the medians, and a band from the lowest to the highest seed.
pub fn lines(color: Color, label: &str, spreads: &[(f64, Spread)]) -> [Item; 2] {
    let band = spreads.iter().map(|(x, s)| (*x, s.lowest, s.highest));
    let line = spreads.iter().map(|(x, s)| (*x, s.median));
    [
        Item::new(color, Shape::Band(band.collect())),
        Item::new(color, Shape::MarkedLine(line.collect())).labelled(label),
    ]
}

/// The lowest mean training loss of Adam's grid on the preset's task.
fn best_adam(lab: &mut Lab) -> Result<f64> {
    let curves = lab.train(&adams(&GRID), horizon())?;
    let losses = curves
        .iter()
        .map(|of_seeds| Score::of(of_seeds, horizon() as usize).mean_loss);
    Ok(losses.fold(f64::INFINITY, f64::min))
}

/// C1.
pub fn faster(lab: &mut Lab) -> Result<Report> {
    let runs = all_runs(lab)?;
    let adam = best_adam(lab)?;
    let losses: Vec<Vec<(f64, Spread)>> = runs.iter().map(|runs| held_out(runs)).collect();
    let mut header = vec!["outer step"];
    header.extend(VARIANTS.iter().map(|variant| variant.name));
    let mut table = new_table(&header, 0);
    let mut below = [0; 2];
    let points = losses[0].len();
    for index in 0..points {
        let spreads: Vec<Spread> = losses.iter().map(|l| l[index].1).collect();
        let mut row = vec![losses[0][index].0.to_string()];
        row.extend(spreads.iter().map(ToString::to_string));
        table.add_row(row);
        for (count, star) in below.iter_mut().zip(&spreads) {
            *count += usize::from(star.median < spreads[2].median);
        }
    }
    // Outer steps to the blackbox's last loss.
    let target = losses[2][points - 1].1.median;
    let mut row = vec![format!("steps to {target:.4}")];
    for losses in &losses {
        let there = losses
            .iter()
            .find(|(_, of_seeds)| of_seeds.median <= target);
        row.push(there.map_or("never".to_owned(), |(step, _)| step.to_string()));
    }
    table.add_row(row);
    let mut items = vec![];
    for (index, (variant, losses)) in VARIANTS.iter().zip(&losses).enumerate() {
        items.extend(lines(Color::nth(index), variant.name, losses));
    }
    let ends = [losses[0][0].0, losses[0][points - 1].0].map(|step| (step, adam));
    items.push(Item::new(Color::Black, Shape::DashedLine(ends.to_vec())).labelled("best Adam"));
    let criterion = |index: usize| {
        let name = VARIANTS[index].name;
        let count = below[index];
        let text = format!("{name} is below the blackbox at {count} of {points} points (medians)");
        (text, count == points)
    };
    Ok(Report {
        claim: "STAR meta-trains faster than the blackbox".to_owned(),
        criteria: vec![criterion(0), criterion(1)],
        table,
        legend: format!(
            "Mean training loss of held-out networks: median over {} meta-training seeds [lowest, \
             highest]. The best Adam: {adam:.4}.",
            runs[0].len()
        ),
        figure: Figure {
            title: "C1: meta-training".to_owned(),
            caption: "Mean training loss of held-out networks. Lines: medians over meta-training \
                      seeds. Bands: from the lowest to the highest."
                .to_owned(),
            panels: vec![Panel {
                title: String::new(),
                x: Axis::linear("outer step"),
                y: Axis::linear("held-out training loss"),
                items,
            }],
            columns: 1,
        },
    })
}

/// A held-out loss above the best one before it by this factor is a setback.
const SETBACK: f64 = 1.05;

/// How often a meta-training lost what it had.
fn setbacks(run: &Run) -> usize {
    let mut best = f64::INFINITY;
    let mut count = 0;
    for (_, loss) in &run.held_out {
        count += usize::from(*loss > SETBACK * best);
        best = best.min(*loss);
    }
    count
}

/// C2.
pub fn more_stable(lab: &mut Lab) -> Result<Report> {
    let runs = all_runs(lab)?;
    let steps = horizon() as usize;
    let mut table = new_table(
        &[
            "optimizer",
            "mean training loss",
            "deviation",
            "final training loss",
            "deviation",
            "setbacks",
            "diverged",
        ],
        1,
    );
    let mut deviations = vec![];
    let mut panels = vec![];
    for (variant, runs) in VARIANTS.iter().zip(&runs) {
        let curves = lab.train_by(runs, horizon())?;
        let scores: Vec<Score> = curves.iter().map(|c| Score::of(c, steps)).collect();
        let means: Vec<f64> = scores.iter().map(|score| score.mean_loss).collect();
        let finals: Vec<f64> = scores.iter().map(|score| score.final_loss).collect();
        let [diverged, all] = diverged(&curves, steps);
        table.add_row(vec![
            variant.name.to_owned(),
            Spread::of(means.clone()).to_string(),
            format!("{:.4}", deviation(&means)),
            Spread::of(finals.clone()).to_string(),
            format!("{:.4}", deviation(&finals)),
            runs.iter().map(setbacks).sum::<usize>().to_string(),
            format!("{diverged}/{all}"),
        ]);
        deviations.push([deviation(&means), deviation(&finals)]);
        let of_seed = |(seed, run): (usize, &Run)| {
            let points = run
                .held_out
                .iter()
                .map(|(step, mean)| (*step as f64, *mean));
            Item::new(Color::nth(seed), Shape::Line(points.collect()))
        };
        panels.push(Panel {
            title: variant.name.to_owned(),
            x: Axis::linear("outer step"),
            y: Axis::logarithmic("held-out training loss"),
            items: runs.iter().enumerate().map(of_seed).collect(),
        });
    }
    let criterion = |star: usize, loss: usize| {
        let text = format!(
            "{} deviates less over seeds in {} training loss than the blackbox ({:.4} and {:.4})",
            VARIANTS[star].name,
            ["mean", "final"][loss],
            deviations[star][loss],
            deviations[2][loss]
        );
        (text, deviations[star][loss] < deviations[2][loss])
    };
    let pairs = [(0, 0), (0, 1), (1, 0), (1, 1)];
    Ok(Report {
        claim: "STAR is more stable across meta-training seeds".to_owned(),
        criteria: pairs.map(|(star, loss)| criterion(star, loss)).to_vec(),
        table,
        legend: format!(
            "Of the best θ of each of {} seeds on its own task: median over meta-training seeds \
             [lowest, highest] and standard deviation; {EVALUATION_SEEDS} fresh networks each. \
             Setbacks: held-out losses of all seeds more than 5 % above the best one before.",
            runs[0].len()
        ),
        figure: Figure {
            title: "C2: meta-training seeds".to_owned(),
            caption: "Mean training loss of held-out networks; a line for each seed.".to_owned(),
            panels,
            columns: 3,
        },
    })
}
