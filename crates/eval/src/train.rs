use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use lopt_core::{Optimizer, Purpose, Rng, Streams, Workers};
use lopt_tasks::{Feed, Network, STEPS_TOGETHER, Split, Step, Task, TestScore, Together};

use crate::{Error, Result, stats::mean};

/// One training run.
#[derive(Clone, Debug)]
pub struct Curve {
    /// The normalized training loss on each minibatch, before the step on it.
    pub losses: Vec<f32>,
    /// The upper bound of the normalized loss; infinite if there is none.
    pub ceiling: f32,
    /// Whether a loss or gradient was not finite.
    pub not_finite: bool,
    /// Test scores after the requested numbers of steps, in order.
    pub tests: Vec<Option<TestScore>>,
}

/// The final loss of a run is the mean over the last `FINAL_PERCENT` % of its steps; see
/// [`final_window`].
pub const FINAL_PERCENT: usize = 5;
/// Minimum length of a [`final_window`], in runs that are long enough.
const FINAL_STEPS: usize = 10;
/// A final loss above that of the untrained network by this factor counts as divergence.
const DIVERGENCE_FACTOR: f64 = 1.1;

/// The number of steps at the end of a run of `horizon` steps over which the final loss is
/// averaged: [`FINAL_PERCENT`] % of the steps, but at least 10.
pub fn final_window(horizon: usize) -> usize {
    (horizon * FINAL_PERCENT / 100)
        .max(FINAL_STEPS)
        .min(horizon)
}

impl Curve {
    /// The mean loss of the first `horizon` steps.
    pub fn mean_loss(&self, horizon: usize) -> f64 {
        mean(self.losses[..horizon].iter().copied())
    }

    /// The mean loss of the last [`final_window`] of the first `horizon` steps.
    pub fn final_loss(&self, horizon: usize) -> f64 {
        self.trailing_mean(horizon, final_window(horizon))
    }

    /// The mean loss of the last `window` of the first `end` steps.
    pub(crate) fn trailing_mean(&self, end: usize, window: usize) -> f64 {
        mean(self.losses[end.saturating_sub(window)..end].iter().copied())
    }

    /// Whether a loss or gradient was not finite, or the final loss is more than 10 % above that of
    /// the untrained network, or at the upper bound of the normalized loss. Without the last
    /// condition no run could diverge on a task that starts near the bound.
    pub fn diverged(&self, horizon: usize) -> bool {
        let final_loss = self.final_loss(horizon);
        self.not_finite
            || final_loss > DIVERGENCE_FACTOR * f64::from(self.losses[0])
            || final_loss >= self.ceiling.into()
    }
}

/// Trains `task` for `steps` steps, with tests after each of `test_after`.
///
/// The initial network and the batches depend on `seed` alone, not on the optimizer. Once a loss or
/// a gradient is not finite the network is no longer changed, and the remaining losses are set to
/// the upper bound of the normalized loss.
///
/// # Errors
/// Returns an error if the task or the optimizer fails.
pub fn train(
    task: &Arc<dyn Task>,
    optimizer: &Arc<dyn Optimizer>,
    steps: u64,
    test_after: &[u64],
    seed: u64,
) -> Result<Curve> {
    let mut training = Training::start(task, optimizer, steps, seed)?;
    training.advance(steps, test_after)?;
    Ok(training.curve)
}

/// A training run that can be continued.
pub(crate) struct Training {
    task: Arc<dyn Task>,
    network: Network,
    feed: Feed,
    seed: u64,
    /// What was recorded so far.
    pub curve: Curve,
}

impl Training {
    /// A run before its first step, whose optimizer is told the horizon.
    pub fn start(
        task: &Arc<dyn Task>,
        optimizer: &Arc<dyn Optimizer>,
        horizon: u64,
        seed: u64,
    ) -> Result<Self> {
        let params = task.init(&mut stream(seed, 0, 0))?;
        let network = Network::start(task.clone(), params, optimizer.clone())?;
        Ok(Self {
            task: task.clone(),
            network: network.with_horizon(horizon),
            feed: Feed::default(),
            seed,
            curve: Curve {
                losses: Vec::with_capacity(horizon as usize),
                ceiling: task.normalize(f32::INFINITY),
                not_finite: false,
                tests: vec![],
            },
        })
    }

    /// Takes more steps, with tests after each of `test_after`.
    pub fn advance(&mut self, steps: u64, test_after: &[u64]) -> Result<()> {
        let start = self.curve.losses.len() as u64;
        for t in start..start + steps {
            let loss = if self.curve.not_finite {
                f32::NAN
            } else {
                let mut rng = stream(self.seed, 1, t);
                self.network.draw(Split::Train, &mut rng, &mut self.feed)?;
                let Step { loss, refused } = self.network.step(&mut self.feed)?;
                self.curve.not_finite = refused || !loss.is_finite();
                loss
            };
            self.curve.losses.push(self.task.normalize(loss));
            if test_after.contains(&(t + 1)) {
                let score = self.task.test(&self.network.params()?)?;
                self.curve.tests.push(score);
            }
        }
        Ok(())
    }
}

/// [`Training`] for some seeds, whose networks a GPU trains together.
pub(crate) struct TogetherTraining {
    together: Together,
    seeds: Vec<u64>,
    /// What was recorded so far, for each seed.
    pub curves: Vec<Curve>,
}

impl TogetherTraining {
    /// Runs before their first step; `None` if a GPU cannot train them together.
    pub fn start(
        task: &Arc<dyn Task>,
        optimizer: &Arc<dyn Optimizer>,
        seeds: &[u64],
    ) -> Result<Option<Self>> {
        let Some(mlp) = task.clone().mlp() else {
            return Ok(None);
        };
        let Some(together) = Together::on_gpu(&mlp, &**optimizer, seeds.len(), 1)? else {
            return Ok(None);
        };
        for (network, &seed) in seeds.iter().enumerate() {
            let params = task.init(&mut stream(seed, 0, 0))?;
            together.fleet().start(network, &params)?;
        }
        let curve = Curve {
            losses: vec![],
            ceiling: task.normalize(f32::INFINITY),
            not_finite: false,
            tests: vec![],
        };
        Ok(Some(Self {
            together,
            seeds: seeds.to_vec(),
            curves: vec![curve; seeds.len()],
        }))
    }

    /// Takes more steps.
    pub fn advance(&mut self, steps: u64, stop: &AtomicBool) -> Result<()> {
        let seeds = &self.seeds;
        let start = self.curves[0].losses.len() as u64;
        let end = start + steps;
        for first in (start..end).step_by(STEPS_TOGETHER) {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Stopped);
            }
            let some = first..end.min(first + STEPS_TOGETHER as u64);
            let batch = |network: usize, t| stream(seeds[network], 1, t);
            let results = self.together.take_steps(some, batch)?;
            for of_step in results.chunks_exact(seeds.len()) {
                for (curve, result) in self.curves.iter_mut().zip(of_step) {
                    let loss = match curve.not_finite {
                        true => f32::NAN,
                        false => result.loss,
                    };
                    curve.losses.push(self.together.task().normalize(loss));
                    curve.not_finite |= result.refused || !result.loss.is_finite();
                }
            }
        }
        Ok(())
    }
}

/// [`train`] for some seeds, whose networks a GPU trains together, with a test at the end if asked;
/// `None` if it cannot.
pub(crate) fn train_together(
    task: &Arc<dyn Task>,
    optimizer: &Arc<dyn Optimizer>,
    steps: u64,
    test: bool,
    seeds: &[u64],
    stop: &AtomicBool,
) -> Result<Option<Vec<Curve>>> {
    let Some(mut training) = TogetherTraining::start(task, optimizer, seeds)? else {
        return Ok(None);
    };
    training.advance(steps, stop)?;
    let TogetherTraining {
        together,
        mut curves,
        ..
    } = training;
    for (network, (curve, &seed)) in curves.iter_mut().zip(seeds).enumerate() {
        if test && curve.not_finite {
            // The network went on; it is tested as it was when it diverged.
            *curve = train(task, optimizer, steps, &[steps], seed)?;
        } else if test {
            curve.tests.push(task.test(&together.params(network)?)?);
        }
    }
    Ok(Some(curves))
}

/// The random stream of the initial network (0) or of the batch of step t (1).
fn stream(seed: u64, what: u64, t: u64) -> Rng {
    Streams::new(seed).stream(Purpose::Evaluation, what, 0, t)
}

/// Calls [`train`] for each optimizer and each seed 0, 1, …; the result is
/// `curves[optimizer][seed]`.
///
/// # Errors
/// Returns an error if a run fails or `seeds` is 0, and [`Error::Stopped`] once `stop` is set.
pub fn train_all(
    task: &Arc<dyn Task>,
    optimizers: &[Arc<dyn Optimizer>],
    steps: u64,
    seeds: u64,
    workers: Workers,
    stop: &AtomicBool,
) -> Result<Vec<Vec<Curve>>> {
    check_seeds(seeds)?;
    let all: Vec<u64> = (0..seeds).collect();
    let together = |optimizer| train_together(task, optimizer, steps, false, &all, stop);
    let curves: Vec<_> = optimizers.iter().map(together).collect::<Result<_>>()?;
    let others = optimizers.iter().zip(&curves);
    let others = others.filter(|(_, curves)| curves.is_none());
    let others: Vec<_> = others.map(|(optimizer, _)| optimizer).collect();
    let run = |optimizer: &&Arc<dyn Optimizer>, seed| train(task, optimizer, steps, &[], seed);
    let mut of_others = for_all(&others, seeds, workers, stop, run)?.into_iter();
    let curves = curves.into_iter();
    Ok(curves
        .map(|curves| curves.or_else(|| of_others.next()).unwrap_or_default())
        .collect())
}

/// Returns an error if `seeds` is 0.
pub(crate) fn check_seeds(seeds: u64) -> Result<()> {
    match seeds {
        0 => Err(Error::Settings("0 seeds; ask for at least 1".to_owned())),
        _ => Ok(()),
    }
}

/// Calls `run` for each optimizer and each seed 0, 1, …
///
/// # Errors
/// Returns the first error of `run`, and [`Error::Stopped`] once `stop` is set.
pub(crate) fn for_all<O: Sync, T: Send>(
    optimizers: &[O],
    seeds: u64,
    workers: Workers,
    stop: &AtomicBool,
    run: impl Fn(&O, u64) -> Result<T> + Sync,
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

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use lopt_tasks::{DataStore, MlpTask, suite::Suite};

    use super::*;
    use crate::Baseline;

    #[test]
    fn runs_that_end_at_the_bound_of_the_loss_diverged() {
        let curve = |losses: [f32; 20]| Curve {
            losses: losses.into(),
            ceiling: 1.5,
            not_finite: false,
            tests: vec![],
        };
        // The untrained network may be at the bound too.
        let mut losses = [1.5; 20];
        assert!(curve(losses).diverged(20));
        losses[19] = 1.4;
        assert!(!curve(losses).diverged(20));
        losses[0] = 1.0;
        assert!(curve(losses).diverged(20));
        let unbounded = Curve {
            ceiling: f32::INFINITY,
            ..curve([1.5; 20])
        };
        assert!(!unbounded.diverged(20));
    }

    #[test]
    fn a_run_in_pieces_is_the_whole_run() {
        let (config, _) = Suite::Quick.base();
        let task = MlpTask::new(config, &mut DataStore::default(), &Device::Cpu);
        let task: Arc<dyn Task> = Arc::new(task.unwrap());
        // SGD diverges at once, and stays so.
        for (baseline, rate) in [(Baseline::AdamW, 1e-2), (Baseline::Sgd, 1e30)] {
            let optimizer = baseline.optimizer(rate);
            let whole = train(&task, &optimizer, 20, &[10], 1).unwrap();
            assert_eq!(whole.not_finite, baseline == Baseline::Sgd);
            let mut pieces = Training::start(&task, &optimizer, 20, 1).unwrap();
            for steps in [7, 12, 1] {
                pieces.advance(steps, &[10]).unwrap();
            }
            assert_eq!(pieces.curve.losses, whole.losses);
            assert_eq!(pieces.curve.not_finite, whole.not_finite);
            assert_eq!((pieces.curve.tests.len(), whole.tests.len()), (1, 1));
        }
    }
}
