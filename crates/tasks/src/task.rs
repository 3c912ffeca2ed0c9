use std::sync::Arc;

use candle_core::{DType, Tensor};
use lopt_core::{Grads, Params, Result, Rng};

use crate::{NativeTask, second_order};

/// The tensors of one minibatch, as the task's own loss understands them.
pub type Batch = Vec<Tensor>;

/// Which part of the data a batch is drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// What the inner training sees.
    Train,
    /// What it does not.
    Test,
}

/// How a trained network does on the whole test set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TestScore {
    /// Mean loss.
    pub loss: f32,
    /// Fraction of right answers, in \[0, 1\].
    pub accuracy: f32,
}

/// The highest loss that a task without a better bound counts.
const LOSS_CEILING: f32 = 1e3;

/// A model, its data and its loss: what an optimizer works on.
///
/// Everything random comes out of the generator that is passed in. Only [`Task::init`],
/// [`Task::batch`] and [`Task::loss`] are required.
pub trait Task: Send + Sync {
    /// Fresh inner parameters φ.
    ///
    /// # Errors
    /// Those of candle.
    fn init(&self, rng: &mut Rng) -> Result<Params>;

    /// A minibatch.
    ///
    /// # Errors
    /// Those of candle.
    fn batch(&self, split: Split, rng: &mut Rng) -> Result<Batch>;

    /// The loss of φ on a batch, a scalar, in candle ops.
    ///
    /// # Errors
    /// Those of candle, or if a parameter is missing.
    fn loss(&self, params: &Params, batch: &Batch) -> Result<Tensor>;

    /// The loss and its gradient; by candle's autodiff unless the task knows better.
    ///
    /// # Errors
    /// As [`Task::loss`].
    fn loss_and_grad(&self, params: &Params, batch: &Batch) -> Result<(f32, Grads)> {
        let (tracked, vars) = params.tracked()?;
        let loss = self.loss(&tracked, batch)?;
        let store = loss.backward()?;
        let value = loss.detach().to_dtype(DType::F32)?.to_scalar()?;
        Ok((value, Grads::from_store(&vars, &store)))
    }

    /// H·v, the Hessian of the loss in φ times `v`, which is in the order of `params`; by
    /// candle's autodiff twice unless the task knows better.
    ///
    /// # Errors
    /// As [`Task::loss`], or if candle's second derivatives are wrong in this process; see
    /// [`lopt_core::second_derivatives`].
    fn hessian_vector(&self, params: &Params, batch: &Batch, v: &[Tensor]) -> Result<Vec<Tensor>> {
        second_order::by_autodiff_twice(self, params, batch, v)
    }

    /// The same task on plain memory, if there is such a form of it.
    fn native(self: Arc<Self>) -> Option<Arc<dyn NativeTask>> {
        None
    }

    /// The loss as the meta-loss counts it: bounded, and the bound for NaN and ±inf, so
    /// that one diverged network does not drown the others.
    fn normalize(&self, loss: f32) -> f32 {
        if loss.is_finite() {
            loss.clamp(-LOSS_CEILING, LOSS_CEILING)
        } else {
            LOSS_CEILING
        }
    }

    /// The derivative of [`Task::normalize`]; 1 where it leaves the loss as it is, 0 where it
    /// does not, which is right for every bound.
    fn normalize_slope(&self, loss: f32) -> f32 {
        f32::from(self.normalize(loss) == loss)
    }

    /// How φ does on the whole test set, for tasks that have one.
    ///
    /// # Errors
    /// As [`Task::loss`].
    fn test(&self, _params: &Params) -> Result<Option<TestScore>> {
        Ok(None)
    }

    /// A short name that tells the task from its siblings.
    fn name(&self) -> String {
        "task".to_owned()
    }
}
