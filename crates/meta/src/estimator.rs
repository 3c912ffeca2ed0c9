use std::{collections::BTreeMap, path::Path};

use candle_core::Tensor;
use lopt_core::LearnedOptimizer;
use serde_json::Value;

use crate::Result;

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
    /// Counters.
    pub description: Value,
    /// Networks, accumulators, perturbations, by unique names.
    pub tensors: Vec<(String, Tensor)>,
}

/// Estimates the gradient of the meta-loss in θ, one truncation at a time.
///
/// Everything random is keyed by the outer step, so an estimator that was restored from a
/// snapshot goes on with the same bits.
pub trait GradientEstimator: Send {
    /// One truncation at θ = `optimizer.theta()`.
    ///
    /// # Errors
    /// Those of the tasks and of the optimizer.
    fn estimate(&mut self, optimizer: &dyn LearnedOptimizer, outer_step: u64) -> Result<Estimate>;

    /// The state.
    ///
    /// # Errors
    /// Those of candle.
    fn snapshot(&self) -> Result<Snapshot>;

    /// Takes the state out of a checkpoint's content.
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
