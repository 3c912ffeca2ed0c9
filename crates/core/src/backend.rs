//! Where the steps of an optimizer are computed.

use candle_core::{Tensor, Var, backprop::GradStore};

use crate::{CandleOps, Fused, Grads, Optimizer, Params, Result, State, StepContext};

/// Keeps the state of one optimizer for one set of parameters, and takes its steps.
///
/// A backend owns the slots: it loads and returns them as a [`State`], refuses gradients that
/// cannot be used before anything changes, and updates all tensors in one step. [`Fused`] runs the
/// CPU kernels, [`CandleOps`] runs [`Optimizer::update`] on any device; [`backend`] chooses.
pub trait Backend: Send {
    /// What computes the steps: "avx512", "avx2", "portable" or "candle ops".
    fn path(&self) -> &'static str;

    /// Steps taken so far.
    fn steps(&self) -> u64;

    /// The state as tensors.
    ///
    /// # Errors
    /// Returns an error if a tensor operation fails.
    fn state(&self) -> Result<State>;

    /// Continues from a state of the same optimizer and shapes.
    ///
    /// # Errors
    /// Returns [`crate::Error::Mismatch`] if it does not fit; the state is then unchanged.
    fn set_state(&mut self, state: State) -> Result<()>;

    /// Continues with other values of θ. [`Backend::step`] is then called with an optimizer of the
    /// same values.
    ///
    /// # Errors
    /// Returns an error if there are more or fewer values than meta-parameters.
    fn set_theta(&mut self, values: &[f32]) -> Result<()>;

    /// Takes one step of `params` by the optimizer that the backend was made for. Returns the new
    /// parameters, or `None` if they were changed in their own memory, which all tensors that
    /// share it see.
    ///
    /// # Errors
    /// Returns [`crate::Error::BadGradient`] or [`crate::Error::Mismatch`] if the gradients cannot
    /// be used; nothing has then changed.
    fn step(
        &mut self,
        optimizer: &dyn Optimizer,
        context: &StepContext,
        params: &Params,
        grads: &dyn GradSource,
    ) -> Result<Option<Params>>;
}

/// The backend for `optimizer` on `params`: fused where there is a kernel for them, else candle
/// ops.
///
/// # Errors
/// Returns an error if the optimizer's state cannot be allocated.
pub fn backend(optimizer: &dyn Optimizer, params: &Params) -> Result<Box<dyn Backend>> {
    Ok(match Fused::new(optimizer, params)? {
        Some(fused) => Box::new(fused),
        None => Box::new(CandleOps::new(optimizer, params)?),
    })
}

/// The gradient of each parameter, by its index in name order.
pub trait GradSource {
    /// `None` if the loss does not depend on the parameter.
    fn grad(&self, index: usize) -> Option<&Tensor>;

    /// All gradients, detached from the graph they come from.
    fn to_grads(&self, count: usize) -> Grads {
        let detached = |index| self.grad(index).map(Tensor::detach);
        Grads::new((0..count).map(detached).collect())
    }
}

impl GradSource for Grads {
    fn grad(&self, index: usize) -> Option<&Tensor> {
        self.tensors()[index].as_ref()
    }
}

/// Candle's gradients of variables.
pub(crate) struct OfStore<'a> {
    pub vars: &'a [Var],
    pub store: &'a GradStore,
}

impl GradSource for OfStore<'_> {
    fn grad(&self, index: usize) -> Option<&Tensor> {
        self.store.get(&self.vars[index])
    }
}
