use std::sync::Arc;

use candle_core::{DType, Tensor};
use lopt_core::{Grads, Params, Result, Rng};

use crate::{MlpTask, NativeTask, second_order};

/// The tensors of one minibatch, in the form that the task's loss expects.
pub type Batch = Vec<Tensor>;

/// The part of the data that a batch is drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Training data.
    Train,
    /// Test data.
    Test,
}

/// The score of a trained network on the test set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TestScore {
    /// Mean loss.
    pub loss: f32,
    /// Fraction of correct predictions; for real-valued targets, the fraction of their variance that
    /// the predictions explain (R², at least 0). In \[0, 1\].
    pub accuracy: f32,
}

/// The default bound of [`Task::normalize`].
const LOSS_CEILING: f32 = 1e3;

/// A model, its data and its loss ℓ(φ, batch), which an optimizer minimizes over φ.
///
/// Implement [`Task::init`], [`Task::batch`] and [`Task::loss`]; all other methods have defaults.
/// Everything random comes from the generator that is passed in, so that the same generator gives
/// the same start and the same batches.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use lopt_core::{Params, Purpose, Result, Rng, Streams, normal};
/// use lopt_tasks::{Batch, Split, Task};
///
/// /// Fits w \[1, 1\] to noisy samples of the line 3x.
/// struct Line;
///
/// impl Task for Line {
///     fn init(&self, _: &mut Rng) -> Result<Params> {
///         let w = Tensor::zeros((1, 1), DType::F32, &Device::Cpu)?;
///         Params::new([("w".to_owned(), w)])
///     }
///
///     /// x and y, each \[16, 1\].
///     fn batch(&self, _: Split, rng: &mut Rng) -> Result<Batch> {
///         let x: Vec<f32> = (0..16).map(|_| normal(rng)).collect();
///         let y: Vec<f32> = x.iter().map(|x| 3.0 * x + 0.1 * normal(rng)).collect();
///         let column = |values| Tensor::from_vec(values, (16, 1), &Device::Cpu);
///         Ok(vec![column(x)?, column(y)?])
///     }
///
///     fn loss(&self, params: &Params, batch: &Batch) -> Result<Tensor> {
///         let predicted = batch[0].matmul(params.get("w")?)?;
///         Ok((predicted - &batch[1])?.sqr()?.mean_all()?)
///     }
/// }
///
/// # fn main() -> Result<()> {
/// use lopt_core::Optimizer;
/// let star = lopt_star::Star::default();
/// let mut rng = Streams::new(0).stream(Purpose::InnerBatch, 0, 0, 0);
/// let mut params = Line.init(&mut rng)?;
/// let mut state = star.init(&params)?;
/// for _ in 0..4000 {
///     let batch = Line.batch(Split::Train, &mut rng)?;
///     let (_, grads) = Line.loss_and_grad(&params, &batch)?;
///     star.step(&mut state, &mut params, &grads)?;
/// }
/// let w = params.get("w")?.flatten_all()?.to_vec1::<f32>()?[0];
/// assert!((w - 3.0).abs() < 0.1, "{w}");
/// # Ok(())
/// # }
/// ```
pub trait Task: Send + Sync {
    /// Samples initial parameters φ₀.
    ///
    /// # Errors
    /// Returns an error if a tensor operation fails.
    fn init(&self, rng: &mut Rng) -> Result<Params>;

    /// Draws a minibatch.
    ///
    /// # Errors
    /// Returns an error if a tensor operation fails.
    fn batch(&self, split: Split, rng: &mut Rng) -> Result<Batch>;

    /// The loss ℓ(φ, batch), a scalar, in candle ops.
    ///
    /// # Errors
    /// Returns an error if a parameter is missing or a tensor operation fails.
    fn loss(&self, params: &Params, batch: &Batch) -> Result<Tensor>;

    /// The loss, a scalar, and its gradient ∇ℓ, on the device of the parameters. The default is candle's
    /// autodiff of [`Task::loss`].
    ///
    /// # Errors
    /// As [`Task::loss`].
    fn differentiate(&self, params: &Params, batch: &Batch) -> Result<(Tensor, Grads)> {
        let (tracked, vars) = params.tracked()?;
        let loss = self.loss(&tracked, batch)?;
        let store = loss.backward()?;
        let loss = loss.detach().to_dtype(DType::F32)?;
        Ok((loss, Grads::from_store(&vars, &store)))
    }

    /// The value of the loss, and its gradient ∇ℓ. Implement [`Task::differentiate`] instead: training
    /// calls that.
    ///
    /// # Errors
    /// As [`Task::loss`].
    fn loss_and_grad(&self, params: &Params, batch: &Batch) -> Result<(f32, Grads)> {
        let (loss, grads) = self.differentiate(params, batch)?;
        Ok((loss.to_scalar()?, grads))
    }

    /// The Hessian-vector product ∇²ℓ·v, with `v` in the order of `params`. The default applies
    /// candle's autodiff twice.
    ///
    /// # Errors
    /// As [`Task::loss`]. The default also returns an error if candle's second derivatives are
    /// wrong in this process; see [`lopt_core::second_derivatives`].
    fn hessian_vector(&self, params: &Params, batch: &Batch, v: &[Tensor]) -> Result<Vec<Tensor>> {
        second_order::by_autodiff_twice(self, params, batch, v)
    }

    /// The same task on slices of f32, if it has such a form. The default is `None`.
    fn native(self: Arc<Self>) -> Option<Arc<dyn NativeTask>> {
        None
    }

    /// This task, if it is an MLP on images. A GPU can train many networks of such a task together.
    /// The default is `None`.
    fn mlp(self: Arc<Self>) -> Option<Arc<MlpTask>> {
        None
    }

    /// The loss as it enters the meta-loss: clipped to a bound, which also replaces NaN and ±inf,
    /// so that one diverged network does not dominate the mean. The default clips to
    /// \[−1000, 1000\].
    fn normalize(&self, loss: f32) -> f32 {
        if loss.is_finite() {
            loss.clamp(-LOSS_CEILING, LOSS_CEILING)
        } else {
            LOSS_CEILING
        }
    }

    /// The derivative of [`Task::normalize`]. The default is 1 where that leaves the loss
    /// unchanged, else 0, which is correct for any clipping.
    fn normalize_slope(&self, loss: f32) -> f32 {
        f32::from(self.normalize(loss) == loss)
    }

    /// The score of φ on the test set, if the task has one. The default is `None`.
    ///
    /// # Errors
    /// As [`Task::loss`].
    fn test(&self, _params: &Params) -> Result<Option<TestScore>> {
        Ok(None)
    }

    /// A short name that distinguishes the tasks of a family, such as
    /// `mnist-8px conv-net batch 16`.
    fn name(&self) -> String {
        "task".to_owned()
    }
}
