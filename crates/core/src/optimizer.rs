use std::any::Any;

use candle_core::Tensor;

use crate::{Backend, FusedUpdate, Grads, Params, Result, State, StepContext, Theta};

/// An optimizer as a function: (state, parameters, gradients) → (state, parameters).
///
/// Implementations must satisfy this contract, which `lopt-tests` checks for every optimizer of the
/// workspace:
///
/// * tensors of any rank and empty tensors are accepted;
/// * the same input gives the same bits;
/// * training from a saved and loaded state gives the same bits;
/// * a refused step changes nothing;
/// * a parameter without a gradient keeps its value and state.
pub trait Optimizer: Send + Sync {
    /// The name of the optimizer: "adam", "blackbox", "star".
    fn kind(&self) -> &'static str;

    /// Returns the state before the first step.
    ///
    /// # Errors
    /// Returns [`crate::Error::Setting`] if a setting of the optimizer is out of range, and an error
    /// if a tensor cannot be allocated.
    fn init(&self, params: &Params) -> Result<State>;

    /// Takes the step that `context` describes. Gradients are in the order of `params`.
    ///
    /// `context.step` is [`State::step`], which the update increments.
    ///
    /// # Errors
    /// Returns [`crate::Error::BadGradient`] or [`crate::Error::Mismatch`] if a gradient is invalid
    /// (see [`Grads::check`]); state and parameters are then unchanged.
    fn update(
        &self,
        context: &StepContext,
        state: &mut State,
        params: &mut Params,
        grads: &Grads,
    ) -> Result<()>;

    /// Calls [`Optimizer::update`] with the step number of the state, the learning rate of the
    /// optimizer, and an unknown loss and horizon.
    ///
    /// # Errors
    /// Returns the errors of [`Optimizer::update`].
    fn step(&self, state: &mut State, params: &mut Params, grads: &Grads) -> Result<()> {
        let context = StepContext::new(state.step, self.learning_rate());
        context.check()?;
        self.update(&context, state, params, grads)
    }

    /// Returns the same update on f32 slices for parameters of these shapes, in name order, or
    /// `None` if the optimizer has no kernel for them.
    fn fused(&self, _shapes: &[Vec<usize>]) -> Option<Box<dyn FusedUpdate>> {
        None
    }

    /// Returns this optimizer's own backend for these parameters, such as one for a GPU; `None`
    /// leaves the choice to [`crate::Chosen::new`].
    ///
    /// # Errors
    /// Returns an error if the state cannot be allocated.
    fn backend(&self, _params: &Params) -> Result<Option<Box<dyn Backend>>> {
        Ok(None)
    }

    /// Describes the update to a backend of another crate, in a type that the backend defines, such as
    /// `Kernels` of `lopt-cuda-backend`; `None` if there is no such description.
    fn kernels(&self) -> Option<Box<dyn Any>> {
        None
    }

    /// The learning rate. Learned optimizers multiply their update by it, before an online scale; their
    /// default is 1.
    fn learning_rate(&self) -> f64;

    /// Sets the learning rate.
    fn set_learning_rate(&mut self, learning_rate: f64);

    /// Returns the optimizer as a [`LearnedOptimizer`], if it has meta-parameters.
    fn as_learned(&self) -> Option<&dyn LearnedOptimizer> {
        None
    }
}

/// So that a program can choose its optimizer while it runs.
impl<O: Optimizer + ?Sized> Optimizer for Box<O> {
    fn kind(&self) -> &'static str {
        (**self).kind()
    }

    fn init(&self, params: &Params) -> Result<State> {
        (**self).init(params)
    }

    fn update(
        &self,
        context: &StepContext,
        state: &mut State,
        params: &mut Params,
        grads: &Grads,
    ) -> Result<()> {
        (**self).update(context, state, params, grads)
    }

    fn step(&self, state: &mut State, params: &mut Params, grads: &Grads) -> Result<()> {
        (**self).step(state, params, grads)
    }

    fn fused(&self, shapes: &[Vec<usize>]) -> Option<Box<dyn FusedUpdate>> {
        (**self).fused(shapes)
    }

    fn backend(&self, params: &Params) -> Result<Option<Box<dyn Backend>>> {
        (**self).backend(params)
    }

    fn kernels(&self) -> Option<Box<dyn Any>> {
        (**self).kernels()
    }

    fn learning_rate(&self) -> f64 {
        (**self).learning_rate()
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        (**self).set_learning_rate(learning_rate);
    }

    fn as_learned(&self) -> Option<&dyn LearnedOptimizer> {
        (**self).as_learned()
    }
}

/// An [`Optimizer`] with meta-parameters θ.
pub trait LearnedOptimizer: Optimizer {
    /// The meta-parameters.
    fn theta(&self) -> &Theta;

    /// Returns the same optimizer with other values of θ.
    ///
    /// # Errors
    /// Returns an error if there are more or fewer values than meta-parameters.
    fn with_values(&self, values: Vec<f32>) -> Result<Box<dyn LearnedOptimizer>>;

    /// [`Optimizer::update`] in candle ops that are differentiable in θ. θ is given as tensors in
    /// the order of its layout, with the parameters' type and device; if they are
    /// [`candle_core::Var`]s, the updated parameters can be differentiated with respect to them.
    ///
    /// # Errors
    /// Returns the errors of [`Optimizer::update`].
    fn update_with(
        &self,
        theta: &[Tensor],
        context: &StepContext,
        state: &mut State,
        params: &mut Params,
        grads: &Grads,
    ) -> Result<()>;

    /// Returns the same optimizer with only the nominal term of its step, the part that descends
    /// without an MLP, or `None` if it has no such term.
    ///
    /// # Errors
    /// Returns an error if the configuration with only that term does not match θ.
    fn nominal_only(&self) -> Result<Option<Box<dyn LearnedOptimizer>>> {
        Ok(None)
    }
}
