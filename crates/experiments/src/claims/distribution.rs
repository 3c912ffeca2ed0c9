//! C4 and C5: other tasks, and Adam.

use lopt_eval::{
    ContenderResult, SpeedUp,
    stats::{Interval, bootstrap_interquartile_mean, mean},
};
use lopt_plot::{Axis, Color, Figure, Item, Marker, Shape};
use lopt_tasks::suite::{IN_DISTRIBUTION, Suite, title};

use super::{
    Claim, Criterion, Report,
    compared::{self, Compared},
    spread::Diverged,
};
use crate::{
    Lab, Result, Table, Variant, interval,
    lab::{EVALUATION_SEEDS, Evaluated},
};

/// An optimizer on one task, over all its meta-training seeds.
pub struct Pooled {
    pub group: String,
    pub task: String,
    /// Mean over meta-training seeds.
    pub speed_up: f64,
    /// Mean over meta-training seeds.
    pub final_loss: f64,
    pub adam_final_loss: f64,
    pub diverged: Diverged,
}

impl Pooled {
    /// The results of a variant on a task.
    pub fn new(task: &Evaluated, variant: &Variant) -> Self {
        let of_variant = task.results.iter().filter(|r| r.variant == variant);
        let results: Vec<&ContenderResult> = of_variant.map(|r| &r.result).collect();
        let mean_of = |value: &dyn Fn(&ContenderResult) -> f64| {
            mean(results.iter().map(|result| value(result)))
        };
        Self {
            group: task.entry.group.clone(),
            task: task.entry.name.clone(),
            speed_up: mean_of(&|r| r.speed_up.as_ref().map_or(f64::NAN, SpeedUp::capped)),
            final_loss: mean_of(&ContenderResult::final_loss),
            adam_final_loss: task.adam.final_loss(),
            diverged: Diverged {
                diverged: results.iter().map(|r| r.diverged).sum(),
                runs: results.iter().map(|r| r.final_losses.len() as u64).sum(),
            },
        }
    }

    fn below_adam(&self) -> bool {
        self.final_loss < self.adam_final_loss
    }
}

/// The interquartile mean over tasks of the speed-up over tuned Adam.
pub fn speed_up<'a>(tasks: impl IntoIterator<Item = &'a Pooled>) -> Interval {
    let ratios: Vec<f64> = tasks.into_iter().map(|task| task.speed_up).collect();
    bootstrap_interquartile_mean(&ratios).unwrap_or(Interval {
        estimate: f64::NAN,
        bounds: None,
    })
}

/// The training runs on all these tasks that diverged.
pub fn diverged<'a>(tasks: impl IntoIterator<Item = &'a Pooled>) -> Diverged {
    tasks.into_iter().map(|task| task.diverged).sum()
}

/// The name of all groups but the one in distribution.
const OUT: &str = "out of distribution";

/// The compared optimizers on the quick suite and beyond MLPs, by task.
fn evaluated(lab: &mut Lab) -> Result<Vec<Compared<Pooled>>> {
    let runs = compared::runs(lab)?;
    let all: Vec<_> = runs.named().map(|(_, runs)| runs.clone()).concat();
    let mut tasks = lab.evaluate(Suite::Quick, &[], EVALUATION_SEEDS, &all)?;
    // These take a hundred times as long.
    tasks.extend(lab.evaluate(Suite::BeyondMlps, &[], 1, &all)?);
    let variants = compared::variants();
    let pooled = |task: &Evaluated| variants.map(|variant| Pooled::new(task, variant));
    Ok(tasks.iter().map(pooled).collect())
}

/// The results of each optimizer, by task.
fn by_optimizer<'a>(
    tasks: impl IntoIterator<Item = &'a Compared<Pooled>>,
) -> Compared<Vec<&'a Pooled>> {
    let mut all = Compared {
        star: vec![],
        paper_star: vec![],
        blackbox: vec![],
    };
    for task in tasks {
        all.star.push(&task.star);
        all.paper_star.push(&task.paper_star);
        all.blackbox.push(&task.blackbox);
    }
    all
}

fn out_of_distribution<'a>(tasks: &[&'a Pooled]) -> impl Iterator<Item = &'a Pooled> {
    let out = |task: &&Pooled| task.group != IN_DISTRIBUTION;
    tasks.iter().copied().filter(out)
}

/// A row for each group and for all tasks out of distribution, and whether the blackbox diverges or
/// falls behind STAR in each.
fn groups(tasks: &[Compared<Pooled>]) -> (Table, Vec<Criterion>) {
    let header = [
        "group",
        "tasks",
        "optimizer",
        "speed-up over tuned Adam",
        "below Adam",
        "below the blackbox",
        "diverged",
    ];
    let mut table = Table::new(header, 3);
    let mut names: Vec<&str> = tasks.iter().map(|task| &*task.star.group).collect();
    names.dedup();
    names.push(OUT);
    let mut ahead = vec![];
    for group in names {
        let belongs = |task: &&Compared<Pooled>| match group {
            OUT => task.star.group != IN_DISTRIBUTION,
            group => task.star.group == group,
        };
        let results = by_optimizer(tasks.iter().filter(belongs));
        for (index, (name, of)) in results.named().into_iter().enumerate() {
            let once = |text: String| if index == 0 { text } else { String::new() };
            let pairs = of.iter().zip(&results.blackbox);
            let below = pairs.filter(|(ours, blackbox)| ours.final_loss < blackbox.final_loss);
            table.row([
                once(group.to_owned()),
                once(of.len().to_string()),
                name.to_owned(),
                interval(speed_up(of.iter().copied())),
                of.iter()
                    .filter(|task| task.below_adam())
                    .count()
                    .to_string(),
                below.count().to_string(),
                diverged(of.iter().copied()).to_string(),
            ]);
        }
        if group != IN_DISTRIBUTION {
            let of = |tasks: &[&Pooled]| speed_up(tasks.iter().copied()).estimate;
            let (star, blackbox) = (of(&results.star), of(&results.blackbox));
            let ours = diverged(results.star.iter().copied()).diverged;
            let Diverged { diverged, runs } = diverged(results.blackbox.iter().copied());
            let text = format!(
                "{group}: STAR's speed-up is above the blackbox's ({star:.2} and {blackbox:.2}), or \
                 more runs of the blackbox diverge ({ours} and {diverged} of {runs})"
            );
            ahead.push(Criterion::new(text, star > blackbox || diverged > ours));
        }
    }
    (table, ahead)
}

fn legend(seeds: u64) -> String {
    format!(
        "Speed-up: steps that tuned Adam (the best final loss of its grid on the task) needs to \
         reach the optimizer's final training loss, over the optimizer's; at most 2. Means over \
         {seeds} meta-training seeds and {EVALUATION_SEEDS} fresh networks (group architecture: \
         1); interquartile mean over tasks, from 5 on with a 95 % bootstrap interval."
    )
}

/// A row for each task, a marker for each optimizer; tuned Adam is at 1.
fn figure(
    title_of_figure: &str,
    what: &str,
    x: Axis,
    tasks: &[Compared<Pooled>],
    value: impl Fn(&Pooled) -> f64,
) -> Figure {
    const MARKERS: [Marker; 3] = [Marker::Circle, Marker::Square, Marker::Triangle];
    let results = by_optimizer(tasks);
    let names = tasks
        .iter()
        .map(|task| title(&task.star.group, &task.star.task));
    let rows = Axis::of_rows(names.collect());
    let mut items = vec![];
    for (index, (name, of)) in results.named().into_iter().enumerate() {
        let points = of.iter().enumerate();
        let points = points.map(|(task, t)| (value(t), rows.row(task)));
        let shape = Shape::Points(points.collect(), MARKERS[index % MARKERS.len()]);
        items.push(Item::new(Color::nth(index), shape).labelled(name));
    }
    let adam = rows.line_at(1.0);
    items.push(Item::new(Color::Black, adam).labelled("tuned Adam"));
    Figure::single(title_of_figure, format!("{what}."), x, rows, items)
}

/// C4.
pub fn generalises(lab: &mut Lab) -> Result<Report> {
    let tasks = evaluated(lab)?;
    let results = by_optimizer(&tasks);
    let (table, mut criteria) = groups(&tasks);
    let Diverged { diverged, runs } = diverged(out_of_distribution(&results.star));
    criteria.push(Criterion::new(
        format!("no run of STAR diverges ({diverged} of {runs})"),
        diverged == 0,
    ));
    Ok(Report {
        claim: Claim::C4,
        criteria,
        table,
        legend: format!(
            "{} Below: tasks with a lower final training loss.",
            legend(lab.seeds)
        ),
        figure: figure(
            "C4: other tasks",
            "Speed-up over tuned Adam, at most 2",
            Axis::linear("speed-up").within(0.0, 2.1),
            &tasks,
            |task| task.speed_up,
        ),
    })
}

/// C5.
pub fn comparable_to_adam(lab: &mut Lab) -> Result<Report> {
    let tasks = evaluated(lab)?;
    let results = by_optimizer(&tasks);
    let mut header = vec!["task", "best Adam"];
    header.extend(results.named().map(|(name, _)| name));
    let mut table = Table::new(header, 1);
    for task in &tasks {
        let any = &task.star;
        let mut row = vec![
            format!("{}: {}", any.group, any.task),
            format!("{:.4}", any.adam_final_loss),
        ];
        row.extend(
            task.named()
                .map(|(_, of)| format!("{:.4} ({:.2})", of.final_loss, of.speed_up)),
        );
        table.row(row);
    }
    let mut criteria = vec![];
    for (name, of) in results.stars() {
        let found = speed_up(out_of_distribution(of));
        let text = format!(
            "{name}: speed-up out of distribution at least 1: {}",
            interval(found)
        );
        criteria.push(Criterion::new(text, found.estimate >= 1.0));
        for own in of.iter().filter(|task| task.group == IN_DISTRIBUTION) {
            let text = format!(
                "{name}: final training loss on its own task below the best Adam's ({:.4} and \
                 {:.4})",
                own.final_loss, own.adam_final_loss
            );
            criteria.push(Criterion::new(text, own.below_adam()));
        }
        let below = of.iter().filter(|task| task.below_adam()).count();
        let text = format!(
            "{name}: sometimes better than Adam: {below} of {} tasks",
            of.len()
        );
        criteria.push(Criterion::new(text, below > 0));
    }
    Ok(Report {
        claim: Claim::C5,
        criteria,
        table,
        legend: format!("Final training loss (speed-up). {}", legend(lab.seeds)),
        figure: figure(
            "C5: tuned Adam",
            "Final training loss over that of tuned Adam",
            Axis::logarithmic("loss over tuned Adam's"),
            &tasks,
            |task| task.final_loss / task.adam_final_loss,
        ),
    })
}
