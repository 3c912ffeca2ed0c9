//! One inner step, differentiated.

use candle_core::{Tensor, Var, backprop::GradStore};
use lopt_core::{Grads, LearnedOptimizer, Params, State, StepContext};
use lopt_tasks::{Batch, Task};

use crate::Result;

/// The parameters and the optimizer's state between two inner steps.
#[derive(Clone)]
pub(super) struct Point {
    pub params: Params,
    pub state: State,
}

/// The derivative of a scalar with respect to the parameters φ and the accumulators, in their
/// shapes.
#[derive(Clone, Debug)]
pub struct Adjoint {
    /// One tensor for each parameter.
    pub params: Vec<Tensor>,
    /// One tensor for each slot, in the order of [`State::all_slots`].
    pub slots: Vec<Tensor>,
}

impl Adjoint {
    pub(super) fn zero(at: &Point) -> Result<Self> {
        let slots = at.state.all_slots().map(|slot| slot.value.zeros_like());
        let params = at.params.tensors().iter().map(Tensor::zeros_like);
        Ok(Self {
            params: params.collect::<candle_core::Result<_>>()?,
            slots: slots.collect::<candle_core::Result<_>>()?,
        })
    }

    /// Adds `factor` times a loss's gradient with respect to φ.
    pub(super) fn add_gradient(&mut self, grads: &Grads, factor: f64) -> Result<()> {
        for (sum, grad) in self.params.iter_mut().zip(grads.tensors()) {
            if let Some(grad) = grad {
                *sum = (&*sum + (grad * factor)?)?;
            }
        }
        Ok(())
    }

    /// Adds H·v with the Hessian H of the loss at `params`.
    pub(super) fn add_hessian_product(
        &mut self,
        task: &dyn Task,
        params: &Params,
        batch: &Batch,
        v: &[Tensor],
    ) -> Result<()> {
        let products = task.hessian_vector(params, batch, v)?;
        for (sum, product) in self.params.iter_mut().zip(products) {
            *sum = (&*sum + product)?;
        }
        Ok(())
    }
}

/// An optimizer's update s' = U(θ, s, g), recorded for candle's autodiff.
pub(super) struct RecordedUpdate {
    params: Vec<Var>,
    slots: Vec<Var>,
    grads: Vec<Option<Var>>,
    after: Point,
}

/// An adjoint of s', pulled back through the update.
pub(super) struct PulledBack {
    pub point: Adjoint,
    pub grads: Vec<Tensor>,
    /// The gradients of θ, if it consists of variables.
    pub store: GradStore,
}

impl RecordedUpdate {
    pub fn new(
        optimizer: &dyn LearnedOptimizer,
        theta: &[Tensor],
        context: &StepContext,
        at: &Point,
        grads: &Grads,
    ) -> Result<Self> {
        let (mut after, params) = at.params.tracked()?;
        let mut slots = vec![];
        let mut state = at.state.clone();
        for slot in state.all_slots_mut() {
            let var = Var::from_tensor(&slot.value)?;
            slot.value = var.as_tensor().clone();
            slots.push(var);
        }
        let grads: Vec<Option<Var>> = grads
            .tensors()
            .iter()
            .map(|grad| grad.as_ref().map(Var::from_tensor).transpose())
            .collect::<candle_core::Result<_>>()?;
        let tracked = |var: &Var| var.as_tensor().clone();
        optimizer.update_with(
            theta,
            context,
            &mut state,
            &mut after,
            &Grads::new(
                grads
                    .iter()
                    .map(|grad| grad.as_ref().map(tracked))
                    .collect(),
            ),
        )?;
        Ok(Self {
            params,
            slots,
            grads,
            after: Point {
                params: after,
                state,
            },
        })
    }

    /// The derivatives of Σ ⟨adjoint, s'⟩.
    pub fn pull_back(&self, adjoint: &Adjoint) -> Result<PulledBack> {
        let of_params = self.after.params.tensors().iter().zip(&adjoint.params);
        let of_slots = self.after.state.all_slots().map(|slot| &slot.value);
        let mut along = vec![];
        for (value, weight) in of_params.chain(of_slots.zip(&adjoint.slots)) {
            along.push((value * weight)?.sum_all()?);
        }
        let store = Tensor::stack(&along, 0)?.sum_all()?.backward()?;
        let of = |var: &Var| match store.get(var) {
            Some(grad) => Ok(grad.detach()),
            None => var.zeros_like(),
        };
        let all = |vars: &[Var]| -> candle_core::Result<Vec<_>> { vars.iter().map(of).collect() };
        let of_grad = |(grad, param): (&Option<Var>, &Var)| match grad {
            Some(grad) => of(grad),
            None => param.zeros_like(),
        };
        let grads = self.grads.iter().zip(&self.params).map(of_grad);
        let grads = grads.collect::<candle_core::Result<_>>()?;
        let point = Adjoint {
            params: all(&self.params)?,
            slots: all(&self.slots)?,
        };
        Ok(PulledBack {
            point,
            grads,
            store,
        })
    }
}

/// One inner step s' = U(θ, (φ, a), ∇ℓ(φ)) of parameters φ and accumulators a on a minibatch,
/// linearized at a point s = (φ, a).
pub struct LinearizedStep<'a> {
    task: &'a dyn Task,
    params: Params,
    batch: Batch,
    update: RecordedUpdate,
}

impl<'a> LinearizedStep<'a> {
    /// The step linearized at (`params`, `state`), in their dtype.
    ///
    /// # Errors
    /// Returns an error if the task or a tensor operation fails, or if the optimizer refuses
    /// the gradient.
    pub fn new(
        task: &'a dyn Task,
        optimizer: &dyn LearnedOptimizer,
        params: &Params,
        state: &State,
        batch: Batch,
    ) -> Result<Self> {
        let (loss, grads) = task.loss_and_grad(params, &batch)?;
        let rate = optimizer.learning_rate();
        let context = StepContext::new(state.step, rate).with_loss(loss);
        let theta = match params.tensors().first() {
            Some(p) => optimizer.theta().tensors(p.dtype(), p.device())?,
            None => vec![],
        };
        let at = Point {
            params: params.clone(),
            state: state.clone(),
        };
        Ok(Self {
            task,
            params: params.clone(),
            batch,
            update: RecordedUpdate::new(optimizer, &theta, &context, &at, &grads)?,
        })
    }

    /// Jᵀ·v with the Jacobian J = ∂s'/∂s: (∂φ + H·μ, ∂a) with the adjoint μ of the gradient and
    /// the Hessian H of ℓ. Jᵀ has the eigenvalues of J.
    ///
    /// # Errors
    /// Returns an error if the task or a tensor operation fails.
    pub fn transposed_product(&self, v: &Adjoint) -> Result<Adjoint> {
        let pulled = self.update.pull_back(v)?;
        let mut point = pulled.point;
        point.add_hessian_product(self.task, &self.params, &self.batch, &pulled.grads)?;
        Ok(point)
    }
}
