//! C4 and C5: other tasks, and Adam.

use anyhow::Result;
use comfy_table::Table;
use lopt_eval::{
    ADAM, ContenderResult, Outcome, TaskReport,
    stats::{Interval, bootstrap_interquartile_mean},
};
use lopt_plot::{Axis, Color, Figure, Item, Marker, Panel, Shape};
use lopt_tasks::suite::{IN_DISTRIBUTION, Suite};

use super::{
    lab::{EVALUATION_SEEDS, Lab, OUTER_STEPS, Run, VARIANTS},
    report::Report,
};
use crate::table::{interval, new_table};

/// An optimizer of all meta-training seeds on one task.
pub struct Pooled {
    pub group: String,
    pub task: String,
    /// Means over meta-training seeds.
    pub speed_up: f64,
    pub final_loss: f64,
    pub adam_final_loss: f64,
    pub diverged: u64,
    pub runs: u64,
}

/// The results of the contenders whose names are `variant` and a seed, on each task.
pub fn pooled(reports: &[TaskReport], variant: &str) -> Vec<Pooled> {
    let of_task = |report: &TaskReport| {
        let Outcome::Done { results, .. } = &report.outcome else {
            return None;
        };
        let is_of = |name: &str| {
            name.rsplit_once(' ')
                .is_some_and(|(name, _)| name == variant)
        };
        let seeds: Vec<&ContenderResult> = results.iter().filter(|r| is_of(&r.name)).collect();
        let adam = results.iter().find(|r| r.name == ADAM)?;
        let mean = |value: &dyn Fn(&ContenderResult) -> f64| {
            seeds.iter().map(|r| value(r)).sum::<f64>() / seeds.len() as f64
        };
        Some(Pooled {
            group: report.entry.group.clone(),
            task: report.entry.name.clone(),
            speed_up: mean(&|r| r.speed_up.map_or(f64::NAN, |s| s.ratio)),
            final_loss: mean(&ContenderResult::final_loss),
            adam_final_loss: adam.final_loss(),
            diverged: seeds.iter().map(|r| r.diverged).sum(),
            runs: seeds.iter().map(|r| r.final_losses.len() as u64).sum(),
        })
    };
    reports.iter().filter_map(of_task).collect()
}

/// Every seed of a variant, named so that [`pooled`] finds it.
pub fn contenders(variant: &str, runs: Vec<Run>) -> impl Iterator<Item = (String, Run)> {
    let named = runs.into_iter().enumerate();
    named.map(move |(seed, run)| (format!("{variant} {seed}"), run))
}

/// The interquartile mean over tasks.
pub fn speed_up<'a>(tasks: impl IntoIterator<Item = &'a Pooled>) -> Interval {
    let ratios: Vec<f64> = tasks.into_iter().map(|task| task.speed_up).collect();
    bootstrap_interquartile_mean(&ratios).unwrap_or(Interval {
        estimate: f64::NAN,
        bounds: None,
    })
}

/// How many training runs diverged, and how many there are.
pub fn diverged<'a>(tasks: impl IntoIterator<Item = &'a Pooled>) -> [u64; 2] {
    tasks.into_iter().fold([0, 0], |[diverged, runs], task| {
        [diverged + task.diverged, runs + task.runs]
    })
}

/// The name of all groups but one.
const OUT: &str = "out of distribution";

/// [`VARIANTS`] on the quick suite and beyond MLPs.
fn evaluated(lab: &mut Lab) -> Result<Vec<Vec<Pooled>>> {
    let mut all = vec![];
    for variant in &VARIANTS {
        all.extend(contenders(variant.name, lab.runs(variant, OUTER_STEPS)?));
    }
    let mut reports = lab.evaluate(Suite::Quick, &[], EVALUATION_SEEDS, &all)?;
    // These take a hundred times as long.
    reports.extend(lab.evaluate(Suite::BeyondMlps, &[], 1, &all)?);
    Ok(VARIANTS
        .iter()
        .map(|variant| pooled(&reports, variant.name))
        .collect())
}

fn out_of_distribution(tasks: &[Pooled]) -> impl Iterator<Item = &Pooled> {
    tasks.iter().filter(|task| task.group != IN_DISTRIBUTION)
}

/// A row for each group and all that is out of distribution, and whether STAR is ahead of the
/// blackbox in each.
fn groups(results: &[Vec<Pooled>]) -> (Table, Vec<(String, bool)>) {
    let mut table = new_table(
        &[
            "group",
            "tasks",
            "optimizer",
            "speed-up over tuned Adam",
            "below Adam",
            "below the blackbox",
            "diverged",
        ],
        3,
    );
    let mut names: Vec<&str> = results[0].iter().map(|task| &*task.group).collect();
    names.dedup();
    names.push(OUT);
    let mut ahead = vec![];
    for group in names {
        let belongs = |&index: &usize| match (&*results[0][index].group, group) {
            (of_task, OUT) => of_task != IN_DISTRIBUTION,
            (of_task, _) => of_task == group,
        };
        let indices: Vec<usize> = (0..results[0].len()).filter(belongs).collect();
        for (variant, tasks) in VARIANTS.iter().zip(results) {
            let of_variant: Vec<&Pooled> = indices.iter().map(|&index| &tasks[index]).collect();
            let below = indices
                .iter()
                .filter(|&&index| tasks[index].final_loss < results[2][index].final_loss);
            let [diverged, runs] = diverged(of_variant.iter().copied());
            let first = variant.name == VARIANTS[0].name;
            let once = |text: String| if first { text } else { String::new() };
            let below_adam = of_variant
                .iter()
                .filter(|task| task.final_loss < task.adam_final_loss);
            table.add_row(vec![
                once(group.to_owned()),
                once(indices.len().to_string()),
                variant.name.to_owned(),
                interval(speed_up(of_variant.iter().copied())),
                below_adam.count().to_string(),
                below.count().to_string(),
                format!("{diverged}/{runs}"),
            ]);
        }
        let of = |variant: usize| speed_up(indices.iter().map(|&index| &results[variant][index]));
        let (star, blackbox) = (of(0).estimate, of(2).estimate);
        if group != IN_DISTRIBUTION {
            ahead.push((
                format!(
                    "{group}: STAR's speed-up is above the blackbox's ({star:.2} and {blackbox:.2})"
                ),
                star > blackbox,
            ));
        }
    }
    (table, ahead)
}

fn legend(results: &[Vec<Pooled>]) -> String {
    let seeds = results[0][0].runs / EVALUATION_SEEDS;
    format!(
        "Speed-up: steps that tuned Adam (the best final loss of its grid on the task) needs to reach \
         the optimizer's final training loss, over the optimizer's; at most 2. Means over {seeds} \
         meta-training seeds and {EVALUATION_SEEDS} fresh networks (group architecture: 1); interquartile mean over tasks, from \
         5 on with a 95 % bootstrap interval. Below: tasks with a lower final training loss."
    )
}

/// A number of each task, a marker for each optimizer; tuned Adam is at 1.
fn figure(
    title: &str,
    what: &str,
    y: Axis,
    results: &[Vec<Pooled>],
    value: impl Fn(&Pooled) -> f64,
) -> Figure {
    const MARKERS: [Marker; 3] = [Marker::Circle, Marker::Square, Marker::Triangle];
    let mut items = vec![];
    for (index, (variant, tasks)) in VARIANTS.iter().zip(results).enumerate() {
        let points = tasks.iter().enumerate();
        let points = points.map(|(task, t)| ((task + 1) as f64, value(t)));
        let shape = Shape::Points(points.collect(), MARKERS[index % MARKERS.len()]);
        items.push(Item::new(Color::nth(index), shape).labelled(variant.name));
    }
    let ends = vec![(0.5, 1.0), (results[0].len() as f64 + 0.5, 1.0)];
    items.push(Item::new(Color::Black, Shape::DashedLine(ends)).labelled("tuned Adam"));
    let names: Vec<String> = results[0]
        .iter()
        .enumerate()
        .map(|(index, task)| format!("{} {}", index + 1, task.task))
        .collect();
    Figure {
        title: title.to_owned(),
        caption: format!("{what}, by task: {}.", names.join(", ")),
        panels: vec![Panel {
            title: String::new(),
            x: Axis::linear("task").within(0.5, results[0].len() as f64 + 0.5),
            y,
            items,
        }],
        columns: 1,
    }
}

/// C4.
pub fn generalises(lab: &mut Lab) -> Result<Report> {
    let results = evaluated(lab)?;
    let (table, mut criteria) = groups(&results);
    let [stars, star_runs] = diverged(out_of_distribution(&results[0]));
    let [blackboxes, blackbox_runs] = diverged(out_of_distribution(&results[2]));
    criteria.push((
        format!("no run of STAR diverges ({stars} of {star_runs})"),
        stars == 0,
    ));
    criteria.push((
        format!("runs of the blackbox diverge ({blackboxes} of {blackbox_runs})"),
        blackboxes > 0,
    ));
    Ok(Report {
        claim: "STAR generalises to other tasks, the blackbox diverges or falls behind".to_owned(),
        criteria,
        table,
        legend: legend(&results),
        figure: figure(
            "C4: other tasks",
            "Speed-up over tuned Adam, at most 2",
            Axis::linear("speed-up").within(0.0, 2.1),
            &results,
            |task| task.speed_up,
        ),
    })
}

/// C5.
pub fn comparable_to_adam(lab: &mut Lab) -> Result<Report> {
    let results = evaluated(lab)?;
    let mut header = vec!["task", "best Adam"];
    header.extend(VARIANTS.iter().map(|variant| variant.name));
    let mut table = new_table(&header, 1);
    for index in 0..results[0].len() {
        let first = &results[0][index];
        let mut row = vec![
            format!("{}: {}", first.group, first.task),
            format!("{:.4}", first.adam_final_loss),
        ];
        row.extend(results.iter().map(|tasks| {
            let task = &tasks[index];
            format!("{:.4} ({:.2})", task.final_loss, task.speed_up)
        }));
        table.add_row(row);
    }
    let mut criteria = vec![];
    for (variant, tasks) in VARIANTS.iter().zip(&results).take(2) {
        let name = variant.name;
        let found = speed_up(out_of_distribution(tasks));
        let text = format!(
            "{name}: speed-up out of distribution at least 1: {}",
            interval(found)
        );
        criteria.push((text, found.estimate >= 1.0));
        let own = &tasks[0];
        let text = format!(
            "{name}: final training loss on its own task below the best Adam's ({:.4} and {:.4})",
            own.final_loss, own.adam_final_loss
        );
        criteria.push((text, own.final_loss < own.adam_final_loss));
        let below = tasks
            .iter()
            .filter(|task| task.final_loss < task.adam_final_loss)
            .count();
        let text = format!(
            "{name}: sometimes better than Adam: {below} of {} tasks",
            tasks.len()
        );
        criteria.push((text, below > 0));
    }
    Ok(Report {
        claim: "STAR is comparable to Adam with a tuned learning rate, sometimes better".to_owned(),
        criteria,
        table,
        legend: format!("Final training loss (speed-up). {}", legend(&results)),
        figure: figure(
            "C5: tuned Adam",
            "Final training loss over that of tuned Adam",
            Axis::logarithmic("loss over tuned Adam's"),
            &results,
            |task| task.final_loss / task.adam_final_loss,
        ),
    })
}
