//! The implementations that compute an optimizer's steps: CPU kernels or candle ops.

use candle_core::{Tensor, Var, backprop::GradStore};

use crate::{
    CandleOps, Fused, Grads, Optimizer, Params, Result, State, StepContext, Workers,
    params::{Places, check_count, check_gradient, check_kind},
};

/// Holds the state of one optimizer for one set of parameters and computes its steps.
///
/// A backend owns the slots: it loads and returns them as a [`State`], rejects invalid gradients
/// before anything changes, and updates all tensors in one step. [`Fused`] runs the
/// CPU kernels, [`CandleOps`] runs [`Optimizer::update`] on any device; [`Chosen::new`] chooses.
pub trait Backend: Send + Sync {
    /// The implementation in use: "avx512", "avx2", "portable", "cuda" or "candle ops".
    fn path(&self) -> &'static str;

    /// The number of steps taken so far, including [`Backend::skipped_steps`].
    fn steps(&self) -> u64;

    /// From now on, divides its work among these threads, if the backend runs CPU kernels. Results do
    /// not depend on the number of threads.
    fn use_workers(&mut self, _: Workers) {}

    /// Allows the backend to skip steps with an invalid gradient from now on, without an error, if
    /// it would have to wait for a device to report one. By default it reports them all.
    fn allow_skipping(&mut self) {}

    /// Asks the backend, before its first step, to round the parameters to nearest and write them to
    /// `rounded` in each step, and to take gradients of the types of `rounded`. A parameter is in f32;
    /// its rounded tensor is in f16 or bf16, or is the parameter itself. A value that is written to a
    /// rounded tensor from outside replaces the parameter at the next step that is taken with a gradient
    /// of it. Later steps must be given these `params` or clones of them. Returns whether the backend
    /// will do so; by default it will not.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn round_to(&mut self, _params: &Params, _rounded: &Params) -> Result<bool> {
        Ok(false)
    }

    /// The number of steps that the backend skipped without an error.
    ///
    /// # Errors
    /// Returns an error if the number cannot be read from the device.
    fn skipped_steps(&self) -> Result<u64> {
        Ok(0)
    }

    /// The state as tensors.
    ///
    /// # Errors
    /// Returns an error if a tensor operation fails.
    fn state(&self) -> Result<State>;

    /// Replaces the state with one of the same optimizer and shapes.
    ///
    /// # Errors
    /// Returns [`crate::Error::Mismatch`] if the slots or their shapes differ; the state is then
    /// unchanged.
    fn set_state(&mut self, state: State) -> Result<()>;

    /// Replaces the values of θ. Later calls of [`Backend::step`] must pass an optimizer with the
    /// same values.
    ///
    /// # Errors
    /// Returns an error if there are more or fewer values than meta-parameters.
    fn set_theta(&mut self, values: &[f32]) -> Result<()>;

    /// Updates `params` with one step of the optimizer that the backend was created for. Returns
    /// the new parameters, or `None` if they were updated in place; tensors that share their memory
    /// then change too.
    ///
    /// # Errors
    /// Returns [`crate::Error::BadGradient`] or [`crate::Error::Mismatch`] if a gradient is invalid
    /// (see [`Grads::check`]), unless the backend skips such steps; nothing changes then.
    fn step(
        &mut self,
        optimizer: &dyn Optimizer,
        context: &StepContext,
        params: &Params,
        grads: &dyn GradSource,
    ) -> Result<Option<Params>>;
}

/// The backend that was chosen for an optimizer and its parameters.
pub enum Chosen {
    /// The CPU kernels, which also step parameters outside of tensors ([`Fused::step_flat`]).
    Fused(Box<Fused>),
    /// Any other backend.
    Other(Box<dyn Backend>),
}

impl Chosen {
    /// Chooses the optimizer's own backend ([`Optimizer::backend`]), else [`Fused`] if there is a
    /// kernel for the parameters, else [`CandleOps`].
    ///
    /// # Errors
    /// Returns an error if the optimizer's state cannot be allocated.
    pub fn new(optimizer: &dyn Optimizer, params: &Params) -> Result<Self> {
        if let Some(own) = optimizer.backend(params)? {
            return Ok(Self::Other(own));
        }
        Ok(match Fused::new(optimizer, params)? {
            Some(fused) => Self::Fused(Box::new(fused)),
            None => Self::Other(Box::new(CandleOps::new(optimizer, params)?)),
        })
    }

    /// The backend, whichever it is.
    pub fn into_backend(self) -> Box<dyn Backend> {
        match self {
            Self::Fused(fused) => fused,
            Self::Other(other) => other,
        }
    }
}

/// A source of gradients, indexed by the parameters in name order.
pub trait GradSource {
    /// The number of parameters that have an entry.
    fn count(&self) -> usize;

    /// Returns the gradient of a parameter, or `None` if the loss does not depend on it.
    fn grad(&self, index: usize) -> Option<&Tensor>;

    /// Returns the gradients of all `count` parameters, detached from their graph.
    fn to_grads(&self) -> Grads {
        let detached = |index| self.grad(index).map(Tensor::detach);
        Grads::new((0..self.count()).map(detached).collect())
    }

    /// Checks the number of gradients, their shapes and their types, but not their values.
    ///
    /// # Errors
    /// Returns [`crate::Error::Mismatch`] if the number, a shape or a type is wrong.
    fn check_kinds(&self, params: &Params) -> Result<()> {
        check_count(self.count(), params)?;
        for (index, (name, p)) in params.iter().enumerate() {
            if let Some(g) = self.grad(index) {
                check_kind(name, p, g)?;
            }
        }
        Ok(())
    }

    /// Checks the gradients as [`Grads::check`] does.
    ///
    /// # Errors
    /// Returns the errors of [`Grads::check`].
    fn check(&self, params: &Params) -> Result<()> {
        check_count(self.count(), params)?;
        for (index, (name, p)) in params.iter().enumerate() {
            if let Some(g) = self.grad(index) {
                check_gradient(name, p, g)?;
            }
        }
        Ok(())
    }

    /// Returns the gradient of a parameter `p` as a contiguous tensor with the parameter's type and device
    /// that shares no memory with the parameters in `places`, copied only if needed; `None` if there is
    /// no gradient or the parameter is empty.
    ///
    /// # Errors
    /// Returns an error if a tensor operation fails.
    fn readable(&self, index: usize, p: &Tensor, places: &Places) -> Result<Option<Tensor>> {
        let Some(g) = self.grad(index).filter(|_| p.elem_count() > 0) else {
            return Ok(None);
        };
        let g = g.to_device(p.device())?.to_dtype(p.dtype())?;
        Ok(Some(match g.is_contiguous() && places.contain(&g) {
            true => g.copy()?,
            false => g.contiguous()?,
        }))
    }
}

impl GradSource for Grads {
    fn count(&self) -> usize {
        self.tensors().len()
    }

    fn grad(&self, index: usize) -> Option<&Tensor> {
        self.tensors()[index].as_ref()
    }
}

/// The gradients of variables in candle's store.
pub(crate) struct OfStore<'a> {
    pub vars: &'a [Var],
    pub store: &'a GradStore,
}

impl GradSource for OfStore<'_> {
    fn count(&self) -> usize {
        self.vars.len()
    }

    fn grad(&self, index: usize) -> Option<&Tensor> {
        self.store.get(&self.vars[index])
    }
}
