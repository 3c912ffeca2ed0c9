//! C3: far beyond the horizon.

use lopt_adam::GRID;
use lopt_eval::{Curve, FINAL_PERCENT, Score, adams};
use lopt_plot::{Axis, Color, Figure, Item, Shape};

use super::{
    Claim, Criterion, Report, compared,
    spread::{Diverged, LINES, Spread, lines},
};
use crate::{
    Lab, Result, Table,
    lab::{EVALUATION_SEEDS, horizon},
};

/// Multiples of the horizon of meta-training, ascending.
const FACTORS: [u64; 5] = [1, 3, 10, 30, 100];

/// An optimizer far beyond its horizon.
struct Trained {
    /// By meta-training seed and evaluation seed.
    curves: Vec<Vec<Curve>>,
    /// Final losses at each multiple in [`FACTORS`].
    losses: Vec<Spread>,
    /// After the last step.
    diverged: Diverged,
}

impl Trained {
    fn new(curves: Vec<Vec<Curve>>, ends: &[usize], steps: usize) -> Self {
        let losses = ends.iter().map(|&end| Spread::of(finals(&curves, end)));
        Self {
            losses: losses.collect(),
            diverged: Diverged::of(&curves, steps),
            curves,
        }
    }

    fn medians(&self) -> impl Iterator<Item = f64> {
        self.losses.iter().map(|spread| spread.median)
    }

    /// The median at the last factor.
    fn last(&self) -> f64 {
        self.medians().last().unwrap_or(f64::NAN)
    }

    /// Final losses over meta-training seeds after increasing numbers of steps.
    fn thinned(&self, steps: usize) -> Vec<(f64, Spread)> {
        let at = |end| (end as f64, Spread::of(finals(&self.curves, end)));
        points(steps).map(at).collect()
    }
}

/// C3.
pub fn keeps_descending(lab: &mut Lab) -> Result<Report> {
    let horizon = horizon();
    let ends = FACTORS.map(|factor| (factor * horizon) as usize);
    let steps = ends.into_iter().max().unwrap_or(0);
    // Each optimizer is meta-trained and evaluated before the next one.
    let trained = compared::variants().try_map(|variant| {
        let runs = compared::runs_of(lab, variant)?;
        let curves = lab.train_by(&runs, steps as u64)?;
        Ok(Trained::new(curves, &ends, steps))
    })?;
    let adam = lab.train(&adams(&GRID), steps as u64)?;
    // Adam's learning rate is constant: the start of a longer run is a shorter run.
    let best = |end: usize| finals(&adam, end).fold(f64::INFINITY, f64::min);
    let mut header = vec!["times the horizon"];
    header.extend(trained.named().map(|(name, _)| name));
    header.push("best Adam");
    let mut table = Table::new(header, 1);
    for (index, (factor, end)) in FACTORS.into_iter().zip(ends).enumerate() {
        let mut row = vec![format!("{factor}×")];
        row.extend(trained.named().map(|(_, of)| of.losses[index].to_string()));
        row.push(format!("{:.4}", best(end)));
        table.row(row);
    }
    let mut row = vec!["diverged".to_owned()];
    row.extend(trained.named().map(|(_, of)| of.diverged.to_string()));
    row.push(String::new());
    table.row(row);

    let mut criteria = trained.stars().map(descends).to_vec();
    let Diverged { diverged, runs } = trained.blackbox.diverged;
    criteria.push(Criterion::new(
        format!("the blackbox diverges by 100× ({diverged} of {runs} runs)"),
        2 * diverged > runs,
    ));
    let star = trained.star.last();
    for (other, loss) in [
        ("the blackbox", trained.blackbox.last()),
        ("the best Adam", best(steps)),
    ] {
        criteria.push(Criterion::new(
            format!("STAR is below {other} at 100× ({star:.4} and {loss:.4})"),
            star < loss,
        ));
    }
    let mut items = vec![];
    for (index, (name, of)) in trained.named().into_iter().enumerate() {
        items.extend(lines(Color::nth(index), name, &of.thinned(steps)));
    }
    let line = points(steps).map(|end| (end as f64, best(end))).collect();
    items.push(
        Item::new(Color::Black, Shape::DashedLine(line)).labelled("best Adam for that many steps"),
    );
    Ok(Report {
        claim: Claim::C3,
        criteria,
        table,
        legend: format!(
            "Training loss of the last {FINAL_PERCENT} % of the steps: median over {} meta-training \
             seeds [lowest, highest]; {EVALUATION_SEEDS} fresh networks each. The horizon is \
             {horizon}. Adam: the best of its grid for each number of steps.",
            trained.star.curves.len()
        ),
        figure: Figure::single(
            "C3: beyond the horizon",
            format!("Training loss of the last {FINAL_PERCENT} % of so many steps. {LINES}"),
            Axis::logarithmic("inner steps"),
            Axis::logarithmic("training loss"),
            items,
        ),
    })
}

fn descends((name, of): (&str, &Trained)) -> Criterion {
    let path: Vec<String> = of.medians().map(|loss| format!("{loss:.4}")).collect();
    let medians: Vec<f64> = of.medians().collect();
    Criterion::new(
        format!("{name} descends up to 100× ({})", path.join(", ")),
        medians.is_sorted_by(|earlier, later| later < earlier),
    )
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
