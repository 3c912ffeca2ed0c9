use std::{
    fs,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use candle_core::Device;
use lopt_adam::GRID;
use lopt_core::{LearnedOptimizer, Optimizer, Workers, file};
use lopt_tasks::{DataStore, LoadedTask, Task, suite};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    Error, Result,
    compare::adams,
    stats::mean,
    train::{Curve, check_seeds, final_window, for_all, train},
};

/// The name of the tuned baseline in reports.
pub const ADAM: &str = "adam";

/// Adam is run at its best learning rate for this many horizons, to find when it reaches the final
/// loss of another optimizer.
const ADAM_HORIZONS: u64 = 2;
/// Maximum number of points of a curve in a report.
const CURVE_POINTS: usize = 200;

/// An optimizer to evaluate.
pub struct Contender {
    /// The name in reports.
    pub name: String,
    /// The optimizer.
    pub optimizer: Arc<dyn Optimizer>,
    /// Everything that determines the optimizer; part of the settings.
    pub identity: Value,
}

impl Contender {
    /// A learned optimizer, identified by its configuration, learning rate, provenance and θ.
    pub fn learned(name: &str, optimizer: Arc<dyn LearnedOptimizer>) -> Self {
        let theta = optimizer.theta();
        let identity = json!({
            "configuration": theta.config(),
            "learning-rate": optimizer.learning_rate(),
            "provenance": theta.provenance(),
            "theta": theta.values(),
        });
        Self {
            name: name.to_owned(),
            optimizer,
            identity,
        }
    }
}

/// The settings of an evaluation. Results of different settings are never mixed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The suite of tasks.
    pub suite: suite::Suite,
    /// The groups of the suite to evaluate; all groups if empty.
    pub groups: Vec<String>,
    /// The number of seeds 0, 1, … for each task and optimizer.
    pub seeds: u64,
    /// The learning rates of Adam.
    pub grid: Vec<f64>,
    /// Version and commit of the program.
    pub program: String,
    /// The name and identity of each contender.
    pub contenders: Vec<(String, Value)>,
}

impl Settings {
    /// Settings for all groups of the suite and Adam's whole grid.
    pub fn new(suite: suite::Suite, seeds: u64, program: String, contenders: &[Contender]) -> Self {
        Self {
            suite,
            groups: vec![],
            seeds,
            grid: GRID.to_vec(),
            program,
            contenders: contenders
                .iter()
                .map(|c| (c.name.clone(), c.identity.clone()))
                .collect(),
        }
    }

    /// A folder name for the results: the suite and the start of the SHA-256 of the settings.
    pub fn folder_name(&self) -> String {
        let digest = Sha256::digest(json!(self).to_string());
        let short: String = digest[..4].iter().map(|b| format!("{b:02x}")).collect();
        format!("{}-{short}", self.suite.name())
    }

    fn entries(&self) -> Result<Vec<suite::Entry>> {
        let all = self.suite.entries();
        let known = |group: &&String| all.iter().any(|entry| entry.group == **group);
        if let Some(unknown) = self.groups.iter().find(|group| !known(group)) {
            let mut names: Vec<_> = all.iter().map(|entry| entry.group.as_str()).collect();
            names.dedup();
            return Err(Error::Settings(format!(
                "the suite has no group `{unknown}`; its groups are: {}",
                names.join(", ")
            )));
        }
        let chosen = all
            .into_iter()
            .filter(|entry| self.groups.is_empty() || self.groups.contains(&entry.group));
        Ok(chosen.collect())
    }
}

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
        /// The learning rate of Adam with the lowest final training loss.
        adam_learning_rate: f64,
        /// Each learning rate of the grid with its final training loss, the mean over seeds.
        adam_grid: Vec<(f64, f64)>,
        /// The results of the contenders in the order of the settings, then of tuned Adam.
        results: Vec<ContenderResult>,
        /// The number of images (or bytes of text) to train on and to test on.
        examples: [usize; 2],
    },
}

/// The results of one optimizer on one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContenderResult {
    /// The name of the optimizer.
    pub name: String,
    /// For each seed, the mean training loss of the last [`final_window`] steps.
    pub final_losses: Vec<f64>,
    /// For each seed, the mean training loss of all steps.
    pub mean_losses: Vec<f64>,
    /// For each seed, the test accuracy after the last step.
    pub test_accuracies: Vec<f64>,
    /// The number of seeds whose run diverged (see [`Curve::diverged`]).
    pub diverged: u64,
    /// The speed-up over tuned Adam; `None` for Adam itself.
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

/// The number of steps that tuned Adam needs to reach the optimizer's final training loss, divided
/// by the number of steps of the optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpeedUp {
    /// The ratio; above 1 the optimizer is faster than Adam.
    pub ratio: f64,
    /// Whether Adam does not reach the loss in twice the horizon; `ratio` is then 2, a lower bound.
    pub never: bool,
}

/// The progress of an evaluation.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The evaluation starts. It has this many training steps, some of which may already be done.
    Total(u64),
    /// This many training steps were taken or were already done.
    Steps(u64),
    /// A task is finished.
    Task(&'a TaskReport),
}

/// Evaluates the suite. Each finished task is saved in `out`, and the same call resumes after them
/// if it was interrupted.
///
/// # Errors
/// Returns an error if `out` holds results of other settings or cannot be written, or a task fails,
/// and [`Error::Stopped`] once `stop` is set.
#[expect(clippy::too_many_arguments, reason = "the cast of an evaluation")]
pub fn evaluate(
    settings: &Settings,
    contenders: &[Contender],
    store: &mut DataStore,
    device: &Device,
    workers: Workers,
    out: &Path,
    stop: &AtomicBool,
    observer: &(dyn Fn(Event) + Sync),
) -> Result<Vec<TaskReport>> {
    check_seeds(settings.seeds)?;
    let entries = settings.entries()?;
    claim(out, settings)?;
    let runs = settings.contenders.len() as u64 + settings.grid.len() as u64 + ADAM_HORIZONS;
    let cost = |entry: &suite::Entry| entry.horizon * settings.seeds * runs;
    observer(Event::Total(entries.iter().map(cost).sum()));
    let mut reports = vec![];
    for (index, entry) in entries.into_iter().enumerate() {
        let path = out.join("tasks").join(format!("{index:03}.json"));
        let total = cost(&entry);
        let report = match read_report(&path, &entry)? {
            Some(report) => {
                observer(Event::Steps(total));
                report
            }
            None => {
                let report = match entry.task.load(store, device) {
                    Err(error) if error.is_missing_data() => {
                        observer(Event::Steps(total));
                        TaskReport {
                            entry,
                            outcome: Outcome::Skipped {
                                reason: error.to_string(),
                            },
                        }
                    }
                    task => {
                        let on_steps = |steps| observer(Event::Steps(steps));
                        let LoadedTask { task, examples } = task?;
                        let run = TaskRun {
                            examples,
                            settings,
                            workers,
                            stop,
                            on_steps: &on_steps,
                            task,
                            horizon: entry.horizon,
                        };
                        let outcome = run.compare(contenders)?;
                        TaskReport { entry, outcome }
                    }
                };
                // A skipped task is tried again next time.
                if matches!(report.outcome, Outcome::Done { .. }) {
                    write_json(&path, &report)?;
                }
                report
            }
        };
        observer(Event::Task(&report));
        reports.push(report);
    }
    Ok(reports)
}

/// Creates `out` for these settings, or checks that it holds results of the same settings.
fn claim(out: &Path, settings: &Settings) -> Result<()> {
    let tasks = out.join("tasks");
    fs::create_dir_all(&tasks).map_err(lopt_core::Error::io("create", &tasks))?;
    let path = out.join("settings.json");
    if path.exists() {
        let text = fs::read_to_string(&path).map_err(lopt_core::Error::io("read", &path))?;
        if serde_json::from_str(&text).ok().as_ref() != Some(settings) {
            return Err(Error::Settings(format!(
                "{} holds results of other settings (optimizers, suite, seeds or program); \
                 use another folder or remove this one",
                out.display()
            )));
        }
        return Ok(());
    }
    write_json(&path, settings)
}

/// Reads a finished task; `None` if the file is missing, damaged or of another task.
fn read_report(path: &Path, entry: &suite::Entry) -> Result<Option<TaskReport>> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let report: Option<TaskReport> = serde_json::from_str(&text).ok();
            Ok(report.filter(|report| report.entry == *entry))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(lopt_core::Error::io("read", path)(error).into()),
    }
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::Settings(format!("{}: {e}", path.display())))?;
    Ok(file::write_atomically(path, text.as_bytes())?)
}

/// The runs of one task.
struct TaskRun<'a> {
    settings: &'a Settings,
    workers: Workers,
    stop: &'a AtomicBool,
    on_steps: &'a (dyn Fn(u64) + Sync),
    task: Arc<dyn Task>,
    examples: [usize; 2],
    horizon: u64,
}

impl TaskRun<'_> {
    fn compare(&self, contenders: &[Contender]) -> Result<Outcome> {
        let adams = adams(&self.settings.grid);
        let learned = contenders.iter().map(|contender| &contender.optimizer);
        let optimizers: Vec<_> = learned.chain(&adams).cloned().collect();
        let curves = self.curves(&optimizers, self.horizon)?;
        let (learned, grid) = curves.split_at(contenders.len());
        let horizon = self.horizon as usize;
        let final_loss =
            |curves: &Vec<Curve>| mean(curves.iter().map(|curve| curve.final_loss(horizon)));
        let adam_grid: Vec<(f64, f64)> = self
            .settings
            .grid
            .iter()
            .copied()
            .zip(grid.iter().map(final_loss))
            .collect();
        let best = (0..adam_grid.len())
            .min_by(|&a, &b| adam_grid[a].1.total_cmp(&adam_grid[b].1))
            .ok_or_else(|| Error::Settings("Adam's grid is empty".to_owned()))?;
        let longer = self.curves(&adams[best..=best], ADAM_HORIZONS * self.horizon)?;
        let adam_smooth = smooth(&longer[0], final_window(horizon));
        let mut results = vec![];
        for (contender, curves) in contenders.iter().zip(learned) {
            let mut result = self.result(&contender.name, curves);
            result.speed_up = Some(speed_up(result.final_loss(), &adam_smooth, self.horizon));
            results.push(result);
        }
        results.push(self.result(ADAM, &grid[best]));
        Ok(Outcome::Done {
            adam_learning_rate: adam_grid[best].0,
            adam_grid,
            results,
            examples: self.examples,
        })
    }

    /// Trains each optimizer on each seed: `curves[optimizer][seed]`.
    fn curves(&self, optimizers: &[Arc<dyn Optimizer>], steps: u64) -> Result<Vec<Vec<Curve>>> {
        let seeds = self.settings.seeds;
        let (stop, on_steps) = (self.stop, self.on_steps);
        for_all(optimizers, seeds, self.workers, stop, |optimizer, seed| {
            let curve = train(&self.task, optimizer, steps, &[self.horizon], seed)?;
            on_steps(steps);
            Ok(curve)
        })
    }

    fn result(&self, name: &str, curves: &[Curve]) -> ContenderResult {
        let horizon = self.horizon as usize;
        let of_each = |f: &dyn Fn(&Curve) -> f64| curves.iter().map(f).collect::<Vec<f64>>();
        let accuracy = |curve: &Curve| {
            curve
                .tests
                .first()
                .copied()
                .flatten()
                .map_or(f64::NAN, |test| test.accuracy.into())
        };
        ContenderResult {
            name: name.to_owned(),
            final_losses: of_each(&|curve| curve.final_loss(horizon)),
            mean_losses: of_each(&|curve| curve.mean_loss(horizon)),
            test_accuracies: of_each(&accuracy),
            diverged: curves
                .iter()
                .filter(|curve| curve.diverged(horizon))
                .count() as u64,
            speed_up: None,
            curve: thin(curves, horizon),
        }
    }
}

/// The mean over seeds of the trailing mean over `window` steps; entry i is after i + 1 steps.
fn smooth(curves: &[Curve], window: usize) -> Vec<f64> {
    let steps = curves.first().map_or(0, |curve| curve.losses.len());
    (1..=steps)
        .map(|end| mean(curves.iter().map(|curve| curve.trailing_mean(end, window))))
        .collect()
}

fn speed_up(target: f64, adam: &[f64], horizon: u64) -> SpeedUp {
    match adam.iter().position(|&loss| loss <= target) {
        Some(index) => SpeedUp {
            ratio: (index + 1) as f64 / horizon as f64,
            never: false,
        },
        None => SpeedUp {
            ratio: ADAM_HORIZONS as f64,
            never: true,
        },
    }
}

/// At most [`CURVE_POINTS`] points of the smoothed curves.
fn thin(curves: &[Curve], horizon: usize) -> Vec<(u64, f64, f64, f64)> {
    let window = final_window(horizon).min(50);
    let points = CURVE_POINTS.min(horizon);
    (1..=points)
        .map(|point| {
            let end = point * horizon / points;
            let losses: Vec<f64> = curves
                .iter()
                .map(|curve| curve.trailing_mean(end, window))
                .collect();
            let low = losses.iter().copied().fold(f64::INFINITY, f64::min);
            let high = losses.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            (end as u64, mean(losses.iter().copied()), low, high)
        })
        .collect()
}
