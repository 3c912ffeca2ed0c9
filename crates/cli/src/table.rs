//! The results of an evaluation on the terminal.

use std::collections::BTreeMap;

use lopt_eval::{
    ContenderResult, FINAL_PERCENT, GroupSummary, Outcome, Settings, SpeedUp, Summary, TaskReport,
    Tuned, Versus, stats::Interval,
};
use lopt_experiments::{Table, interval};
use lopt_tasks::suite::IN_DISTRIBUTION;

use crate::{common::count, output::paragraph};

/// Prints tables of the tasks and the groups that fit 80 columns, with explanations.
pub fn print(summary: &Summary) {
    let settings = &summary.settings;
    for task in &summary.tasks {
        if let Some(table) = of_task(&task.outcome) {
            println!("{}, {} steps", title(task), task.entry.horizon);
            println!("{table}\n");
        }
    }
    explain(&tasks_explanation(settings));
    println!("{}", groups(summary));
    explain(&groups_explanation(settings));
    if !settings.tuned.is_empty() {
        println!("{}", versus(summary, |versus| optional(versus.loss_ratio)));
        explain(
            "Final training loss over that of each tuned baseline: interquartile mean over tasks; \
             below 1 the optimizer is better.",
        );
        println!("{}", versus(summary, |versus| share(versus.share_below)));
        explain(
            "Share of tasks on which the mean final training loss is below that of each tuned \
             baseline. For the groups alone, see report.json.",
        );
    }
    let examples = summary.tasks.iter().filter_map(|task| match task.outcome {
        Outcome::Done { examples, .. } => Some((task.entry.task.data(), examples)),
        Outcome::Skipped { .. } => None,
    });
    for ((data, unit), [train, test]) in examples.collect::<BTreeMap<_, _>>() {
        let examples = format!("{data}: {train} {unit} to train on, {test} to test on");
        println!("{}", paragraph("", &examples));
    }
    for task in &summary.tasks {
        if let Outcome::Skipped { reason } = &task.outcome {
            let skipped = format!("{}: {reason}", title(task));
            println!("{}", paragraph("skipped ", &skipped));
        }
    }
}

/// What the columns of a task's table are.
pub fn tasks_explanation(settings: &Settings) -> String {
    let (seeds, horizons) = (settings.seeds, settings.adam_horizons);
    let all = format!(
        "final, mean: training loss of the last {FINAL_PERCENT} % of the steps, of all steps; mean over \
         {}. diverged: number of diverged runs, of {seeds}.",
        count(seeds, "seed"),
    );
    if settings.tuned.is_empty() {
        return all;
    }
    format!(
        "{all} speed-up: steps that tuned Adam needs to reach the optimizer's final training loss, over \
         the optimizer's steps; ≥{horizons}: Adam does not reach it in {horizons} times the steps. Tuned \
         baselines use the learning rate with the lowest final loss on each task ({}); *: at an end of \
         the grid. adamw: weight decay 0.01, warm-up over 5 % of the steps, cosine decay. sgd: momentum \
         0.9, cosine decay.",
        grids(settings),
    )
}

/// What the columns of a group's table are.
pub fn groups_explanation(settings: &Settings) -> String {
    let all = "diverged: number of diverged training runs, of all.";
    if settings.tuned.is_empty() {
        return all.to_owned();
    }
    let cap = SpeedUp::CAP;
    format!(
        "speed-up over tuned Adam: interquartile mean over the tasks of a group. at most {cap}: larger \
         ones count as {cap}. ≥: a lower bound, because Adam never reaches the loss on some tasks. {all} \
         […]: 95 % bootstrap intervals over the seeds of each task; none with one seed.",
    )
}

/// Prints an explanation below a table.
fn explain(text: &str) {
    println!("{}\n", paragraph("", text));
}

/// The title of a task. The one that the others of a suite vary need not be the task of
/// meta-training of these θ.
pub fn title(task: &TaskReport) -> String {
    match task.entry.group == IN_DISTRIBUTION {
        true => BASE.to_owned(),
        false => task.entry.title(),
    }
}

/// The task that the others of a suite vary.
const BASE: &str = "base task";

/// A row for each optimizer.
fn of_task(outcome: &Outcome) -> Option<Table> {
    let Outcome::Done { tuned, results, .. } = outcome else {
        return None;
    };
    let header = [
        "optimizer",
        "final",
        "mean",
        "test accuracy",
        "diverged",
        "speed-up",
    ];
    let columns = header.len() - usize::from(tuned.is_empty());
    let mut table = Table::new(header.into_iter().take(columns), 1);
    for result in results {
        let row = [optimizer(result, tuned)].into_iter();
        table.row(row.chain(numbers(result)).take(columns));
    }
    Some(table)
}

/// The name of an optimizer, with its learning rate if that is tuned.
pub fn optimizer(result: &ContenderResult, tuned: &[Tuned]) -> String {
    let own = tuned.iter().find(|t| t.baseline.name() == result.name);
    match own {
        Some(tuned) => {
            let end = if tuned.at_an_end() { "*" } else { "" };
            format!("{} {:e}{end}", result.name, tuned.learning_rate)
        }
        None => result.name.clone(),
    }
}

/// The cells of a result, from `final` to `speed-up`.
pub fn numbers(result: &ContenderResult) -> Vec<String> {
    let speed_up = match &result.speed_up {
        None => String::new(),
        Some(SpeedUp { ratio, never, .. }) => lower_bound(*never, format!("{ratio:.2}")),
    };
    vec![
        format!("{:.4}", result.final_loss()),
        format!("{:.4}", result.mean_loss()),
        format!("{:.1} %", 100.0 * result.test_accuracy()),
        result.diverged.to_string(),
        speed_up,
    ]
}

/// A text with a sign if it is a lower bound.
fn lower_bound(is_bound: bool, text: String) -> String {
    match is_bound {
        true => format!("≥{text}"),
        false => text,
    }
}

/// How many learning rates each tuned baseline has, such as "adam: 15, sgd: 8".
fn grids(settings: &Settings) -> String {
    let tuned = settings.tuned.iter();
    let sizes = tuned.map(|t| format!("{}: {}", t.baseline.name(), t.grid.len()));
    sizes.collect::<Vec<_>>().join(", ")
}

/// An interval, if there is one.
pub fn optional(found: Option<Interval>) -> String {
    found.map_or_else(|| "–".to_owned(), interval)
}

/// A share in percent, such as "33 % [0, 67]".
pub fn share(found: Option<Interval>) -> String {
    let percent = |share: f64| format!("{:.0}", 100.0 * share);
    found.map_or_else(
        || "–".to_owned(),
        |Interval { estimate, bounds }| match bounds {
            Some([low, high]) => {
                let (low, high) = (percent(low), percent(high));
                format!("{} % [{low}, {high}]", percent(estimate))
            }
            None => format!("{} %", percent(estimate)),
        },
    )
}

/// The speed-up of an optimizer in a group.
pub fn speed_up(of: &GroupSummary) -> String {
    lower_bound(of.unmatched > 0, optional(of.speed_up))
}

/// The training runs of an optimizer in a group that diverged.
pub fn diverged(of: &GroupSummary) -> String {
    format!("{}/{}", of.diverged, of.runs)
}

/// A row with the name of each group, and one for each optimizer in it.
fn groups(summary: &Summary) -> Table {
    let capped = format!("at most {}", SpeedUp::CAP);
    let header = ["optimizer", "diverged", "speed-up", &capped];
    let columns = header.len() - 2 * usize::from(summary.settings.tuned.is_empty());
    let mut table = Table::new(header.into_iter().take(columns), 1);
    let mut last = "";
    let tasks = |group: &str| {
        let of_group = summary.groups.iter().find(|of| of.group == group);
        of_group.map(|of| of.tasks)
    };
    let no_base = tasks(GroupSummary::ALL) == tasks(GroupSummary::ALL_BUT_BASE);
    for of in &summary.groups {
        if no_base && of.group == GroupSummary::ALL_BUT_BASE {
            continue;
        }
        if of.group != last {
            let name = match of.group == IN_DISTRIBUTION {
                true => BASE,
                false => &of.group,
            };
            let blank = std::iter::repeat_n(String::new(), columns - 1);
            let name = format!("{name} ({})", of.tasks);
            table.row([name].into_iter().chain(blank));
            last = &of.group;
        }
        let row = [
            format!("  {}", of.contender),
            diverged(of),
            speed_up(of),
            optional(of.capped_speed_up),
        ];
        table.row(row.into_iter().take(columns));
    }
    table
}

/// A cell for each optimizer and tuned baseline, over all tasks but the base task, or over all if
/// there is no other.
fn versus(summary: &Summary, text: impl Fn(&Versus) -> String) -> Table {
    let baselines = summary.settings.tuned.iter();
    let baselines = baselines.map(|tuning| format!("tuned {}", tuning.baseline.name()));
    let mut table = Table::new(["optimizer".to_owned()].into_iter().chain(baselines), 1);
    let others = GroupSummary::ALL_BUT_BASE;
    let name = match summary.groups.iter().any(|of| of.group == others) {
        true => others,
        false => GroupSummary::ALL,
    };
    for of in summary.groups.iter().filter(|of| of.group == name) {
        let numbers = of.versus.iter().map(&text);
        table.row([of.contender.clone()].into_iter().chain(numbers));
    }
    table
}
