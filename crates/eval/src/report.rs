use std::path::Path;

use lopt_core::file;
use lopt_tasks::suite::Entry;

use crate::{
    ContenderResult, Outcome, Result, Summary, TaskReport, Tuned, evaluate::write_json, figures,
};

/// Writes `report.json`, `report.csv`, `losses.svg` (with tuned Adam only) and `curves/NNN-TASK.svg` to
/// `out`.
///
/// # Errors
/// Returns an error if a file cannot be written or a figure cannot be drawn.
pub fn write_reports(summary: &Summary, out: &Path) -> Result<()> {
    write_json(&out.join("report.json"), summary)?;
    file::write_atomically(&out.join("report.csv"), &csv(summary)?)?;
    if let Some(figure) = figures::losses(&summary.tasks) {
        figure.save(&out.join("losses.svg"))?;
    }
    let curves = out.join("curves");
    std::fs::create_dir_all(&curves).map_err(lopt_core::Error::io("create", &curves))?;
    for (index, task) in summary.tasks.iter().enumerate() {
        if let Some(figure) = figures::curves(task) {
            figure.save(&curves.join(format!("{index:03}-{}.svg", file_name(task))))?;
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
    "tuned_learning_rate",
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
            Outcome::Done { tuned, results, .. } => {
                for result in results {
                    write(numbers(result, tuned))?;
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
fn numbers(result: &ContenderResult, tuned: &[Tuned]) -> [String; 9] {
    let own = tuned.iter().find(|t| t.baseline.name() == result.name);
    let speed_up = result.speed_up.as_ref();
    [
        result.name.clone(),
        own.map_or_else(String::new, |tuned| tuned.learning_rate.to_string()),
        result.final_loss().to_string(),
        result.mean_loss().to_string(),
        result.test_accuracy().to_string(),
        result.diverged.to_string(),
        result.final_losses.len().to_string(),
        speed_up.map_or_else(String::new, |s| s.ratio.to_string()),
        speed_up.map_or_else(String::new, |s| s.never.to_string()),
    ]
}
