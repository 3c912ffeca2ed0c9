use lopt_tasks::suite;
use serde::{Deserialize, Serialize};

use crate::{Baseline, Settings, SpeedUp, stats::mean};

/// The outcome of one task of the suite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// The task.
    pub entry: suite::Entry,
    /// The results, or why there are none.
    pub outcome: Outcome,
}

/// The results of a task, or why there are none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The task was skipped because its data are missing.
    Skipped {
        /// Which data are missing and how to get them.
        reason: String,
    },
    /// The task was run.
    Done {
        /// The tuning of each baseline, in the order of the settings.
        tuned: Vec<Tuned>,
        /// The results of the contenders in the order of the settings, then of the tuned baselines.
        results: Vec<ContenderResult>,
        /// The number of images (or bytes of text) to train on and to test on.
        examples: [usize; 2],
    },
}

impl Outcome {
    /// The result of the contender or tuned baseline of this name, if the task was run with it.
    pub fn result(&self, name: &str) -> Option<&ContenderResult> {
        match self {
            Outcome::Skipped { .. } => None,
            Outcome::Done { results, .. } => results.iter().find(|result| result.name == name),
        }
    }

    /// Whether it is the outcome of a task that was run with these settings.
    pub(crate) fn fits(&self, settings: &Settings) -> bool {
        let Outcome::Done { tuned, results, .. } = self else {
            return false;
        };
        let baselines = settings.tuned.iter().map(|tuning| tuning.baseline);
        let contenders = settings.contenders.iter().map(|(name, _)| name.clone());
        let names = contenders.chain(baselines.clone().map(|baseline| baseline.name().to_owned()));
        let of_all_seeds = |losses: &[f64]| losses.len() as u64 == settings.seeds;
        tuned.iter().map(|tuned| tuned.baseline).eq(baselines)
            && results.iter().map(|result| result.name.clone()).eq(names)
            && results.iter().all(|result| {
                of_all_seeds(&result.final_losses)
                    && of_all_seeds(&result.mean_losses)
                    && of_all_seeds(&result.test_accuracies)
            })
    }
}

/// The tuning of a baseline on one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tuned {
    /// The baseline.
    pub baseline: Baseline,
    /// The learning rate with the lowest final training loss.
    pub learning_rate: f64,
    /// Each learning rate of the grid with its final training loss, the mean over seeds.
    pub grid: Vec<(f64, f64)>,
}

impl Tuned {
    /// Whether the best learning rate is the first or last of several. A longer grid might then
    /// have a better one.
    pub fn at_an_end(&self) -> bool {
        let ends = [self.grid.first(), self.grid.last()];
        let rates = ends.iter().flatten().map(|(rate, _)| *rate);
        self.grid.len() > 1 && rates.into_iter().any(|rate| rate == self.learning_rate)
    }
}

/// The results of one optimizer on one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContenderResult {
    /// The name of the optimizer.
    pub name: String,
    /// For each seed, the mean training loss of the last [`crate::final_window`] steps.
    pub final_losses: Vec<f64>,
    /// For each seed, the mean training loss of all steps.
    pub mean_losses: Vec<f64>,
    /// For each seed, the test accuracy after the last step.
    pub test_accuracies: Vec<f64>,
    /// The number of seeds whose run diverged (see [`crate::Curve::diverged`]).
    pub diverged: u64,
    /// The speed-up over tuned Adam; `None` for tuned baselines.
    pub speed_up: Option<SpeedUp>,
    /// The smoothed training loss: (step, mean over seeds, lowest, highest).
    pub curve: Vec<(u64, f64, f64, f64)>,
}

impl ContenderResult {
    /// The mean over seeds of the final training loss.
    pub fn final_loss(&self) -> f64 {
        mean(self.final_losses.iter().copied())
    }

    /// The mean over seeds of the mean training loss.
    pub fn mean_loss(&self) -> f64 {
        mean(self.mean_losses.iter().copied())
    }

    /// The mean over seeds of the test accuracy.
    pub fn test_accuracy(&self) -> f64 {
        mean(self.test_accuracies.iter().copied())
    }
}
