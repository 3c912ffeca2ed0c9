//! The exact meta-gradient of an unroll, by backpropagation of one inner step at a time.
//!
//! With the state s_t = (φ_t, accumulators) and g_t = ∇ℓ_t(φ_t), a step is s_{t+1} =
//! U(θ, s_t, g_t). Candle's autodiff of that one step pulls the adjoint λ_{t+1} of s_{t+1} back
//! through U, which gives ∂θ, ∂s_t and the adjoint μ_t of g_t; then
//!
//! λ_t = ∂s_t + (H_t·μ_t + w_t·g_t, 0)
//!
//! with the Hessian H_t of ℓ_t ([`Task::hessian_vector`]) and the weight w_t of ℓ_t in the
//! meta-loss. No graph outlives a step. States are kept every √T steps and recomputed in
//! between, so that memory grows as √T.

use candle_core::{DType, Tensor, Var};
use lopt_core::{Grads, LearnedOptimizer, Params, State, StepContext};
use lopt_tasks::{Batch, Task};

use super::inner_step::{Adjoint, Point, RecordedUpdate};
use crate::Result;

/// The meta-loss of an unroll of T steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaLoss {
    /// The mean of the losses before each step's update.
    Mean,
    /// The sum of the losses before each step's update.
    Sum,
    /// The loss before the last update.
    Last,
    /// The loss after the last update, on the batch of step T.
    Final,
}

impl MetaLoss {
    /// The weight of the loss before the update of step `t` of `steps`.
    fn weight(self, t: usize, steps: usize) -> f64 {
        match self {
            MetaLoss::Mean => 1.0 / steps as f64,
            MetaLoss::Sum => 1.0,
            MetaLoss::Last => f64::from(u8::from(t + 1 == steps)),
            MetaLoss::Final => 0.0,
        }
    }
}

/// The meta-loss of an unroll, which [`meta_gradient`] differentiates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaObjective {
    /// T, the inner steps of the unroll.
    pub steps: usize,
    /// The meta-loss.
    pub loss: MetaLoss,
    /// The total number of training steps passed to the optimizer; see [`StepContext::horizon`].
    pub horizon: Option<u64>,
}

/// The result of [`meta_gradient`].
#[derive(Clone, Debug)]
pub struct MetaGradient {
    /// dL/dθ of the meta-loss L, one entry for each meta-parameter.
    pub gradient: Vec<f64>,
    /// The meta-loss L, from the normalized losses.
    pub meta_loss: f64,
    /// Normalized losses before each step's update.
    pub losses: Vec<f32>,
    /// φ after the last update.
    pub params: Params,
    /// The optimizer's state after the last update.
    pub state: State,
}

/// The meta-loss L of an unroll from (`params`, `state`) and its exact gradient dL/dθ at
/// θ = `optimizer.theta()`.
///
/// `batch(t)` returns the minibatch of step t, counted from the start of this unroll; it is
/// called more than once for the same t. A step whose gradient is refused changes nothing, and
/// a loss at the bound of [`Task::normalize`] has slope 0.
///
/// # Errors
/// Returns an error if the task, its Hessian product or a tensor operation fails.
pub fn meta_gradient(
    task: &dyn Task,
    optimizer: &dyn LearnedOptimizer,
    params: &Params,
    state: &State,
    objective: MetaObjective,
    batch: &dyn Fn(usize) -> Result<Batch>,
) -> Result<MetaGradient> {
    let MetaObjective {
        steps,
        loss,
        horizon,
    } = objective;
    let unroll = Unroll {
        task,
        optimizer,
        horizon,
        batch,
    };
    let every = (steps as f64).sqrt().ceil().max(1.0) as usize;
    let mut at = Point {
        params: params.clone(),
        state: state.clone(),
    };
    let mut kept = vec![];
    let mut losses = vec![];
    for t in 0..steps {
        if t % every == 0 {
            kept.push(at.clone());
        }
        losses.push(unroll.advance(t, &mut at)?.loss);
    }
    let normalized: Vec<f32> = losses.iter().map(|&loss| task.normalize(loss)).collect();
    let mut meta_loss: f64 = normalized
        .iter()
        .enumerate()
        .map(|(t, &value)| loss.weight(t, steps) * f64::from(value))
        .sum();
    let mut adjoint = Adjoint::zero(&at)?;
    if loss == MetaLoss::Final {
        let (value, grads) = task.loss_and_grad(&at.params, &batch(steps)?)?;
        meta_loss = f64::from(task.normalize(value));
        adjoint.add_gradient(&grads, f64::from(task.normalize_slope(value)))?;
    }
    let theta = Theta::new(optimizer, &at.params)?;
    let mut gradient = theta.zeros()?;
    for (segment, start) in kept.into_iter().enumerate().rev() {
        let first = segment * every;
        let points = unroll.segment(first, every.min(steps - first), start)?;
        for (t, (point, step)) in (first..first + points.len()).zip(points).rev() {
            let slope = f64::from(task.normalize_slope(step.loss)) * loss.weight(t, steps);
            unroll.pull_back(&theta, &point, &step, slope, &mut adjoint, &mut gradient, t)?;
        }
    }
    Ok(MetaGradient {
        gradient: theta.flat(&gradient)?,
        meta_loss,
        losses: normalized,
        params: at.params,
        state: at.state,
    })
}

/// The result of an inner step.
struct Step {
    /// Before the update, as the task gives it.
    loss: f32,
    grads: Grads,
    /// The gradient was refused, nothing changed.
    refused: bool,
}

struct Unroll<'a> {
    task: &'a dyn Task,
    optimizer: &'a dyn LearnedOptimizer,
    horizon: Option<u64>,
    batch: &'a dyn Fn(usize) -> Result<Batch>,
}

impl Unroll<'_> {
    fn context(&self, state: &State, loss: f32) -> StepContext {
        let context = StepContext::new(state.step, self.optimizer.learning_rate());
        StepContext {
            loss: Some(loss),
            horizon: self.horizon,
            ..context
        }
    }

    fn advance(&self, t: usize, at: &mut Point) -> Result<Step> {
        let (loss, grads) = self.task.loss_and_grad(&at.params, &(self.batch)(t)?)?;
        let context = self.context(&at.state, loss);
        let (state, params) = (&mut at.state, &mut at.params);
        let updated = self.optimizer.update(&context, state, params, &grads);
        let refused = match updated {
            Err(error) if error.is_bad_gradient() => true,
            other => {
                other?;
                false
            }
        };
        Ok(Step {
            loss,
            grads,
            refused,
        })
    }

    /// Takes `count` steps from `first` on; returns each with the point before it.
    fn segment(&self, first: usize, count: usize, mut at: Point) -> Result<Vec<(Point, Step)>> {
        let mut points = vec![];
        for t in first..first + count {
            let before = at.clone();
            points.push((before, self.advance(t, &mut at)?));
        }
        Ok(points)
    }

    /// Pulls the adjoint of the point after step `t` back to `point`, the point before it, and
    /// adds ∂θ to `gradient`. `slope` is the derivative of the meta-loss with respect to the
    /// step's loss.
    #[allow(clippy::too_many_arguments)]
    fn pull_back(
        &self,
        theta: &Theta,
        point: &Point,
        step: &Step,
        slope: f64,
        adjoint: &mut Adjoint,
        gradient: &mut [Tensor],
        t: usize,
    ) -> Result<()> {
        if !step.refused {
            let tensors: Vec<_> = theta.vars.iter().map(|v| v.as_tensor().clone()).collect();
            let context = self.context(&point.state, step.loss);
            let (optimizer, grads) = (self.optimizer, &step.grads);
            let update = RecordedUpdate::new(optimizer, &tensors, &context, point, grads)?;
            let pulled = update.pull_back(adjoint)?;
            *adjoint = pulled.point;
            for (sum, var) in gradient.iter_mut().zip(&theta.vars) {
                if let Some(of_theta) = pulled.store.get(var) {
                    *sum = (&*sum + of_theta.detach())?;
                }
            }
            let batch = (self.batch)(t)?;
            adjoint.add_hessian_product(self.task, &point.params, &batch, &pulled.grads)?;
        }
        if slope != 0.0 {
            adjoint.add_gradient(&step.grads, slope)?;
        }
        Ok(())
    }
}

/// θ as variables with the dtype and device of the parameters.
struct Theta {
    vars: Vec<Var>,
}

impl Theta {
    fn new(optimizer: &dyn LearnedOptimizer, params: &Params) -> Result<Self> {
        let (dtype, device) = match params.tensors().first() {
            Some(p) => (p.dtype(), p.device().clone()),
            None => (DType::F32, candle_core::Device::Cpu),
        };
        let tensors = optimizer.theta().tensors(dtype, &device)?;
        let vars = tensors.iter().map(Var::from_tensor);
        Ok(Self {
            vars: vars.collect::<candle_core::Result<_>>()?,
        })
    }

    fn zeros(&self) -> Result<Vec<Tensor>> {
        let zeros = self.vars.iter().map(|var| var.zeros_like());
        Ok(zeros.collect::<candle_core::Result<_>>()?)
    }

    /// In the order of θ's values, which is that of its parts.
    fn flat(&self, gradient: &[Tensor]) -> Result<Vec<f64>> {
        let mut flat = vec![];
        for part in gradient {
            flat.extend(part.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?);
        }
        Ok(flat)
    }
}
