use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use lopt_core::{Optimizer, Purpose, Streams, Workers};
use lopt_tasks::{Feed, Network, Split, Step, Task, TestScore};

use crate::{Error, Result};

/// One training run.
#[derive(Clone, Debug)]
pub struct Curve {
    /// The normalised training loss on each minibatch, before the step on it.
    pub losses: Vec<f32>,
    /// Whether a loss or gradient was not finite.
    pub not_finite: bool,
    /// Test scores after the asked-for numbers of steps, in their order.
    pub tests: Vec<Option<TestScore>>,
}

/// Final losses average over this fraction of the steps.
const FINAL_FRACTION: usize = 20;
/// A final loss above the untrained network's by this factor counts as divergence.
const DIVERGENCE_FACTOR: f64 = 1.1;

/// How many steps are averaged at the end of a run of `horizon` steps: a twentieth, at
/// least 10.
pub fn final_window(horizon: usize) -> usize {
    (horizon / FINAL_FRACTION).max(10).min(horizon)
}

impl Curve {
    /// The mean loss of the first `horizon` steps.
    pub fn mean_loss(&self, horizon: usize) -> f64 {
        mean(&self.losses[..horizon])
    }

    /// The mean loss of the last twentieth of the first `horizon` steps.
    pub fn final_loss(&self, horizon: usize) -> f64 {
        mean(&self.losses[horizon - final_window(horizon)..horizon])
    }

    /// Whether a loss or gradient was not finite, or the final loss is more than 10 %
    /// above that of the untrained network.
    pub fn diverged(&self, horizon: usize) -> bool {
        self.not_finite || self.final_loss(horizon) > DIVERGENCE_FACTOR * f64::from(self.losses[0])
    }
}

pub(crate) fn mean(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x)).sum::<f64>() / values.len() as f64
}

/// Trains `task` for `steps` steps, with tests after each of `test_after`.
///
/// Start and batches depend on `seed` alone, not on the optimizer. Once a loss or a
/// gradient is not finite the network stays as it is, and the rest of the curve counts at
/// the loss's upper bound.
///
/// # Errors
/// Those of the task.
pub fn train(
    task: &Arc<dyn Task>,
    optimizer: &Arc<dyn Optimizer>,
    steps: u64,
    test_after: &[u64],
    seed: u64,
) -> Result<Curve> {
    let stream = |what, t| Streams::new(seed).stream(Purpose::Evaluation, what, 0, t);
    let params = task.init(&mut stream(0, 0))?;
    let network = Network::start(task.clone(), params, optimizer.clone())?;
    let mut network = network.with_horizon(steps);
    let mut feed = Feed::default();
    let mut curve = Curve {
        losses: Vec::with_capacity(steps as usize),
        not_finite: false,
        tests: vec![],
    };
    for t in 0..steps {
        let loss = if curve.not_finite {
            f32::NAN
        } else {
            network.draw(Split::Train, &mut stream(1, t), &mut feed)?;
            let Step { loss, refused } = network.step(&mut feed)?;
            curve.not_finite = refused || !loss.is_finite();
            loss
        };
        curve.losses.push(task.normalize(loss));
        if test_after.contains(&(t + 1)) {
            curve.tests.push(task.test(&network.params()?)?);
        }
    }
    Ok(curve)
}

/// [`train`] by each optimizer, over the seeds 0, 1, …: `curves[optimizer][seed]`.
///
/// # Errors
/// As [`train`]; if there are 0 seeds; [`Error::Stopped`] if `stop` is set.
pub fn train_all(
    task: &Arc<dyn Task>,
    optimizers: &[Arc<dyn Optimizer>],
    steps: u64,
    seeds: u64,
    workers: Workers,
    stop: &AtomicBool,
) -> Result<Vec<Vec<Curve>>> {
    check_seeds(seeds)?;
    let run = |optimizer: &_, seed| train(task, optimizer, steps, &[], seed);
    for_all(optimizers, seeds, workers, stop, run)
}

/// Refuses 0 seeds, which would give means of nothing.
pub(crate) fn check_seeds(seeds: u64) -> Result<()> {
    match seeds {
        0 => Err(Error::Settings("0 seeds; ask for at least 1".to_owned())),
        _ => Ok(()),
    }
}

/// What `run` gives for each optimizer and each seed 0, 1, …
///
/// # Errors
/// Those of `run`; [`Error::Stopped`] if `stop` is set.
pub(crate) fn for_all<T: Send>(
    optimizers: &[Arc<dyn Optimizer>],
    seeds: u64,
    workers: Workers,
    stop: &AtomicBool,
    run: impl Fn(&Arc<dyn Optimizer>, u64) -> Result<T> + Sync,
) -> Result<Vec<Vec<T>>> {
    let runs = optimizers
        .iter()
        .flat_map(|optimizer| (0..seeds).map(move |seed| (optimizer, seed)));
    let results = workers.map(runs, |(optimizer, seed)| {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        run(optimizer, seed)
    });
    let mut results = results.into_iter();
    let of_seeds = |_| results.by_ref().take(seeds as usize).collect();
    optimizers.iter().map(of_seeds).collect()
}
