//! Evolution strategies on truncated unrolls, with antithetic pairs: persistent ones (PES,
//! Vicol et al. 2021, arXiv 2112.13835) and plain ones.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use candle_core::{Device, Tensor};
use lopt_core::{LearnedOptimizer, Streams, Workers};
use lopt_tasks::TaskFamily;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Estimate, GradientEstimator, Snapshot,
    arithmetic::{es_gradient, pes_gradient},
    networks::{counters, damaged, named, restored, take_prefixed},
    perturbed::{HALVES, antithetic, contribution, perturbation, unperturbed},
    together::{Contribution, mean_over_ranks},
    unroll::{Source, Unroll, staggered},
};
use crate::{Comm, Horizon, Result, share};

/// How evolution strategies unroll.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TruncatedConfig {
    /// Antithetic pairs, each with its own task and perturbation.
    pub tasks: u64,
    /// Inner steps for one meta-gradient.
    pub truncation: usize,
    /// σ, the standard deviation of the perturbations.
    pub sigma: f64,
    /// Inner steps until the networks start afresh.
    pub horizon: Horizon,
    /// If given, a pair's difference of losses is replaced by its sign times this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign: Option<f64>,
}

/// What becomes of a pair after a truncation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// PES: both halves go on, and the perturbations that they saw add up; unbiased.
    Persistent,
    /// Truncated ES: both halves go on from where θ + ξ came; what earlier perturbations
    /// did is forgotten, which is a bias towards the short term.
    Forgetful,
}

/// The estimator: `tasks` pairs of networks in the middle of their training.
pub struct TruncatedEs {
    persistence: Persistence,
    config: TruncatedConfig,
    source: Source,
    workers: Workers,
    pairs: Vec<Pair>,
}

struct Pair {
    unroll: Unroll,
    /// The sum of the perturbations since the unroll started.
    accumulated: Vec<f64>,
}

impl TruncatedEs {
    /// Fresh networks; the i-th of N pairs counts as if i/N of its horizon were over, so
    /// that resets are spread in time.
    ///
    /// # Errors
    /// Those of the tasks.
    pub fn new(
        persistence: Persistence,
        config: TruncatedConfig,
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
        let both = unperturbed(optimizer)?;
        let mut pairs = vec![];
        for index in share(comm, config.tasks) {
            let mut unroll = Unroll::start(index, 0, &source, both.clone())?;
            unroll.inner_step = staggered(unroll.horizon, index, config.tasks);
            pairs.push(Pair {
                unroll,
                accumulated: vec![0.0; optimizer.theta().values().len()],
            });
        }
        Ok(Self {
            persistence,
            config,
            source,
            workers,
            pairs,
        })
    }

    /// Starts its pairs as if these numbers of inner steps were over.
    pub fn with_inner_steps(mut self, inner_steps: &[u64]) -> Self {
        for (pair, &inner_step) in self.pairs.iter_mut().zip(inner_steps) {
            pair.unroll.inner_step = inner_step;
        }
        self
    }

    /// [`GradientEstimator::estimate`] with given perturbations, one for each of its pairs.
    ///
    /// # Errors
    /// As [`GradientEstimator::estimate`].
    pub fn estimate_with(
        &mut self,
        optimizer: &dyn LearnedOptimizer,
        perturbations: &[Vec<f32>],
        comm: &dyn Comm,
    ) -> Result<Estimate> {
        let (persistence, config, source) = (self.persistence, &self.config, &self.source);
        let job = |(pair, fresh): (&mut Pair, &Vec<f32>)| {
            pair.advance(persistence, config, source, optimizer, fresh)
        };
        let jobs = self.pairs.iter_mut().zip(perturbations);
        let own: Result<Vec<_>> = self.workers.map(jobs, job).into_iter().collect();
        let n = optimizer.theta().values().len();
        mean_over_ranks(&own?, n, self.config.tasks, comm)
    }
}

impl Pair {
    fn advance(
        &mut self,
        persistence: Persistence,
        config: &TruncatedConfig,
        source: &Source,
        optimizer: &dyn LearnedOptimizer,
        fresh: &[f32],
    ) -> Result<Contribution> {
        self.unroll.set_optimizers(antithetic(optimizer, fresh)?)?;
        let records = self.unroll.truncation(source, config.truncation)?;
        let fresh: Vec<f64> = fresh.iter().map(|&xi| f64::from(xi)).collect();
        let (sigma, sign) = (config.sigma, config.sign);
        let gradient = match persistence {
            Persistence::Persistent => {
                let (gradient, accumulated) =
                    pes_gradient(&records, &self.accumulated, &fresh, sigma, sign);
                self.accumulated = accumulated;
                gradient
            }
            Persistence::Forgetful => {
                let [plus, minus] = &mut self.unroll.halves;
                minus.restore(&plus.params()?, plus.state()?)?;
                es_gradient(&records, &fresh, sigma, sign)
            }
        };
        Ok(contribution(gradient, &records))
    }
}

impl GradientEstimator for TruncatedEs {
    fn path(&self) -> String {
        let first = self.pairs.first();
        first.map_or_else(String::new, |pair| pair.unroll.halves[0].path())
    }

    fn estimate(
        &mut self,
        optimizer: &dyn LearnedOptimizer,
        outer_step: u64,
        comm: &dyn Comm,
    ) -> Result<Estimate> {
        let n = optimizer.theta().values().len();
        let (streams, sigma) = (self.source.streams, self.config.sigma);
        let of_pair = |pair: &Pair| perturbation(streams, sigma, outer_step, pair.unroll.index, n);
        let perturbations: Vec<_> = self.pairs.iter().map(of_pair).collect();
        self.estimate_with(optimizer, &perturbations, comm)
    }

    fn snapshot(&self) -> Result<Snapshot> {
        let mut tensors = vec![];
        let mut counters = vec![];
        for Pair {
            unroll,
            accumulated,
        } in &self.pairs
        {
            let index = unroll.index;
            let mut steps = [0; 2];
            for ((half, side), step) in unroll.halves.iter().zip(HALVES).zip(&mut steps) {
                let (params, state) = (half.params()?, half.state()?);
                *step = state.step;
                tensors.extend(named(&format!("pair{index}/{side}/"), &params, &state));
            }
            counters.push(json!({
                "episode": unroll.episode,
                "inner_step": unroll.inner_step,
                "horizon": unroll.horizon,
                "optimizer_steps": steps,
            }));
            let accumulated = Tensor::from_slice(accumulated, accumulated.len(), &Device::Cpu)?;
            tensors.push((format!("pair{index}/perturbation"), accumulated));
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
        let n = optimizer.theta().values().len();
        let both = unperturbed(optimizer)?;
        let mut pairs = vec![];
        for index in self.pairs.iter().map(|pair| pair.unroll.index) {
            let counters = &all[index as usize];
            let episode = counters.episode;
            let mut unroll = Unroll::start(index, episode, &self.source, both.clone())?;
            unroll.inner_step = counters.inner_step;
            unroll.horizon = counters.horizon;
            let mut own = take_prefixed(tensors, &format!("pair{index}/"));
            let accumulated = own
                .remove("perturbation")
                .and_then(|t| t.to_vec1::<f64>().ok())
                .filter(|accumulated| accumulated.len() == n)
                .ok_or_else(|| damaged(path, &format!("pair{index}/perturbation")))?;
            for (side, half) in unroll.halves.iter_mut().enumerate() {
                let mut of_half = take_prefixed(&mut own, &format!("{}/", HALVES[side]));
                let (template, state) = (half.params()?, half.state()?);
                let step = counters.optimizer_steps[side];
                let (params, state) = restored(&template, state, step, &mut of_half, path)?;
                half.restore(&params, state)?;
            }
            pairs.push(Pair {
                unroll,
                accumulated,
            });
        }
        self.pairs = pairs;
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Counters {
    episode: u64,
    inner_step: u64,
    horizon: u64,
    optimizer_steps: [u64; 2],
}
