use std::{fmt, fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::same_files;

/// A second's meta-training that writes a checkpoint after each outer step.
const TINY: [&str; 10] = [
    "outer.steps=30",
    "estimator.tasks=3",
    "estimator.horizon.steps=14",
    "held-out.every=4",
    "held-out.unrolls=2",
    "held-out.horizon=12",
    "checkpoint.every=1",
    "checkpoint.keep=3",
    "task.batch-size=[8]",
    "task.hidden=[[5], [3, 4]]",
];

/// Tasks whose training runs take long enough to be kept.
const EVALUATION: [&str; 9] = [
    "eval-ood",
    "--suite",
    "quick",
    "--group",
    "horizon",
    "--seeds",
    "1",
    "--adam-learning-rate",
    "1e-3",
];

/// What is killed.
#[derive(Clone, PartialEq)]
pub enum Work {
    /// A meta-training with an estimator and an optimizer.
    MetaTraining(&'static str, &'static str),
    /// An evaluation.
    Evaluation,
}

impl Work {
    /// The work of run `index`.
    pub fn of(index: u64) -> Self {
        if index % 50 == 49 {
            return Self::Evaluation;
        }
        let estimators = ["pes", "es", "full-es", "backprop"];
        let optimizers = ["star", "blackbox"];
        Self::MetaTraining(
            estimators[index as usize % 4],
            optimizers[index as usize / 4 % 2],
        )
    }

    /// The arguments that start it in `out`, or resume it there.
    pub fn arguments(&self, out: &Path) -> Vec<String> {
        let out_text = out.display().to_string();
        let strings = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let Self::MetaTraining(estimator, optimizer) = self else {
            return [strings(&EVALUATION), vec!["--out".into(), out_text]].concat();
        };
        if out.join(self.settings_file()).exists() {
            return strings(&["meta-train", "--resume", &out_text]);
        }
        let mut arguments = strings(&[
            "meta-train",
            "--run-dir",
            &out_text,
            "--estimator",
            estimator,
            "--optimizer",
            optimizer,
        ]);
        // Whole unrolls have no truncation.
        let truncation = (*estimator != "full-es" && *estimator != "backprop")
            .then_some("estimator.truncation=6");
        for setting in TINY.into_iter().chain(truncation) {
            arguments.extend(strings(&["--set", setting]));
        }
        arguments
    }

    /// The file whose existence makes a folder one of this work.
    pub fn settings_file(&self) -> &'static str {
        match self {
            Self::MetaTraining(..) => "config.toml",
            Self::Evaluation => "settings.json",
        }
    }

    /// Compares the results in two folders.
    pub fn compare(&self, reference: &Path, out: &Path) -> Result<()> {
        match self {
            Self::MetaTraining(..) => {
                // An evaluation has no lock, so it cannot tell such a file from one being written.
                ensure!(unfinished(out) == 0, "an unfinished file is left");
                same_files(reference, out, &["theta.safetensors", "best.safetensors"])?;
                ensure!(metrics(reference)? == metrics(out)?, "the metrics differ");
                let checkpoints = names(&reference.join("checkpoints"));
                // Killed before the oldest was removed, a complete run keeps it.
                ensure!(
                    names(&out.join("checkpoints")).ends_with(&checkpoints),
                    "other checkpoints"
                );
                let checkpoints: Vec<&str> = checkpoints.iter().map(String::as_str).collect();
                same_files(
                    &reference.join("checkpoints"),
                    &out.join("checkpoints"),
                    &checkpoints,
                )
            }
            Self::Evaluation => {
                same_files(
                    reference,
                    out,
                    &["report.json", "report.csv", "settings.json"],
                )?;
                let tasks = names(&reference.join("tasks"));
                let tasks: Vec<&str> = tasks.iter().map(String::as_str).collect();
                same_files(&reference.join("tasks"), &out.join("tasks"), &tasks)?;
                // Whether a run is kept depends on how long it took.
                let kept = names(&out.join("runs"));
                let both = kept
                    .iter()
                    .filter(|name| reference.join("runs").join(name).exists());
                let both: Vec<&str> = both.map(String::as_str).collect();
                same_files(&reference.join("runs"), &out.join("runs"), &both)
            }
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MetaTraining(estimator, optimizer) => write!(f, "{optimizer} by {estimator}"),
            Self::Evaluation => f.write_str("an evaluation"),
        }
    }
}

/// The metrics without the times.
fn metrics(run: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).context("no metrics")?;
    let parse = |line: &str| {
        let mut metrics: Value = serde_json::from_str(line)?;
        if let Some(metrics) = metrics.as_object_mut() {
            metrics.remove("seconds");
        }
        Ok(metrics)
    };
    text.lines().map(parse).collect()
}

/// The names of the files in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// How many files in a folder and those below it are being written.
pub fn unfinished(out: &Path) -> usize {
    let folders = ["", "checkpoints", "runs", "tasks"];
    let names = folders.iter().flat_map(|folder| names(&out.join(folder)));
    names.filter(|name| name.ends_with(".unfinished")).count()
}
