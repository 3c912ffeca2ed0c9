use std::sync::Arc;

use lopt_core::{Optimizer, Purpose, Streams, Workers};
use lopt_tasks::{Feed, Network, Split, Task, TaskFamily};
use serde::{Deserialize, Serialize};

use crate::{HeldOutConfig, Result};

/// Judges θ on whole unrolls that meta-training never sees: tasks, starts and batches of
/// streams of their own, the same at every call, without perturbation. The meta-loss is
/// too noisy to choose the best θ by, and belongs to shifting phases of the training.
pub struct HeldOut {
    config: HeldOutConfig,
    streams: Streams,
    family: Arc<dyn TaskFamily>,
    workers: Workers,
}

/// Means over the unrolls.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOutScore {
    /// Mean normalised training loss of all inner steps.
    pub mean_loss: f64,
    /// The same of the last tenth of the inner steps.
    pub final_loss: f64,
}

impl HeldOut {
    /// Unrolls of the run with this seed.
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

    /// The score of `optimizer`.
    ///
    /// # Errors
    /// Those of the tasks.
    pub fn score(&self, optimizer: &Arc<dyn Optimizer>) -> Result<HeldOutScore> {
        let job = |index| self.unroll(index, optimizer);
        let losses: Result<Vec<_>> = self
            .workers
            .map(0..self.config.unrolls, job)
            .into_iter()
            .collect();
        let losses = losses?;
        let last = (self.config.horizon / 10).max(1) as usize;
        Ok(HeldOutScore {
            mean_loss: mean(losses.iter().flatten()),
            final_loss: mean(losses.iter().flat_map(|l| &l[l.len() - last..])),
        })
    }

    fn unroll(&self, index: u64, optimizer: &Arc<dyn Optimizer>) -> Result<Vec<f32>> {
        let stream = |what, t| self.streams.stream(Purpose::HeldOut, index, what, t);
        let task: Arc<dyn Task> = self.family.sample(&mut stream(0, 0));
        let params = task.init(&mut stream(1, 0))?;
        let mut network = Network::start(task.clone(), params, optimizer.clone())?;
        let mut feed = Feed::default();
        let mut losses = vec![];
        for t in 0..self.config.horizon {
            network.draw(Split::Train, &mut stream(2, t), &mut feed)?;
            losses.push(task.normalize(network.step(&mut feed)?.loss));
        }
        Ok(losses)
    }
}

fn mean<'a>(values: impl Iterator<Item = &'a f32>) -> f64 {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), &x| (sum + f64::from(x), n + 1.0));
    sum / n
}
