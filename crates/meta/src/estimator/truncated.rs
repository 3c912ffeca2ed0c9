//! Evolution strategies on truncated unrolls, with antithetic pairs: persistent (PES) and
//! plain.

use candle_core::{DType, Device, Tensor};
use lopt_core::{LearnedOptimizer, Workers};
use serde::{Deserialize, Serialize};

use super::{
    Contribution, Driver, Estimator, OuterStep, Saved, Settings, Source,
    arithmetic::{es_gradient, pes_gradient},
    config::WithSettings,
    driver::{advance_each, together},
    pair::{Pair, StepRecord, truncations},
    snapshot::{NamedTensors, named},
    unroll::Counters,
};
use crate::{Horizon, Result};

/// Settings of [`TruncatedEs`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TruncatedConfig {
    /// Antithetic pairs, each with its own task and perturbation.
    pub tasks: u64,
    /// Inner steps for one meta-gradient.
    pub truncation: usize,
    /// σ, the standard deviation of the perturbations.
    pub sigma: f64,
    /// Inner steps after which the networks are reset.
    pub horizon: Horizon,
    /// If given, a pair's difference of losses is replaced by its sign times this value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign: Option<f64>,
}

impl WithSettings for TruncatedConfig {
    fn settings(&self) -> Settings {
        Settings {
            tasks: self.tasks,
            horizon: self.horizon,
            truncation: Some(self.truncation),
            sigma: Some(self.sigma),
            sign: self.sign,
        }
    }

    fn new(settings: &Settings) -> Self {
        Self {
            tasks: settings.tasks,
            truncation: settings.truncation_or_default(),
            sigma: settings.sigma_or_default(),
            horizon: settings.horizon,
            sign: settings.sign,
        }
    }
}

/// How a pair continues after a truncation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// PES: each half continues from its own state.
    Persistent,
    /// Truncated ES: both halves continue from the state of the half with θ + ξ.
    Forgetful,
}

/// Evolution strategies on truncations: PES and truncated ES.
///
/// Each of `tasks` antithetic pairs of networks draws ξ ~ N(0, σ²) for the truncation, trains
/// one network with θ + ξ and one with θ − ξ for `truncation` inner steps (default 50, σ 0.01)
/// and contributes, from the mean losses L̄ of its halves,
///
/// * PES: ĝ = (L̄⁺ − L̄⁻)·Σξ / (2σ²) with the sum of the perturbations since the unroll
///   started; unbiased for the smoothed meta-loss of whole unrolls, with a variance that grows
///   with their length ([`pes_gradient`] also treats truncations with a reset);
/// * truncated ES: ĝ = (L̄⁺ − L̄⁻)·ξ / (2σ²); biased towards the short term, because the
///   influence of earlier perturbations is left out ([`es_gradient`]).
///
/// A pair is reset after `horizon` inner steps. At the start of a run, the i-th of N pairs
/// counts as if i/N of its horizon were over, so that resets are spread in time.
///
/// ```
/// use std::sync::Arc;
///
/// use candle_core::Device;
/// use lopt_core::Workers;
/// use lopt_meta::{Alone, Driver, GradientEstimator, Horizon, TruncatedConfig, TruncatedEs};
/// use lopt_star::Star;
/// use lopt_tasks::{DataStore, MlpTask, suite::Suite};
///
/// let (task, _) = Suite::Quick.base();
/// let task = Arc::new(MlpTask::new(task, &mut DataStore::default(), &Device::Cpu)?);
/// let config = TruncatedConfig {
///     tasks: 2,
///     truncation: 10,
///     sigma: 0.01,
///     horizon: Horizon::Constant { steps: 50 },
///     sign: None,
/// };
/// let (star, workers) = (Star::untrained(), Workers::new(None));
/// let estimator = TruncatedEs::pes(config);
/// let mut driver = Driver::new(estimator, 0, Arc::new(task), workers, &star, &Alone)?;
/// let estimate = driver.estimate(&star, 0, &Alone)?;
/// assert_eq!(estimate.gradient.len(), 202);
/// # Ok::<(), lopt_meta::Error>(())
/// ```
///
/// Source: Vicol, Metz & Sohl-Dickstein 2021, arXiv 2112.13835, algorithms 1 and 2.
pub struct TruncatedEs {
    /// How a pair continues after a truncation, which distinguishes PES from truncated ES.
    pub persistence: Persistence,
    /// The settings, which are the same for both.
    pub config: TruncatedConfig,
}

impl TruncatedEs {
    /// Persistent evolution strategies.
    pub fn pes(config: TruncatedConfig) -> Self {
        Self {
            persistence: Persistence::Persistent,
            config,
        }
    }

    /// Truncated evolution strategies.
    pub fn es(config: TruncatedConfig) -> Self {
        Self {
            persistence: Persistence::Forgetful,
            config,
        }
    }

    /// Draws ξ for a truncation, and continues a pair with θ ± ξ.
    fn perturb(&self, kept: &mut Kept, at: &OuterStep) -> Result<Vec<f32>> {
        let xi = at.perturbation(self.config.sigma);
        kept.pair.perturb(at.optimizer, &xi)?;
        Ok(xi)
    }

    /// What a pair contributes after a truncation with these steps.
    fn contribution(
        &self,
        kept: &mut Kept,
        xi: Vec<f32>,
        records: &[StepRecord],
    ) -> Result<Contribution> {
        let Kept { pair, accumulated } = kept;
        let TruncatedConfig { sigma, sign, .. } = self.config;
        let xi: Vec<f64> = xi.into_iter().map(f64::from).collect();
        let gradient = match self.persistence {
            Persistence::Persistent => {
                let (gradient, sum) = pes_gradient(records, accumulated, &xi, sigma, sign);
                *accumulated = sum;
                gradient
            }
            Persistence::Forgetful => {
                let (params, state) = pair.half(0)?;
                pair.restore(1, &params, state)?;
                es_gradient(records, &xi, sigma, sign)
            }
        };
        let unmasked = 2 * records.iter().filter(|record| !record.masked).count();
        let losses: f64 = records.iter().flat_map(|r| r.losses).map(f64::from).sum();
        Ok(Contribution {
            gradient,
            meta_loss: losses / unmasked.max(2) as f64,
            inner_steps: unmasked as u64,
        })
    }
}

/// A pair between truncations.
pub struct Kept {
    pair: Pair,
    /// The sum of the perturbations since the unroll started.
    accumulated: Vec<f64>,
}

/// The halves of a pair, as checkpoints name them.
const HALVES: [&str; 2] = ["plus/", "minus/"];

impl Estimator for TruncatedEs {
    const KEPT: Option<&'static str> = Some("pair");
    const IN_PAIRS: bool = true;
    type Unroll = Kept;
    type Counters = Counters<[u64; 2]>;

    fn settings(&self) -> Settings {
        self.config.settings()
    }

    fn path(&self, source: &Source, optimizer: &dyn LearnedOptimizer) -> Result<String> {
        Pair::path(source, optimizer)
    }

    fn start(&self, index: u64, source: &Source, optimizer: &dyn LearnedOptimizer) -> Result<Kept> {
        let mut pair = Pair::start(index, 0, source, optimizer)?;
        pair.episode.stagger(self.config.tasks);
        Ok(Kept {
            pair,
            accumulated: vec![0.0; optimizer.theta().values().len()],
        })
    }

    fn advance(&self, kept: &mut Kept, at: &OuterStep) -> Result<Contribution> {
        let xi = self.perturb(kept, at)?;
        let length = self.config.truncation;
        let records = kept.pair.truncation(at.source, length)?;
        self.contribution(kept, xi, &records)
    }

    fn advance_all(
        &self,
        mut tasks: Vec<(&mut Kept, OuterStep)>,
        workers: Workers,
    ) -> Result<Vec<Contribution>> {
        let Some((source, all)) = together(&tasks) else {
            return advance_each(self, tasks, workers);
        };
        let perturbations = tasks.iter_mut().map(|(kept, at)| self.perturb(kept, at));
        let perturbations: Vec<_> = perturbations.collect::<Result<_>>()?;
        let mut pairs: Vec<_> = tasks.iter_mut().map(|(kept, _)| &mut kept.pair).collect();
        let lengths = vec![self.config.truncation; pairs.len()];
        let records = truncations(all, &mut pairs, source, &lengths)?;
        let tasks = tasks.into_iter().zip(perturbations).zip(&records);
        tasks
            .map(|(((kept, _), xi), records)| self.contribution(kept, xi, records))
            .collect()
    }

    fn save(&self, kept: &Kept) -> Result<(Self::Counters, NamedTensors)> {
        let mut tensors = vec![];
        let mut steps = [0; 2];
        for (half, (prefix, step)) in HALVES.into_iter().zip(&mut steps).enumerate() {
            let (params, state) = kept.pair.half(half)?;
            *step = state.step;
            tensors.extend(named(prefix, &params, &state));
        }
        let sum = Tensor::from_slice(&kept.accumulated, kept.accumulated.len(), &Device::Cpu)?;
        tensors.push(("perturbation".to_owned(), sum));
        Ok((kept.pair.episode.counters(steps), tensors))
    }

    fn restore(
        &self,
        index: u64,
        counters: Self::Counters,
        saved: &mut Saved,
        source: &Source,
        optimizer: &dyn LearnedOptimizer,
    ) -> Result<Kept> {
        let mut pair = Pair::start(index, counters.episode, source, optimizer)?;
        pair.episode.restore(&counters);
        let n = optimizer.theta().values().len();
        let fits = |sum: &Tensor| sum.dims() == [n] && sum.dtype() == DType::F64;
        let accumulated = saved.take("perturbation", fits)?.to_vec1()?;
        let halves = HALVES.into_iter().zip(counters.optimizer_steps);
        for (half, (prefix, step)) in halves.enumerate() {
            let (params, state) = pair.half(half)?;
            let (params, state) = saved.network(prefix, &params, state, step)?;
            pair.restore(half, &params, state)?;
        }
        Ok(Kept { pair, accumulated })
    }
}

impl Driver<TruncatedEs> {
    /// Starts this rank's pairs as if these numbers of inner steps had been taken.
    pub fn with_inner_steps(mut self, inner_steps: &[u64]) -> Self {
        for (kept, &inner_step) in self.unrolls.iter_mut().zip(inner_steps) {
            kept.pair.episode.inner_step = inner_step;
        }
        self
    }
}
