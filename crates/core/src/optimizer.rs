use candle_core::Tensor;

use crate::{FusedUpdate, Grads, Params, Result, State, StepContext, Theta};

/// An optimizer as a function: (state, parameters, gradients) → (state, parameters).
///
/// The contract, which `lopt-tests` checks for every optimizer of this workspace:
///
/// * tensors of any rank and tensors without elements are accepted;
/// * the same input gives the same bits;
/// * a state that was saved and loaded continues with the same bits;
/// * a refused step changes nothing;
/// * a parameter without a gradient keeps its value and its state.
pub trait Optimizer: Send + Sync {
    /// The kind: "adam", "blackbox", "star".
    fn kind(&self) -> &'static str;

    /// The state before the first step.
    ///
    /// # Errors
    /// Returns an error if a tensor cannot be allocated.
    fn init(&self, params: &Params) -> Result<State>;

    /// Takes the step that `context` describes. Gradients are in the order of `params`.
    ///
    /// `context.step` is [`State::step`], which the update increments.
    ///
    /// # Errors
    /// Returns [`crate::Error::BadGradient`] or [`crate::Error::Mismatch`] if the gradients cannot
    /// be used (see [`Grads::check`]); state and parameters are then unchanged.
    fn update(
        &self,
        context: &StepContext,
        state: &mut State,
        params: &mut Params,
        grads: &Grads,
    ) -> Result<()>;

    /// [`Optimizer::update`] for a caller who knows neither loss nor horizon: the step number comes
    /// from the state, the learning rate from the optimizer.
    ///
    /// # Errors
    /// As [`Optimizer::update`].
    fn step(&self, state: &mut State, params: &mut Params, grads: &Grads) -> Result<()> {
        let context = StepContext::new(state.step, self.learning_rate());
        self.update(&context, state, params, grads)
    }

    /// The same update on f32 slices, for parameters of these shapes in name order; `None` if this
    /// optimizer has no kernel for them.
    fn fused(&self, _shapes: &[Vec<usize>]) -> Option<Box<dyn FusedUpdate>> {
        None
    }

    /// Adam's learning rate; for learned optimizers the factor on their step, 1 unless set.
    fn learning_rate(&self) -> f64;

    /// Sets [`Optimizer::learning_rate`].
    fn set_learning_rate(&mut self, learning_rate: f64);

    /// The same optimizer as one with meta-parameters, if it has any.
    fn as_learned(&self) -> Option<&dyn LearnedOptimizer> {
        None
    }
}

/// An [`Optimizer`] with meta-parameters θ.
pub trait LearnedOptimizer: Optimizer {
    /// The meta-parameters.
    fn theta(&self) -> &Theta;

    /// The same optimizer with other values of θ.
    ///
    /// # Errors
    /// Returns an error if there are more or fewer values than meta-parameters.
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
        context: &StepContext,
        state: &mut State,
        params: &mut Params,
        grads: &Grads,
    ) -> Result<()>;

    /// The same optimizer without its blackbox term, if it has a nominal one. An analysis compares
    /// the two steps.
    ///
    /// # Errors
    /// Returns an error if the configuration without that term does not fit θ.
    fn nominal_only(&self) -> Result<Option<Box<dyn LearnedOptimizer>>> {
        Ok(None)
    }
}
