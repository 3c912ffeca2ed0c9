use std::{ops::Range, sync::Arc};

use lopt_core::{Optimizer, Purpose, Rng, Streams, Workers};
use lopt_tasks::{Feed, Network, Split, Task, TaskFamily, Together};
use serde::{Deserialize, Serialize};

use crate::{Comm, HeldOutConfig, Result, exact_sum::ExactSum, share};

/// Evaluates θ on whole unrolls that meta-training does not use. Tasks, initial parameters and
/// minibatches have their own random streams and are the same at every call; θ is not perturbed.
/// The meta-loss is not suitable for choosing the best θ: it is noisy, and it averages over
/// changing phases of the inner training.
pub struct HeldOut {
    config: HeldOutConfig,
    streams: Streams,
    family: Arc<dyn TaskFamily>,
    workers: Workers,
}

/// The final loss of a held-out unroll is the mean over the last `HELD_OUT_FINAL_PERCENT` % of its
/// inner steps.
pub const HELD_OUT_FINAL_PERCENT: u64 = 10;

/// The result of a held-out evaluation: means over the unrolls.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOutScore {
    /// The mean normalized training loss over all inner steps.
    pub mean_loss: f64,
    /// The mean normalized training loss over the last [`HELD_OUT_FINAL_PERCENT`] % of the inner
    /// steps.
    pub final_loss: f64,
}

impl HeldOut {
    /// Creates the evaluation of the run with this seed.
    pub fn new(
        config: HeldOutConfig,
        seed: u64,
        family: Arc<dyn TaskFamily>,
        workers: Workers,
    ) -> Self {
        Self {
            config,
            streams: Streams::new(seed),
            family,
            workers,
        }
    }

    /// Returns the score of `optimizer`. Each rank trains a part of the networks.
    ///
    /// # Errors
    /// Returns an error if a task fails or another rank cannot be reached.
    pub fn score(&self, optimizer: &Arc<dyn Optimizer>, comm: &dyn Comm) -> Result<HeldOutScore> {
        let unrolls = self.config.unrolls;
        let own = share(comm, unrolls);
        let networks = own.clone().count();
        let together = match self.family.single_mlp() {
            Some(task) => Together::on_gpu(&task, &**optimizer, networks, 1)?,
            None => None,
        };
        let all = match together {
            Some(together) => self.together(own, &together)?,
            None => {
                let job = |index| self.unroll(index, optimizer);
                let all = self.workers.map(own, job);
                all.into_iter().collect::<Result<_>>()?
            }
        };
        let last = (self.config.horizon * HELD_OUT_FINAL_PERCENT / 100).max(1) as usize;
        let mut sum = ExactSum::new(2);
        for losses in all {
            sum.add([mean(&losses), mean(&losses[losses.len() - last..])]);
        }
        let sums = sum.over(comm)?;
        Ok(HeldOutScore {
            mean_loss: sums[0] / unrolls as f64,
            final_loss: sums[1] / unrolls as f64,
        })
    }

    /// The losses of some unrolls, whose networks are trained together.
    fn together(&self, unrolls: Range<u64>, all: &Together) -> Result<Vec<Vec<f32>>> {
        let task = all.task();
        for (network, index) in unrolls.clone().enumerate() {
            let params = task.init(&mut self.stream(index, 1, 0))?;
            all.fleet().start(network, &params)?;
        }
        let stream = |network, t| self.stream(unrolls.start + network as u64, 2, t);
        let results = all.take_steps(0..self.config.horizon, stream)?;
        let mut losses = vec![vec![]; unrolls.clone().count()];
        for of_step in results.chunks_exact(losses.len()) {
            for (losses, result) in losses.iter_mut().zip(of_step) {
                losses.push(task.normalize(result.loss));
            }
        }
        Ok(losses)
    }

    /// The stream of an unroll for its task (0), initial parameters (1) or minibatch t (2).
    fn stream(&self, index: u64, what: u64, t: u64) -> Rng {
        self.streams.stream(Purpose::HeldOut, index, what, t)
    }

    fn unroll(&self, index: u64, optimizer: &Arc<dyn Optimizer>) -> Result<Vec<f32>> {
        let stream = |what, t| self.stream(index, what, t);
        let task: Arc<dyn Task> = self.family.sample(&mut stream(0, 0));
        let params = task.init(&mut stream(1, 0))?;
        let network = Network::start(task.clone(), params, optimizer.clone())?;
        let mut network = network.with_horizon(self.config.horizon);
        let mut feed = Feed::default();
        let mut losses = vec![];
        for t in 0..self.config.horizon {
            network.draw(Split::Train, &mut stream(2, t), &mut feed)?;
            losses.push(task.normalize(network.step(&mut feed)?.loss));
        }
        Ok(losses)
    }
}

fn mean(losses: &[f32]) -> f64 {
    losses.iter().copied().map(f64::from).sum::<f64>() / losses.len() as f64
}
