use candle_core::Tensor;

use crate::{FusedUpdate, Grads, Params, Result, State, Theta};

/// An optimizer as a function: (state, parameters, gradients) → (state, parameters).
///
/// The contract, which `lopt-tests` checks for every optimizer: any rank from 0 up and
/// tensors without elements are fine; the same input gives the same bits; state that was
/// saved and loaded goes on alike; a refused step changes nothing; a parameter without
/// gradient stays as it is.
pub trait Optimizer: Send + Sync {
    /// The kind: "adam", "blackbox", "star".
    fn kind(&self) -> &'static str;

    /// The state before the first step.
    ///
    /// # Errors
    /// Those of candle.
    fn init(&self, params: &Params) -> Result<State>;

    /// One step. Gradients are in the order of `params`.
    ///
    /// # Errors
    /// [`crate::Error::BadGradient`] or [`crate::Error::Mismatch`] if the gradients are
    /// unfit (see [`Grads::check`]); state and parameters are then unchanged.
    fn update(&self, state: &mut State, params: &mut Params, grads: &Grads) -> Result<()>;

    /// The same update on plain f32 memory, for parameters of these shapes in name order;
    /// `None` if there is none.
    fn fused(&self, _shapes: &[Vec<usize>]) -> Option<Box<dyn FusedUpdate>> {
        None
    }

    /// Adam's learning rate; for learned optimizers the factor on their step, 1 unless
    /// set.
    fn learning_rate(&self) -> f64;

    /// Sets [`Optimizer::learning_rate`].
    fn set_learning_rate(&mut self, learning_rate: f64);
}

/// An [`Optimizer`] with meta-parameters θ.
pub trait LearnedOptimizer: Optimizer {
    /// Its θ.
    fn theta(&self) -> &Theta;

    /// The same optimizer with other values of θ.
    ///
    /// # Errors
    /// If there are more or fewer values than meta-parameters.
    fn with_values(&self, values: Vec<f32>) -> Result<Box<dyn LearnedOptimizer>>;

    /// [`Optimizer::update`] with θ given as tensors (in the order of its layout, of the
    /// parameters' type and device), in candle ops all of which are differentiable: if
    /// the tensors are [`candle_core::Var`]s, the updated parameters carry their
    /// gradient.
    ///
    /// # Errors
    /// As [`Optimizer::update`].
    fn update_with(
        &self,
        theta: &[Tensor],
        state: &mut State,
        params: &mut Params,
        grads: &Grads,
    ) -> Result<()>;
}
