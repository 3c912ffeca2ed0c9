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

use crate::{
    Error, Result,
    compare::adams,
    train::{Curve, check_seeds, final_window, for_all, mean, train},
};

/// The name of the tuned baseline in reports.
pub const ADAM: &str = "adam";

/// Adam's best learning rate is run for this many horizons to see when it reaches another
/// optimizer's final loss.
const ADAM_HORIZONS: u64 = 2;
/// Points of a curve that reports keep.
const CURVE_POINTS: usize = 200;

/// An optimizer to judge.
pub struct Contender {
    /// Its name in reports.
    pub name: String,
    /// The optimizer.
    pub optimizer: Arc<dyn Optimizer>,
    /// What it is, exactly; part of the settings.
    pub identity: Value,
}

impl Contender {
    /// A learned optimizer: its configuration, factor, provenance and θ are what it is.
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

/// What is evaluated; results of other settings are never mixed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The suite.
    pub suite: suite::Suite,
    /// Only tasks of these groups; all if empty.
    pub groups: Vec<String>,
    /// Seeds 0, 1, … of each run.
    pub seeds: u64,
    /// Adam's learning rates.
    pub grid: Vec<f64>,
    /// Which program evaluates.
    pub program: String,
    /// Name and identity of each contender.
    pub contenders: Vec<(String, Value)>,
}

impl Settings {
    /// With Adam's whole grid.
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

    /// A name for the folder of the results, which other settings do not share.
    pub fn folder_name(&self) -> String {
        // FNV-1a: only to tell folders apart; the settings inside are compared in full.
        let json = serde_json::json!(self);
        let hash = json
            .to_string()
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
            });
        let suite = json["suite"].as_str().unwrap_or_default();
        format!("{suite}-{:08x}", hash >> 32)
    }

    fn entries(&self) -> Result<Vec<suite::Entry>> {
        let all = self.suite.entries();
        let known = |group: &&String| all.iter().any(|entry| entry.group == **group);
        if let Some(unknown) = self.groups.iter().find(|group| !known(group)) {
            let mut names: Vec<_> = all.iter().map(|entry| entry.group.as_str()).collect();
            names.dedup();
            return Err(Error::Settings(format!(
                "the suite has no group `{unknown}`; there are: {}",
                names.join(", ")
            )));
        }
        let chosen = all
            .into_iter()
            .filter(|entry| self.groups.is_empty() || self.groups.contains(&entry.group));
        Ok(chosen.collect())
    }
}

/// What became of one task of the suite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// The task.
    pub entry: suite::Entry,
    /// Results, or why there are none.
    pub outcome: Outcome,
}

/// Results, or why there are none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The task's data are missing.
    Skipped {
        /// How to get them.
        reason: String,
    },
    /// It was run.
    Done {
        /// Adam's learning rate with the lowest final training loss.
        adam_learning_rate: f64,
        /// Final training loss of each learning rate of the grid, mean over seeds.
        adam_grid: Vec<(f64, f64)>,
        /// The contenders in the order of the settings, then tuned Adam.
        results: Vec<ContenderResult>,
        /// How many images there were to train on and to test on, or bytes of text.
        examples: [usize; 2],
    },
}

/// How one optimizer did on one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContenderResult {
    /// Its name.
    pub name: String,
    /// Mean training loss of the last twentieth of the steps, for each seed.
    pub final_losses: Vec<f64>,
    /// Mean training loss of all steps, for each seed.
    pub mean_losses: Vec<f64>,
    /// Test accuracy at the end, for each seed.
    pub test_accuracies: Vec<f64>,
    /// Seeds whose loss or gradient was not finite, or ended more than 10 % above the
    /// untrained network's loss.
    pub diverged: u64,
    /// Over tuned Adam; none for Adam itself.
    pub speed_up: Option<SpeedUp>,
    /// (step, mean over seeds, lowest, highest) of the smoothed training loss.
    pub curve: Vec<(u64, f64, f64, f64)>,
}

impl ContenderResult {
    /// Mean over seeds of the final training loss.
    pub fn final_loss(&self) -> f64 {
        average(&self.final_losses)
    }

    /// Mean over seeds of the mean training loss.
    pub fn mean_loss(&self) -> f64 {
        average(&self.mean_losses)
    }

    /// Mean over seeds of the test accuracy.
    pub fn test_accuracy(&self) -> f64 {
        average(&self.test_accuracies)
    }
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Steps that tuned Adam needs to reach the optimizer's final training loss, over the
/// steps that the optimizer took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpeedUp {
    /// Above 1 the optimizer is faster.
    pub ratio: f64,
    /// Adam did not get there in twice the horizon; `ratio` is then 2, a lower bound.
    pub never: bool,
}

/// What happens, for whoever shows progress.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// How many training steps the whole evaluation takes; some may turn out to be done.
    Total(u64),
    /// Training steps were taken, or found done.
    Steps(u64),
    /// A task is over.
    Task(&'a TaskReport),
}

/// Evaluates the suite, keeping each finished task in `out`, from where the same call goes
/// on if it was interrupted.
///
/// # Errors
/// If `out` holds results of other settings or cannot be written, a task fails, or `stop`
/// is set.
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
                // A task without data is looked at again next time.
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

/// Makes `out` the home of these settings.
fn claim(out: &Path, settings: &Settings) -> Result<()> {
    let tasks = out.join("tasks");
    fs::create_dir_all(&tasks).map_err(lopt_core::Error::io("create", &tasks))?;
    let path = out.join("settings.json");
    if path.exists() {
        let text = fs::read_to_string(&path).map_err(lopt_core::Error::io("read", &path))?;
        if serde_json::from_str(&text).ok().as_ref() != Some(settings) {
            return Err(Error::Settings(format!(
                "{} holds results of other settings (optimizers, suite, seeds or program); \
                 name another folder or remove it",
                out.display()
            )));
        }
        return Ok(());
    }
    write_json(&path, settings)
}

/// A finished task; one that cannot be read, or is another one, is run again.
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
        let final_loss = |curves: &Vec<Curve>| {
            average(
                &curves
                    .iter()
                    .map(|c| c.final_loss(horizon))
                    .collect::<Vec<_>>(),
            )
        };
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

    /// A curve for each optimizer and seed.
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

/// The mean over seeds of the trailing mean over `window` steps; entry i is after i + 1
/// steps.
fn smooth(curves: &[Curve], window: usize) -> Vec<f64> {
    let steps = curves.first().map_or(0, |curve| curve.losses.len());
    let trailing = |curve: &Curve, end: usize| mean(&curve.losses[end.saturating_sub(window)..end]);
    (1..=steps)
        .map(|end| {
            average(
                &curves
                    .iter()
                    .map(|curve| trailing(curve, end))
                    .collect::<Vec<_>>(),
            )
        })
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

/// At most 200 points of the smoothed curves.
fn thin(curves: &[Curve], horizon: usize) -> Vec<(u64, f64, f64, f64)> {
    let window = final_window(horizon).min(50);
    let points = CURVE_POINTS.min(horizon);
    (1..=points)
        .map(|point| {
            let end = point * horizon / points;
            let losses: Vec<f64> = curves
                .iter()
                .map(|curve| mean(&curve.losses[end.saturating_sub(window)..end]))
                .collect();
            let low = losses.iter().copied().fold(f64::INFINITY, f64::min);
            let high = losses.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            (end as u64, average(&losses), low, high)
        })
        .collect()
}
