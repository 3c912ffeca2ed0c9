//! C1 and C2: meta-training over seeds.

use lopt_adam::GRID;
use lopt_eval::{Score, adams};
use lopt_plot::{Axis, Color, Figure, Item, Panel, Shape};

use super::{
    Claim, Criterion, Report,
    compared::{self, Compared},
    spread::{Diverged, LINES, Spread, deviation, held_out, lines},
};
use crate::{
    Lab, Result, Run, Table,
    lab::{EVALUATION_SEEDS, horizon},
};

/// The lowest mean training loss of Adam's grid on the task of the preset.
fn best_adam(lab: &mut Lab) -> Result<f64> {
    let curves = lab.train(&adams(&GRID), horizon())?;
    let losses = curves
        .iter()
        .map(|of_seeds| Score::of(of_seeds, horizon() as usize).mean_loss);
    Ok(losses.fold(f64::INFINITY, f64::min))
}

/// C1.
pub fn faster(lab: &mut Lab) -> Result<Report> {
    let runs = compared::runs(lab)?;
    let adam = best_adam(lab)?;
    let losses = runs.map(|runs| held_out(runs));
    let mut header = vec!["outer step"];
    header.extend(losses.named().map(|(name, _)| name));
    let mut table = Table::new(header, 0);
    let medians =
        |losses: &[(f64, Spread)]| losses.iter().map(|(_, s)| s.median).collect::<Vec<_>>();
    for (index, (step, _)) in losses.blackbox.iter().enumerate() {
        let mut row = vec![step.to_string()];
        row.extend(
            losses
                .named()
                .map(|(_, losses)| losses[index].1.to_string()),
        );
        table.row(row);
    }
    let of_blackbox = medians(&losses.blackbox);
    let points = of_blackbox.len();
    let target = of_blackbox.last().copied().unwrap_or(f64::NAN);
    let mut row = vec![format!("steps to {target:.4}")];
    row.extend(losses.named().map(|(_, losses)| {
        let reached = losses.iter().find(|(_, loss)| loss.median <= target);
        reached.map_or("never".to_owned(), |(step, _)| step.to_string())
    }));
    table.row(row);
    let mut items = vec![];
    for (index, (name, losses)) in losses.named().into_iter().enumerate() {
        items.extend(lines(Color::nth(index), name, losses));
    }
    let ends = [losses.star.first(), losses.star.last()]
        .into_iter()
        .flatten();
    let ends = ends.map(|(step, _)| (*step, adam)).collect();
    items.push(Item::new(Color::Black, Shape::DashedLine(ends)).labelled("best Adam"));
    let criteria = losses.stars().map(|(name, losses)| {
        let pairs = medians(losses).into_iter().zip(&of_blackbox);
        let below = pairs.filter(|(star, blackbox)| star < *blackbox).count();
        let text = format!("{name} is below the blackbox at {below} of {points} points (medians)");
        Criterion::new(text, below == points)
    });
    Ok(Report {
        claim: Claim::C1,
        criteria: criteria.to_vec(),
        table,
        legend: format!(
            "Mean training loss of held-out networks: median over {} meta-training seeds [lowest, \
             highest]. The best Adam: {adam:.4}.",
            runs.star.len()
        ),
        figure: Figure::single(
            "C1: meta-training",
            format!("Mean training loss of held-out networks. {LINES}"),
            Axis::linear("outer step"),
            Axis::linear("held-out training loss"),
            items,
        ),
    })
}

/// A held-out loss above the best previous one by this factor is a setback.
const SETBACK: f64 = 1.05;

/// The number of setbacks of a meta-training.
fn setbacks(run: &Run) -> usize {
    let mut best = f64::INFINITY;
    let mut count = 0;
    for (_, loss) in &run.held_out {
        count += usize::from(*loss > SETBACK * best);
        best = best.min(*loss);
    }
    count
}

/// The training losses of the best θ of each seed on its own task.
struct Losses {
    means: Vec<f64>,
    finals: Vec<f64>,
    diverged: Diverged,
}

impl Losses {
    fn new(lab: &mut Lab, runs: &[Run]) -> Result<Self> {
        let steps = horizon() as usize;
        let curves = lab.train_by(runs, horizon())?;
        let scores: Vec<Score> = curves.iter().map(|c| Score::of(c, steps)).collect();
        Ok(Self {
            means: scores.iter().map(|score| score.mean_loss).collect(),
            finals: scores.iter().map(|score| score.final_loss).collect(),
            diverged: Diverged::of(&curves, steps),
        })
    }
}

/// C2.
pub fn more_stable(lab: &mut Lab) -> Result<Report> {
    let runs = compared::runs(lab)?;
    let losses = runs.clone().try_map(|runs| Losses::new(lab, &runs))?;
    let header = [
        "optimizer",
        "mean training loss",
        "deviation",
        "final training loss",
        "deviation",
        "setbacks",
        "diverged",
    ];
    let mut table = Table::new(header, 1);
    for ((name, runs), (_, losses)) in runs.named().into_iter().zip(losses.named()) {
        table.row([
            name.to_owned(),
            Spread::of(losses.means.clone()).to_string(),
            format!("{:.4}", deviation(&losses.means)),
            Spread::of(losses.finals.clone()).to_string(),
            format!("{:.4}", deviation(&losses.finals)),
            runs.iter().map(setbacks).sum::<usize>().to_string(),
            losses.diverged.to_string(),
        ]);
    }
    let mut criteria = vec![];
    for (name, of_star) in losses.stars() {
        let of_blackbox = &losses.blackbox;
        for (which, star, blackbox) in [
            ("mean", &of_star.means, &of_blackbox.means),
            ("final", &of_star.finals, &of_blackbox.finals),
        ] {
            let (star, blackbox) = (deviation(star), deviation(blackbox));
            let text = format!(
                "{name} deviates less over seeds in {which} training loss than the blackbox \
                 ({star:.4} and {blackbox:.4})"
            );
            criteria.push(Criterion::new(text, star < blackbox));
        }
    }
    Ok(Report {
        claim: Claim::C2,
        criteria,
        table,
        legend: format!(
            "Of the best θ of each of {} seeds on its own task: median over meta-training seeds \
             [lowest, highest] and standard deviation; {EVALUATION_SEEDS} fresh networks each. \
             Setbacks: held-out losses of all seeds more than 5 % above the best one before.",
            runs.star.len()
        ),
        figure: Figure {
            title: "C2: meta-training seeds".to_owned(),
            caption: "Mean training loss of held-out networks; a line for each seed.".to_owned(),
            panels: panels(&runs),
            columns: 3,
        },
    })
}

/// A line for each seed, a panel for each optimizer.
fn panels(runs: &Compared<Vec<Run>>) -> Vec<Panel> {
    let of_seed = |(index, run): (usize, &Run)| {
        let points = run.held_out.iter();
        let points = points.map(|(step, mean)| (*step as f64, *mean));
        Item::new(Color::nth(index), Shape::Line(points.collect()))
    };
    let panel = |(name, runs): (&str, &Vec<Run>)| Panel {
        title: name.to_owned(),
        x: Axis::linear("outer step"),
        y: Axis::logarithmic("held-out training loss"),
        items: runs.iter().enumerate().map(of_seed).collect(),
    };
    runs.named().map(panel).to_vec()
}
