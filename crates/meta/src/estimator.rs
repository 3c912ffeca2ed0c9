//! Estimators of the meta-gradient.

mod adjoint;
mod arithmetic;
mod backprop;
mod full;
mod inner_step;
mod networks;
mod perturbed;
mod together;
mod truncated;
pub mod unroll;

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use candle_core::{Device, Tensor, safetensors::Load};
use lopt_core::{LearnedOptimizer, Workers};
use lopt_tasks::TaskFamily;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use adjoint::{MetaGradient, MetaLoss, meta_gradient};
pub use arithmetic::{UnrollLoss, es_gradient, full_es_gradient, pes_gradient};
pub use backprop::{Backprop, BackpropConfig};
pub use full::{FullEs, FullEsConfig};
pub use inner_step::{Adjoint, LinearizedStep};
pub use truncated::{Persistence, TruncatedConfig, TruncatedEs};

use crate::{Comm, Error, Horizon, Result};

/// A meta-gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// One entry for each meta-parameter.
    pub gradient: Vec<f64>,
    /// Mean over tasks of the mean over both halves and unmasked steps of the normalised
    /// training loss.
    pub meta_loss: f64,
    /// Inner steps taken, both halves counted.
    pub inner_steps: u64,
}

/// An estimator's own state, as a checkpoint holds it.
pub struct Snapshot {
    /// Counters of each task; empty if there are none.
    pub description: Vec<Value>,
    /// Networks, accumulators, perturbations, by unique names.
    pub tensors: Vec<(String, Tensor)>,
}

impl Snapshot {
    /// The snapshots of all ranks in one, in the order of the tasks, on rank 0; `None` on
    /// the others.
    ///
    /// # Errors
    /// If a rank is gone.
    pub fn gathered(mut self, comm: &dyn Comm) -> Result<Option<Snapshot>> {
        if comm.size() == 1 {
            return Ok(Some(self));
        }
        let first = comm.rank() == 0;
        let own = if first { vec![] } else { self.to_bytes()? };
        let all = comm.gather(own)?;
        for bytes in all.iter().skip(1) {
            let mut other = Self::from_bytes(bytes)?;
            self.description.append(&mut other.description);
            self.tensors.append(&mut other.tensors);
        }
        Ok(first.then_some(self))
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        let description = Value::Array(self.description.clone()).to_string();
        let metadata = HashMap::from([("description".to_owned(), description)]);
        let views = self.tensors.iter().map(|(name, tensor)| (name, tensor));
        safetensors::serialize(views, Some(metadata)).map_err(between_ranks)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(between_ranks)?;
        let text = header
            .metadata()
            .as_ref()
            .and_then(|m| m.get("description"));
        let description = serde_json::from_str(text.map_or("", String::as_str));
        let mut tensors = vec![];
        for (name, view) in SafeTensors::deserialize(bytes)
            .map_err(between_ranks)?
            .iter()
        {
            tensors.push((name.to_owned(), view.load(&Device::Cpu)?));
        }
        Ok(Self {
            description: description.map_err(between_ranks)?,
            tensors,
        })
    }
}

fn between_ranks(error: impl std::fmt::Display) -> Error {
    Error::Ranks(format!("a snapshot was damaged on its way: {error}"))
}

/// Estimates the gradient of the meta-loss in θ, one truncation at a time.
///
/// Everything random is keyed by the outer step, so an estimator that was restored from a
/// snapshot goes on with the same bits.
pub trait GradientEstimator: Send {
    /// How inner steps are taken, such as "native loss, avx512 update".
    fn path(&self) -> String;

    /// One truncation at θ = `optimizer.theta()` of the tasks that this rank owns, and the
    /// mean over the tasks of all ranks.
    ///
    /// # Errors
    /// Those of the tasks, of the optimizer and of the other ranks.
    fn estimate(
        &mut self,
        optimizer: &dyn LearnedOptimizer,
        outer_step: u64,
        comm: &dyn Comm,
    ) -> Result<Estimate>;

    /// The state of the tasks that this rank owns.
    ///
    /// # Errors
    /// Those of candle.
    fn snapshot(&self) -> Result<Snapshot>;

    /// Takes the state of the tasks that this rank owns out of a checkpoint's content.
    ///
    /// # Errors
    /// If something is missing or of another shape; the message names `path`.
    fn restore(
        &mut self,
        description: &Value,
        tensors: &mut BTreeMap<String, Tensor>,
        optimizer: &dyn LearnedOptimizer,
        path: &Path,
    ) -> Result<()>;
}

/// Which estimator, and how it unrolls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum EstimatorConfig {
    /// Persistent evolution strategies: unbiased, from truncations.
    Pes(TruncatedConfig),
    /// Truncated evolution strategies.
    Es(TruncatedConfig),
    /// Evolution strategies on whole unrolls.
    FullEs(FullEsConfig),
    /// Truncated backpropagation through the unroll.
    Backprop(BackpropConfig),
}

/// An [`EstimatorConfig`] without its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EstimatorKind {
    /// [`EstimatorConfig::Pes`]
    Pes,
    /// [`EstimatorConfig::Es`]
    Es,
    /// [`EstimatorConfig::FullEs`]
    FullEs,
    /// [`EstimatorConfig::Backprop`]
    Backprop,
}

impl EstimatorKind {
    /// All kinds.
    pub const ALL: [EstimatorKind; 4] = [Self::Pes, Self::Es, Self::FullEs, Self::Backprop];

    /// The name, as users type it and configurations spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pes => "pes",
            Self::Es => "es",
            Self::FullEs => "full-es",
            Self::Backprop => "backprop",
        }
    }
}

/// Inner steps of a truncation where another estimator's configuration has none.
const TRUNCATION: usize = 50;
/// σ where another estimator's configuration has none.
const SIGMA: f64 = 0.01;

impl EstimatorConfig {
    /// Networks, or pairs of them.
    pub fn tasks(&self) -> u64 {
        match self {
            Self::Pes(c) | Self::Es(c) => c.tasks,
            Self::FullEs(c) => c.tasks,
            Self::Backprop(c) => c.tasks,
        }
    }

    /// Inner steps until the networks start afresh.
    pub fn horizon(&self) -> Horizon {
        match self {
            Self::Pes(c) | Self::Es(c) => c.horizon,
            Self::FullEs(c) => c.horizon,
            Self::Backprop(c) => c.horizon,
        }
    }

    fn truncation(&self) -> Option<usize> {
        match self {
            Self::Pes(c) | Self::Es(c) => Some(c.truncation),
            Self::FullEs(_) => None,
            Self::Backprop(c) => Some(c.truncation),
        }
    }

    fn sigma(&self) -> Option<f64> {
        match self {
            Self::Pes(c) | Self::Es(c) => Some(c.sigma),
            Self::FullEs(c) => Some(c.sigma),
            Self::Backprop(_) => None,
        }
    }

    fn sign(&self) -> Option<f64> {
        match self {
            Self::Pes(c) | Self::Es(c) => c.sign,
            Self::FullEs(c) => c.sign,
            Self::Backprop(_) => None,
        }
    }

    /// Another estimator with what both have in common; a truncation is of 50 steps and σ
    /// 0.01 where this one has none.
    pub fn of_kind(&self, kind: EstimatorKind) -> Self {
        let (tasks, horizon) = (self.tasks(), self.horizon());
        let truncation = self.truncation().unwrap_or(TRUNCATION);
        let sigma = self.sigma().unwrap_or(SIGMA);
        let sign = self.sign();
        let truncated = TruncatedConfig {
            tasks,
            truncation,
            sigma,
            horizon,
            sign,
        };
        match kind {
            EstimatorKind::Pes => Self::Pes(truncated),
            EstimatorKind::Es => Self::Es(truncated),
            EstimatorKind::FullEs => Self::FullEs(FullEsConfig {
                tasks,
                sigma,
                horizon,
                loss: UnrollLoss::Mean,
                clip: None,
                sign,
            }),
            EstimatorKind::Backprop => Self::Backprop(BackpropConfig {
                tasks,
                truncation,
                horizon,
            }),
        }
    }

    /// Refuses values that make no sense.
    ///
    /// # Errors
    /// [`Error::Config`] with the key.
    pub fn check(&self) -> Result<()> {
        let require = |ok: bool, key: &str, must: &str| match ok {
            true => Ok(()),
            false => Err(Error::Config(format!("`estimator.{key}` must be {must}"))),
        };
        let positive = |x: f64| x > 0.0 && x.is_finite();
        require(self.tasks() >= 1, "tasks", "at least 1")?;
        let truncation = self.truncation().is_none_or(|steps| steps >= 1);
        require(truncation, "truncation", "at least 1")?;
        let sigma = self.sigma().is_none_or(positive);
        require(sigma, "sigma", "positive and finite")?;
        let sign = self.sign().is_none_or(positive);
        require(sign, "sign", "positive and finite")?;
        if let Self::FullEs(config) = self {
            let clip = config.clip.is_none_or(positive);
            require(clip, "clip", "positive and finite")?;
        }
        let horizon = match self.horizon() {
            Horizon::Constant { steps } => steps >= 1,
            Horizon::LogUniform { min, max } => 1 <= min && min <= max,
        };
        require(horizon, "horizon", "at least 1, and min ≤ max")
    }

    /// The estimator at the start of a run.
    ///
    /// # Errors
    /// Those of the tasks.
    pub fn start(
        &self,
        seed: u64,
        family: Arc<dyn TaskFamily>,
        workers: Workers,
        optimizer: &dyn LearnedOptimizer,
        comm: &dyn Comm,
    ) -> Result<Box<dyn GradientEstimator>> {
        let truncated = |persistence, config: &TruncatedConfig| {
            TruncatedEs::new(
                persistence,
                config.clone(),
                seed,
                family.clone(),
                workers,
                optimizer,
                comm,
            )
        };
        Ok(match self {
            Self::Pes(config) => Box::new(truncated(Persistence::Persistent, config)?),
            Self::Es(config) => Box::new(truncated(Persistence::Forgetful, config)?),
            Self::FullEs(config) => Box::new(FullEs::new(
                config.clone(),
                seed,
                family,
                workers,
                optimizer,
                comm,
            )?),
            Self::Backprop(config) => Box::new(Backprop::new(
                config.clone(),
                seed,
                family,
                workers,
                optimizer,
                comm,
            )?),
        })
    }
}
