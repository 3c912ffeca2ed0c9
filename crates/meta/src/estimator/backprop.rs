//! Truncated backpropagation through the unroll.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use candle_core::Tensor;
use lopt_core::{LearnedOptimizer, Params, Purpose, State, Streams, Workers};
use lopt_tasks::{Split, Task, TaskFamily, check_hessian};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Estimate, GradientEstimator, Snapshot,
    adjoint::{MetaLoss, meta_gradient},
    networks::{counters, named, restored, take_prefixed},
    together::{Contribution, mean_over_ranks},
    unroll::{Source, Start, staggered},
};
use crate::{Comm, Horizon, Result, share};

/// How backpropagation unrolls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BackpropConfig {
    /// Networks, each with its own task.
    pub tasks: u64,
    /// Inner steps for one meta-gradient, which is exact within them and knows nothing of
    /// what was before.
    pub truncation: usize,
    /// Inner steps until the networks start afresh.
    pub horizon: Horizon,
}

/// The estimator: the exact gradient of the mean loss of a truncation, biased towards the
/// short term.
pub struct Backprop {
    config: BackpropConfig,
    source: Source,
    workers: Workers,
    networks: Vec<Training>,
}

/// A network in the middle of its training.
struct Training {
    index: u64,
    episode: u64,
    inner_step: u64,
    horizon: u64,
    task: Arc<dyn Task>,
    params: Params,
    state: State,
}

impl Training {
    fn start(
        index: u64,
        episode: u64,
        source: &Source,
        optimizer: &dyn LearnedOptimizer,
    ) -> Result<Self> {
        let Start {
            task,
            params,
            horizon,
        } = source.start(index, episode)?;
        Ok(Self {
            index,
            episode,
            inner_step: 0,
            horizon,
            state: optimizer.init(&params)?,
            task,
            params,
        })
    }

    /// One truncation: (the gradient of the sum of its losses, their sum, their number).
    fn advance(
        &mut self,
        source: &Source,
        optimizer: &dyn LearnedOptimizer,
        truncation: usize,
    ) -> Result<(Vec<f64>, f64, u64)> {
        let mut gradient = vec![0.0; optimizer.theta().values().len()];
        let (mut sum, mut steps) = (0.0, 0);
        let mut left = truncation as u64;
        while left > 0 {
            if self.inner_step >= self.horizon {
                // A step for the reset, as the other estimators count it.
                *self = Self::start(self.index, self.episode + 1, source, optimizer)?;
                left -= 1;
                continue;
            }
            let count = left.min(self.horizon - self.inner_step);
            let (index, episode, first) = (self.index, self.episode, self.inner_step);
            let batch = |t: usize| {
                let mut rng = source.batch_rng(index, episode, first + t as u64);
                Ok(self.task.batch(Split::Train, &mut rng)?)
            };
            let of_part = meta_gradient(
                &*self.task,
                optimizer,
                &self.params,
                &self.state,
                count as usize,
                &batch,
                MetaLoss::Sum,
            )?;
            for (sum, part) in gradient.iter_mut().zip(&of_part.gradient) {
                *sum += part;
            }
            sum += of_part.meta_loss;
            self.params = of_part.params;
            self.state = of_part.state;
            self.inner_step += count;
            steps += count;
            left -= count;
        }
        Ok((gradient, sum, steps))
    }
}

impl Backprop {
    /// Fresh networks; the i-th of N counts as if i/N of its horizon were over, so that
    /// resets are spread in time.
    ///
    /// # Errors
    /// Those of the tasks, or if a task's Hessian is wrong; see [`check_hessian`].
    pub fn new(
        config: BackpropConfig,
        seed: u64,
        family: Arc<dyn TaskFamily>,
        workers: Workers,
        optimizer: &dyn LearnedOptimizer,
        comm: &dyn Comm,
    ) -> Result<Self> {
        let source = Source {
            streams: Streams::new(seed),
            family,
            horizon: config.horizon,
        };
        let mut networks = vec![];
        for index in share(comm, config.tasks) {
            let mut network = Training::start(index, 0, &source, optimizer)?;
            let mut rng = source.streams.stream(Purpose::HessianCheck, index, 0, 0);
            let batch = network.task.batch(Split::Train, &mut rng)?;
            if !check_hessian(&*network.task, &network.params, &batch, &mut rng)? {
                let name = network.task.name();
                tracing::warn!("second derivatives of task `{name}` are not checked: no f64");
            }
            network.inner_step = staggered(network.horizon, index, config.tasks);
            networks.push(network);
        }
        Ok(Self {
            config,
            source,
            workers,
            networks,
        })
    }
}

impl GradientEstimator for Backprop {
    fn path(&self) -> String {
        "candle autodiff, update in candle ops and its adjoint".to_owned()
    }

    fn estimate(
        &mut self,
        optimizer: &dyn LearnedOptimizer,
        _: u64,
        comm: &dyn Comm,
    ) -> Result<Estimate> {
        let (truncation, source) = (self.config.truncation, &self.source);
        let job = |network: &mut Training| network.advance(source, optimizer, truncation);
        let mut own = vec![];
        for result in self.workers.map(&mut self.networks, job) {
            let (mut gradient, sum, steps) = result?;
            let steps_or_1 = steps.max(1) as f64;
            gradient.iter_mut().for_each(|g| *g /= steps_or_1);
            if gradient.iter().any(|g| !g.is_finite()) {
                tracing::warn!("the meta-gradient of a task overflowed and counts as 0");
                gradient.fill(0.0);
            }
            own.push(Contribution {
                gradient,
                meta_loss: sum / steps_or_1,
                inner_steps: steps,
            });
        }
        let n = optimizer.theta().values().len();
        mean_over_ranks(&own, n, self.config.tasks, comm)
    }

    fn snapshot(&self) -> Result<Snapshot> {
        let mut tensors = vec![];
        let mut counters = vec![];
        for network in &self.networks {
            let prefix = format!("network{}/", network.index);
            tensors.extend(named(&prefix, &network.params, &network.state));
            counters.push(json!({
                "episode": network.episode,
                "inner_step": network.inner_step,
                "horizon": network.horizon,
                "optimizer_steps": network.state.step,
            }));
        }
        Ok(Snapshot {
            description: counters,
            tensors,
        })
    }

    fn restore(
        &mut self,
        description: &Value,
        tensors: &mut BTreeMap<String, Tensor>,
        optimizer: &dyn LearnedOptimizer,
        path: &Path,
    ) -> Result<()> {
        let all: Vec<Counters> = counters(description, self.config.tasks, path)?;
        let mut networks = vec![];
        for index in self.networks.iter().map(|network| network.index) {
            let counters = &all[index as usize];
            let mut network = Training::start(index, counters.episode, &self.source, optimizer)?;
            let mut own = take_prefixed(tensors, &format!("network{index}/"));
            let (template, state) = (&network.params, network.state);
            let step = counters.optimizer_steps;
            (network.params, network.state) = restored(template, state, step, &mut own, path)?;
            network.inner_step = counters.inner_step;
            network.horizon = counters.horizon;
            networks.push(network);
        }
        self.networks = networks;
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Counters {
    episode: u64,
    inner_step: u64,
    horizon: u64,
    optimizer_steps: u64,
}
