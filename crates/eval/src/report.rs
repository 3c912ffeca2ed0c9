use std::path::Path;

use lopt_core::file;
use lopt_tasks::suite::{Entry, IN_DISTRIBUTION};
use serde::Serialize;

use crate::{
    ADAM, ContenderResult, Outcome, Result, Settings, TaskReport,
    evaluate::write_json,
    plot,
    stats::{Interval, bootstrap_interquartile_mean},
};

/// The results of one contender over the tasks of a group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupSummary {
    /// A group of the suite, `out of distribution` or `all`.
    pub group: String,
    /// The name of the contender.
    pub contender: String,
    /// Number of tasks that were run.
    pub tasks: usize,
    /// Interquartile mean over tasks of the speed-up over tuned Adam, with its bootstrap
    /// interval. Tasks on which Adam never reaches the final loss enter with the lower bound 2.
    pub speed_up: Option<Interval>,
    /// Number of tasks on which Adam does not reach the contender's final loss in twice the
    /// horizon.
    pub adam_never: usize,
    /// Number of tasks on which the contender's final training loss is below tuned Adam's.
    pub better_than_adam: usize,
    /// Number of training runs that diverged.
    pub diverged: u64,
    /// Number of training runs.
    pub runs: u64,
}

/// The results of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The settings of the evaluation.
    pub settings: Settings,
    /// Each contender in each group, then over all tasks out of distribution, then over all tasks.
    pub groups: Vec<GroupSummary>,
    /// The result of each task.
    pub tasks: Vec<TaskReport>,
}

impl Summary {
    /// Summarizes the results of each contender in each group.
    pub fn new(settings: Settings, tasks: Vec<TaskReport>) -> Self {
        let mut names: Vec<String> = tasks.iter().map(|task| task.entry.group.clone()).collect();
        names.dedup();
        let mut groups = vec![];
        let mut add = |group: &str, belongs: &dyn Fn(&str) -> bool| {
            let of_group: Vec<_> = tasks
                .iter()
                .filter(|task| belongs(&task.entry.group))
                .collect();
            let summaries = settings
                .contenders
                .iter()
                .map(|(contender, _)| summarize(group, contender, &of_group));
            groups.extend(summaries.filter(|summary| summary.tasks > 0));
        };
        for name in &names {
            add(name, &|group| group == name);
        }
        add("out of distribution", &|group| group != IN_DISTRIBUTION);
        add("all", &|_| true);
        Self {
            settings,
            groups,
            tasks,
        }
    }
}

fn summarize(group: &str, contender: &str, tasks: &[&TaskReport]) -> GroupSummary {
    let pairs: Vec<(&ContenderResult, &ContenderResult)> = tasks
        .iter()
        .filter_map(|task| pair(task, contender))
        .collect();
    let speed_ups: Vec<_> = pairs
        .iter()
        .filter_map(|(result, _)| result.speed_up)
        .collect();
    let ratios: Vec<f64> = speed_ups.iter().map(|speed_up| speed_up.ratio).collect();
    GroupSummary {
        group: group.to_owned(),
        contender: contender.to_owned(),
        tasks: pairs.len(),
        speed_up: bootstrap_interquartile_mean(&ratios),
        adam_never: speed_ups.iter().filter(|speed_up| speed_up.never).count(),
        better_than_adam: pairs
            .iter()
            .filter(|(result, adam)| result.final_loss() < adam.final_loss())
            .count(),
        diverged: pairs.iter().map(|(result, _)| result.diverged).sum(),
        runs: pairs
            .iter()
            .map(|(result, _)| result.final_losses.len() as u64)
            .sum(),
    }
}

/// The results of a contender and of Adam on a task, if the task was run.
fn pair<'a>(
    task: &'a TaskReport,
    contender: &str,
) -> Option<(&'a ContenderResult, &'a ContenderResult)> {
    let Outcome::Done { results, .. } = &task.outcome else {
        return None;
    };
    let of = |name: &str| results.iter().find(|result| result.name == name);
    Some((of(contender)?, of(ADAM)?))
}

/// Writes `report.json`, `report.csv` and `curves/NNN.svg` to `out`.
///
/// # Errors
/// Returns an error if a file cannot be written or a figure cannot be drawn.
pub fn write_reports(summary: &Summary, out: &Path) -> Result<()> {
    write_json(&out.join("report.json"), summary)?;
    file::write_atomically(&out.join("report.csv"), &csv(summary)?)?;
    let curves = out.join("curves");
    std::fs::create_dir_all(&curves).map_err(lopt_core::Error::io("create", &curves))?;
    for (index, task) in summary.tasks.iter().enumerate() {
        if let Outcome::Done {
            adam_learning_rate,
            results,
            ..
        } = &task.outcome
        {
            let path = curves.join(format!("{index:03}-{}.svg", file_name(task)));
            plot::curves(&path, &task.entry, *adam_learning_rate, results)?;
        }
    }
    Ok(())
}

/// The name of the task with only letters, digits and dashes.
fn file_name(task: &TaskReport) -> String {
    let name = format!("{}-{}", task.entry.group, task.entry.name).replace('×', "x");
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect()
}

/// The columns of `report.csv`.
const COLUMNS: [&str; 16] = [
    "group",
    "task",
    "data",
    "image_size",
    "network",
    "batch_size",
    "horizon",
    "optimizer",
    "adam_learning_rate",
    "final_loss",
    "mean_loss",
    "test_accuracy",
    "diverged",
    "seeds",
    "speed_up",
    "adam_never",
];

/// A row for each task and optimizer; a skipped task has one row.
fn csv(summary: &Summary) -> Result<Vec<u8>> {
    let mut csv = csv::Writer::from_writer(vec![]);
    csv.write_record(COLUMNS)?;
    for task in &summary.tasks {
        let start = described(&task.entry);
        let mut write = |rest: [String; 9]| csv.write_record(start.iter().chain(&rest));
        match &task.outcome {
            Outcome::Skipped { .. } => {
                let mut rest = [const { String::new() }; 9];
                "skipped".clone_into(&mut rest[0]);
                write(rest)?;
            }
            Outcome::Done {
                adam_learning_rate,
                results,
                ..
            } => {
                for result in results {
                    write(numbers(result, *adam_learning_rate))?;
                }
            }
        }
    }
    let bytes = csv.into_inner();
    Ok(bytes.map_err(|error| csv::Error::from(error.into_error()))?)
}

/// The columns from `group` to `horizon`.
fn described(entry: &Entry) -> [String; 7] {
    let (data, _) = entry.task.data();
    let size = entry.task.image_size();
    [
        entry.group.clone(),
        entry.name.clone(),
        data,
        size.map_or_else(String::new, |size| size.to_string()),
        entry.task.network(),
        entry.task.batch_size().to_string(),
        entry.horizon.to_string(),
    ]
}

/// The columns from `optimizer` to `adam_never`.
fn numbers(result: &ContenderResult, adam_learning_rate: f64) -> [String; 9] {
    let adam = (result.name == ADAM).then_some(adam_learning_rate);
    let speed_up = result.speed_up;
    [
        result.name.clone(),
        adam.map_or_else(String::new, |rate| rate.to_string()),
        result.final_loss().to_string(),
        result.mean_loss().to_string(),
        result.test_accuracy().to_string(),
        result.diverged.to_string(),
        result.final_losses.len().to_string(),
        speed_up.map_or_else(String::new, |s| s.ratio.to_string()),
        speed_up.map_or_else(String::new, |s| s.never.to_string()),
    ]
}
