//! One inner step, differentiated.

use candle_core::{Tensor, Var, backprop::GradStore};
use lopt_core::{Grads, LearnedOptimizer, Params, State};
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
    /// One tensor for each slot of each parameter.
    pub slots: Vec<Vec<Tensor>>,
}

impl Adjoint {
    pub(super) fn zero(at: &Point) -> Result<Self> {
        let mut slots = vec![];
        for of_param in &at.state.slots {
            let zeros = of_param.iter().map(|slot| slot.value.zeros_like());
            slots.push(zeros.collect::<candle_core::Result<_>>()?);
        }
        let params = at.params.tensors().iter().map(Tensor::zeros_like);
        Ok(Self {
            params: params.collect::<candle_core::Result<_>>()?,
            slots,
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
    slots: Vec<Vec<Var>>,
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
        at: &Point,
        grads: &Grads,
    ) -> Result<Self> {
        let (mut after, params) = at.params.tracked()?;
        let mut slots = vec![];
        let mut state = at.state.clone();
        for of_param in &mut state.slots {
            let mut of_slots = vec![];
            for slot in of_param {
                let var = Var::from_tensor(&slot.value)?;
                slot.value = var.as_tensor().clone();
                of_slots.push(var);
            }
            slots.push(of_slots);
        }
        let grads: Vec<Option<Var>> = grads
            .tensors()
            .iter()
            .map(|grad| grad.as_ref().map(Var::from_tensor).transpose())
            .collect::<candle_core::Result<_>>()?;
        let tracked = |var: &Var| var.as_tensor().clone();
        optimizer.update_with(
            theta,
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
        let slots = self.after.state.slots.iter().flatten();
        let of_slots = slots.map(|slot| &slot.value);
        let mut along = vec![];
        for (value, weight) in of_params.chain(of_slots.zip(adjoint.slots.iter().flatten())) {
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
        let slots = self.slots.iter().map(|vars| all(vars));
        let point = Adjoint {
            params: all(&self.params)?,
            slots: slots.collect::<candle_core::Result<_>>()?,
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
        let (_, grads) = task.loss_and_grad(params, &batch)?;
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
            update: RecordedUpdate::new(optimizer, &theta, &at, &grads)?,
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
