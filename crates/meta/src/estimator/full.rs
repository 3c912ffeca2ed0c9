//! Evolution strategies on whole unrolls.

use std::{collections::BTreeMap, ops::Range, path::Path, sync::Arc};

use candle_core::Tensor;
use lopt_core::{LearnedOptimizer, Streams, Workers};
use lopt_tasks::TaskFamily;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Estimate, GradientEstimator, Snapshot,
    arithmetic::{UnrollLoss, full_es_gradient},
    perturbed::{antithetic, perturbation, unperturbed},
    together::{Contribution, mean_over_ranks},
    unroll::{Source, Unroll},
};
use crate::{Comm, Horizon, Result, share};

/// How full-horizon evolution strategies unroll.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FullEsConfig {
    /// Antithetic pairs, each with its own task and perturbation.
    pub tasks: u64,
    /// σ, the standard deviation of the perturbations.
    pub sigma: f64,
    /// Inner steps of each unroll.
    pub horizon: Horizon,
    /// Which loss of an unroll counts.
    #[serde(default)]
    pub loss: UnrollLoss,
    /// If given, a pair's difference of losses is limited to ± this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// If given, a pair's difference of losses is replaced by its sign times this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign: Option<f64>,
}

/// The estimator. Every estimate starts fresh networks: there is nothing to go on from.
pub struct FullEs {
    config: FullEsConfig,
    source: Source,
    workers: Workers,
    own: Range<u64>,
    path: String,
}

impl FullEs {
    /// Unrolls of the run with this seed.
    ///
    /// # Errors
    /// Those of the tasks.
    pub fn new(
        config: FullEsConfig,
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
        let unroll = Unroll::start(0, 0, &source, unperturbed(optimizer)?)?;
        Ok(Self {
            own: share(comm, config.tasks),
            config,
            source,
            workers,
            path: unroll.halves[0].path(),
        })
    }

    /// What one pair says.
    fn pair(
        &self,
        optimizer: &dyn LearnedOptimizer,
        outer_step: u64,
        index: u64,
        fresh: &[f32],
    ) -> Result<Contribution> {
        // Each outer step is an episode: tasks, starts and batches of its own.
        let both = antithetic(optimizer, fresh)?;
        let mut unroll = Unroll::start(index, outer_step, &self.source, both)?;
        let horizon = unroll.horizon;
        let records = unroll.truncation(&self.source, horizon as usize)?;
        let losses = [0, 1].map(|half| {
            let of_half = records.iter().map(|record| f64::from(record.losses[half]));
            self.config.loss.of(of_half)
        });
        let fresh: Vec<f64> = fresh.iter().map(|&xi| f64::from(xi)).collect();
        let FullEsConfig {
            sigma, clip, sign, ..
        } = self.config;
        Ok(Contribution {
            gradient: full_es_gradient(losses, &fresh, sigma, clip, sign),
            meta_loss: (losses[0] + losses[1]) / 2.0,
            inner_steps: 2 * horizon,
        })
    }

    /// [`GradientEstimator::estimate`] with given perturbations, one for each of its pairs.
    ///
    /// # Errors
    /// As [`GradientEstimator::estimate`].
    pub fn estimate_with(
        &self,
        optimizer: &dyn LearnedOptimizer,
        outer_step: u64,
        perturbations: &[Vec<f32>],
        comm: &dyn Comm,
    ) -> Result<Estimate> {
        let jobs = self.own.clone().zip(perturbations);
        let job = |(index, fresh): (u64, &Vec<f32>)| self.pair(optimizer, outer_step, index, fresh);
        let own: Result<Vec<_>> = self.workers.map(jobs, job).into_iter().collect();
        let n = optimizer.theta().values().len();
        mean_over_ranks(&own?, n, self.config.tasks, comm)
    }
}

impl GradientEstimator for FullEs {
    fn path(&self) -> String {
        self.path.clone()
    }

    fn estimate(
        &mut self,
        optimizer: &dyn LearnedOptimizer,
        outer_step: u64,
        comm: &dyn Comm,
    ) -> Result<Estimate> {
        let n = optimizer.theta().values().len();
        let (streams, sigma) = (self.source.streams, self.config.sigma);
        let of_pair = |index| perturbation(streams, sigma, outer_step, index, n);
        let perturbations: Vec<_> = self.own.clone().map(of_pair).collect();
        self.estimate_with(optimizer, outer_step, &perturbations, comm)
    }

    fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot {
            description: vec![],
            tensors: vec![],
        })
    }

    fn restore(
        &mut self,
        _: &Value,
        _: &mut BTreeMap<String, Tensor>,
        _: &dyn LearnedOptimizer,
        _: &Path,
    ) -> Result<()> {
        Ok(())
    }
}
