use std::{fmt::Write, path::Path};

use lopt_core::file;
use lopt_tasks::suite::IN_DISTRIBUTION;
use serde::Serialize;

use crate::{
    ADAM, ContenderResult, Outcome, Result, Settings, TaskReport,
    evaluate::write_json,
    plot,
    stats::{Interval, bootstrap_interquartile_mean},
};

/// One contender across tasks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupSummary {
    /// A group of the suite, `out of distribution` or `all`.
    pub group: String,
    /// The contender.
    pub contender: String,
    /// Tasks that were run.
    pub tasks: usize,
    /// Interquartile mean over tasks of the speed-up over tuned Adam, with its bootstrap
    /// interval over tasks. Where Adam never got there the lower bound 2 counts.
    pub speed_up: Option<Interval>,
    /// Tasks where Adam did not reach the contender's final loss in twice the horizon.
    pub adam_never: usize,
    /// Tasks where the contender's final training loss is below tuned Adam's.
    pub better_than_adam: usize,
    /// Training runs that diverged.
    pub diverged: u64,
    /// Training runs.
    pub runs: u64,
}

/// All of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// What was evaluated.
    pub settings: Settings,
    /// Each contender in each group, then out of distribution, then over all tasks.
    pub groups: Vec<GroupSummary>,
    /// Each task.
    pub tasks: Vec<TaskReport>,
}

impl Summary {
    /// Compares the contenders.
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

/// A contender's result and Adam's on the same task, if it was run.
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
/// If a file cannot be written.
pub fn write_reports(summary: &Summary, out: &Path) -> Result<()> {
    write_json(&out.join("report.json"), summary)?;
    file::write_atomically(&out.join("report.csv"), csv(summary).as_bytes())?;
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

/// Letters, digits and dashes of the task's name.
fn file_name(task: &TaskReport) -> String {
    let name = format!("{}-{}", task.entry.group, task.entry.name).replace('×', "x");
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect()
}

/// A line for each task and optimizer.
fn csv(summary: &Summary) -> String {
    let mut csv = "group,task,data,image_size,network,batch_size,horizon,optimizer,\
                   adam_learning_rate,final_loss,mean_loss,test_accuracy,diverged,seeds,speed_up,\
                   adam_never\n"
        .to_owned();
    for task in &summary.tasks {
        let entry = &task.entry;
        let (data, _) = entry.task.data();
        let start = format!(
            "{},{},{data},{},{},{},{}",
            entry.group,
            entry.name,
            entry
                .task
                .image_size()
                .map_or_else(String::new, |size| size.to_string()),
            entry.task.network(),
            entry.task.batch_size(),
            entry.horizon
        );
        let Outcome::Done {
            adam_learning_rate,
            results,
            ..
        } = &task.outcome
        else {
            let _ = writeln!(csv, "{start},skipped,,,,,,,,");
            continue;
        };
        for result in results {
            let (ratio, never) = result.speed_up.map_or((String::new(), String::new()), |s| {
                (s.ratio.to_string(), s.never.to_string())
            });
            let rate = if result.name == ADAM {
                adam_learning_rate.to_string()
            } else {
                String::new()
            };
            let _ = writeln!(
                csv,
                "{start},{},{rate},{},{},{},{},{},{ratio},{never}",
                result.name,
                result.final_loss(),
                result.mean_loss(),
                result.test_accuracy(),
                result.diverged,
                result.final_losses.len(),
            );
        }
    }
    csv
}
