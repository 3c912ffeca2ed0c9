use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use lopt_adam::Adam;
use lopt_core::{Optimizer, Workers};
use lopt_tasks::{DataStore, Task};

use crate::{
    Error, Evaluation, Result,
    evaluate::{claim, read_report, task_file},
    runs::{Runner, Runs},
    train::{Training, train_together},
};

/// Maximum time for each task, without loading its data.
const PER_TASK: Duration = Duration::from_secs(1);
/// Maximum time for all tasks.
const ALL_TASKS: Duration = Duration::from_secs(30);
/// Maximum number of timed steps of each thread.
const STEPS: u32 = 50;

/// How long an evaluation will take.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// Number of unfinished tasks.
    pub tasks: u64,
    /// Number of tasks that are skipped because their data are missing.
    pub skipped: u64,
    /// Number of training runs left, not counting the continuation of tuned Adam.
    pub runs: u64,
    /// The time for these runs and for the longest possible continuation of tuned Adam.
    pub seconds: f64,
    /// The time for a training step of each task of the evaluation on all threads together; 0 if
    /// the task is done or its data are missing.
    pub seconds_per_step: Vec<f64>,
}

/// Estimates how long [`crate::evaluate`] will take with the same arguments, by timing at most 50
/// steps of Adam on each unfinished task: with all threads at once, or on a GPU with the networks of
/// all seeds together. This takes at most about half a minute, plus the time to load the data.
///
/// That learned optimizers take longer than Adam is not taken into account: most runs are those of
/// the tuned baselines.
///
/// # Errors
/// Returns the errors of [`crate::evaluate`].
pub fn estimate(evaluation: Evaluation, store: &mut DataStore) -> Result<Estimate> {
    let Evaluation { settings, out, .. } = evaluation;
    settings.check()?;
    let entries = settings.entries()?;
    let _lock = claim(out, settings)?;
    let runs = Runs::new(out, evaluation.reuse)?;
    let runners = Runner::all(settings, evaluation.contenders);
    let budget = PER_TASK.min(ALL_TASKS / entries.len().max(1) as u32);
    let mut estimate = Estimate {
        tasks: 0,
        skipped: 0,
        runs: 0,
        seconds: 0.0,
        seconds_per_step: vec![0.0; entries.len()],
    };
    for (index, entry) in entries.iter().enumerate() {
        if evaluation.stop.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        if read_report(&task_file(out, index), entry, settings)?.is_some() {
            continue;
        }
        let task = match entry.task.load(store, evaluation.device) {
            Err(error) if error.is_missing_data() => {
                estimate.skipped += 1;
                continue;
            }
            task => task?.task,
        };
        let per_step = match seconds_per_step_together(&task, evaluation)? {
            Some(seconds) => seconds,
            None => seconds_per_step(&task, evaluation.workers, budget)?,
        };
        let all = (0..settings.seeds).flat_map(|seed| runners.iter().map(move |r| (r, seed)));
        let left = all.filter(|(runner, seed)| !runs.has(entry, runner, *seed));
        let left = left.count() as u64;
        estimate.tasks += 1;
        estimate.runs += left;
        let steps = entry.horizon * (left + settings.continuation());
        estimate.seconds += per_step * steps as f64;
        estimate.seconds_per_step[index] = per_step;
    }
    Ok(estimate)
}

/// The time for a step of one network if a GPU trains those of all seeds together.
fn seconds_per_step_together(task: &Arc<dyn Task>, evaluation: Evaluation) -> Result<Option<f64>> {
    let adam: Arc<dyn Optimizer> = Arc::new(Adam::default());
    let (steps, stop) = (STEPS.into(), evaluation.stop);
    let seeds: Vec<u64> = (0..evaluation.settings.seeds).collect();
    let train = || train_together(task, &adam, steps, false, &seeds, stop);
    // The first time the kernels are loaded.
    if train()?.is_none() {
        return Ok(None);
    }
    let start = Instant::now();
    train()?;
    let taken = u64::from(STEPS) * evaluation.settings.seeds;
    Ok(Some(start.elapsed().as_secs_f64() / taken as f64))
}

/// The time for a step with all threads, each of which trains a network of its own.
fn seconds_per_step(task: &Arc<dyn Task>, workers: Workers, budget: Duration) -> Result<f64> {
    let adam: Arc<dyn Optimizer> = Arc::new(Adam::default());
    let speeds = workers.map(0..workers.threads() as u64, |seed| -> Result<f64> {
        let mut training = Training::start(task, &adam, u64::from(STEPS), seed)?;
        // The first step allocates memory.
        training.advance(1, &[])?;
        let start = Instant::now();
        let mut steps = 0;
        while steps < STEPS && (steps == 0 || start.elapsed() < budget) {
            training.advance(1, &[])?;
            steps += 1;
        }
        Ok(f64::from(steps) / start.elapsed().as_secs_f64())
    });
    let speeds: Vec<f64> = speeds.into_iter().collect::<Result<_>>()?;
    Ok(1.0 / speeds.iter().sum::<f64>())
}
