//! Estimators of the meta-gradient.
//!
//! An [`Estimator`] says what one task contributes; [`Driver`] does the rest: workers, ranks and
//! checkpoints. To add an estimator, write one file with its configuration and its
//! `impl Estimator`, and add its `mod`, its `pub use` and its line of the table to this one.

mod adjoint;
mod arithmetic;
mod backprop;
mod config;
mod driver;
mod full;
mod inner_step;
mod pair;
mod snapshot;
mod together;
mod truncated;
mod unroll;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use candle_core::Tensor;
use lopt_core::{LearnedOptimizer, Workers};
use lopt_tasks::TaskFamily;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use config::WithSettings;

pub use adjoint::{MetaGradient, MetaLoss, MetaObjective, meta_gradient};
pub use arithmetic::{UnrollLoss, es_gradient, full_es_gradient, pes_gradient};
pub use backprop::{Backprop, BackpropConfig};
pub use config::Settings;
pub use driver::{Driver, Estimator, OuterStep};
pub use full::{FullEs, FullEsConfig};
pub use inner_step::{Adjoint, LinearizedStep};
pub use pair::StepRecord;
pub use snapshot::{NamedTensors, Saved, Snapshot};
pub use together::Contribution;
pub use truncated::{Persistence, TruncatedConfig, TruncatedEs};
pub use unroll::{Episode, Source};

use crate::{Comm, Result};

config::estimators! {
    /// Persistent evolution strategies: unbiased from truncations.
    Pes(TruncatedConfig) = "pes" => TruncatedEs::pes;
    /// Truncated evolution strategies.
    Es(TruncatedConfig) = "es" => TruncatedEs::es;
    /// Evolution strategies on whole unrolls.
    FullEs(FullEsConfig) = "full-es" => FullEs;
    /// Truncated backpropagation through the unroll.
    Backprop(BackpropConfig) = "backprop" => Backprop;
}

/// A meta-gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// One entry for each meta-parameter.
    pub gradient: Vec<f64>,
    /// Mean over tasks of the mean over both halves and unmasked steps of the normalized
    /// training loss.
    pub meta_loss: f64,
    /// Inner steps taken, both halves counted.
    pub inner_steps: u64,
}

/// Estimates the gradient of the meta-loss with respect to θ, one truncation at a time.
///
/// Everything random is keyed by the outer step, so an estimator restored from a snapshot
/// continues with the same bits.
pub trait GradientEstimator: Send {
    /// How inner steps are taken, such as "native loss, avx512 update".
    fn path(&self) -> String;

    /// Advances this rank's tasks by one truncation at θ = `optimizer.theta()` and returns the
    /// mean over the tasks of all ranks.
    ///
    /// # Errors
    /// Returns an error if a task or the optimizer fails, or if another rank cannot be reached.
    fn estimate(
        &mut self,
        optimizer: &dyn LearnedOptimizer,
        outer_step: u64,
        comm: &dyn Comm,
    ) -> Result<Estimate>;

    /// The state of this rank's tasks.
    ///
    /// # Errors
    /// Returns an error if a tensor operation fails.
    fn snapshot(&self) -> Result<Snapshot>;

    /// Takes the state of this rank's tasks from a checkpoint; `self` changes only on success.
    ///
    /// # Errors
    /// Returns an error that names `path` if something is missing or has the wrong shape.
    fn restore(
        &mut self,
        description: &Value,
        tensors: &mut BTreeMap<String, Tensor>,
        optimizer: &dyn LearnedOptimizer,
        path: &Path,
    ) -> Result<()>;
}
