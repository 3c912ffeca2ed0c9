//! Hessian-vector products H·v of a loss, for the adjoint of an inner step.

use candle_core::{DType, Device, Tensor, Var};
use lopt_core::{Error, Params, Result, Rng, normal};

use crate::{Batch, Task};

/// H·v by candle's autodiff, applied twice; zeros for parameters that the loss does not depend on.
///
/// # Errors
/// Returns an error if candle's second derivatives are wrong in this thread.
pub(crate) fn by_autodiff_twice<T: Task + ?Sized>(
    task: &T,
    params: &Params,
    batch: &Batch,
    v: &[Tensor],
) -> Result<Vec<Tensor>> {
    require_second_derivatives()?;
    let (tracked, vars) = params.tracked()?;
    let store = task.loss(&tracked, batch)?.backward()?;
    let gradients: Vec<Option<&Tensor>> = vars.iter().map(|var| store.get(var)).collect();
    derivative_along(&vars, &gradients, v)
}

/// The gradient of Σ ⟨gradient, v⟩ with respect to `vars`.
pub(crate) fn derivative_along(
    vars: &[Var],
    gradients: &[Option<&Tensor>],
    v: &[Tensor],
) -> Result<Vec<Tensor>> {
    let mut along: Option<Tensor> = None;
    for (gradient, v) in gradients.iter().zip(v) {
        if let Some(gradient) = gradient {
            let product = (*gradient * v)?.sum_all()?;
            along = Some(match along {
                Some(sum) => (sum + product)?,
                None => product,
            });
        }
    }
    let store = along.map(|along| along.backward()).transpose()?;
    let of_var = |var: &Var| match store.as_ref().and_then(|store| store.get(var)) {
        Some(product) => Ok(product.detach()),
        None => Ok(var.zeros_like()?),
    };
    vars.iter().map(of_var).collect()
}

/// The second derivative of (x²)² at 1 is 12; it is 4 if candle detaches gradients.
fn require_second_derivatives() -> Result<()> {
    let x = Var::from_tensor(&Tensor::new(1f64, &Device::Cpu)?)?;
    let first = x.sqr()?.sqr()?.backward()?;
    let second = match first.get(&x) {
        Some(first) => first.backward()?.get(&x).map(Tensor::to_scalar::<f64>),
        None => None,
    };
    match second.transpose()? {
        Some(second) if (second - 12.0).abs() < 1e-9 => Ok(()),
        _ => Err(Error::Mismatch(
            "candle's second derivatives lack terms in this process, and the exact meta-gradient \
             of this task needs them; call lopt_core::second_derivatives() at the start of main \
             (it sets CANDLE_GRAD_DO_NOT_DETACH=1), or implement Task::hessian_vector"
                .to_owned(),
        )),
    }
}

/// Checks [`Task::hessian_vector`] against a finite difference of gradients near `params`:
///
/// H·v ≈ (∇ℓ(φ + h·v) − ∇ℓ(φ − h·v))/2h
///
/// for random v, in f64. Without the check, an operation whose gradient candle cannot differentiate
/// would silently count as linear. Returns whether the task can be computed in f64 and was checked.
///
/// A difference across a kink, such as a ReLU's, is meaningless, so the check fails only if the
/// product is wrong at each of several points.
///
/// # Errors
/// Returns an error that names the task if the products differ.
pub fn check_hessian(
    task: &dyn Task,
    params: &Params,
    batch: &Batch,
    rng: &mut Rng,
) -> Result<bool> {
    const POINTS: u32 = 4;
    /// Relative to the norm of the product.
    const TOLERANCE: f64 = 1e-2;
    let mut last = None;
    for _ in 0..POINTS {
        let Some((error, scale)) = hessian_error(task, params, batch, rng)? else {
            return Ok(false);
        };
        if error <= TOLERANCE * scale + 1e-6 || !scale.is_finite() {
            return Ok(true);
        }
        last = Some((error, scale));
    }
    let (error, scale) = last.unwrap_or_default();
    Err(Error::Mismatch(format!(
        "Hessian-vector products of task `{}` differ from differences of its gradient by \
         {error:.3e} of {scale:.3e}: candle cannot differentiate the gradient of an operation in \
         its loss; write that operation in other candle ops, or implement Task::hessian_vector",
        task.name(),
    )))
}

/// The error of a Hessian-vector product at a random point near `params`, and the norm of the
/// finite difference. `None` if the task cannot be computed in f64.
fn hessian_error(
    task: &dyn Task,
    params: &Params,
    batch: &Batch,
    rng: &mut Rng,
) -> Result<Option<(f64, f64)>> {
    /// Small enough to cross hardly any kink.
    const STEP: f64 = 1e-8;
    /// Standard deviation of the distance from the given parameters.
    const OFF_KINKS: f64 = 1e-2;
    let double = |t: &Tensor| match t.dtype().is_float() {
        true => t.to_dtype(DType::F64),
        false => Ok(t.clone()),
    };
    let batch: Batch = batch
        .iter()
        .map(double)
        .collect::<candle_core::Result<_>>()?;
    let mut noise = |p: &Tensor| {
        let values: Vec<f64> = (0..p.elem_count()).map(|_| normal(rng).into()).collect();
        Tensor::from_vec(values, p.shape(), p.device())
    };
    let (mut moved, mut direction) = (vec![], vec![]);
    for p in params.tensors() {
        // At initial biases of 0, units with no active input lie on a kink.
        moved.push((double(p)? + (noise(p)? * OFF_KINKS)?)?);
        direction.push(noise(p)?);
    }
    let params = params.with_tensors(moved)?;
    let gradient = |sign: f64| -> Result<Vec<Tensor>> {
        let mut moved = vec![];
        for (p, v) in params.tensors().iter().zip(&direction) {
            moved.push((p + (v * (sign * STEP))?)?);
        }
        let (_, grads) = task.loss_and_grad(&params.with_tensors(moved)?, &batch)?;
        let mut all = vec![];
        for (grad, p) in grads.tensors().iter().zip(params.tensors()) {
            all.push(grad.clone().map_or_else(|| p.zeros_like(), Ok)?);
        }
        Ok(all)
    };
    // The task has f32 tensors of its own, or operations without f64.
    let (Ok(ahead), Ok(behind)) = (gradient(1.0), gradient(-1.0)) else {
        return Ok(None);
    };
    let product = task.hessian_vector(&params, &batch, &direction)?;
    let (mut error, mut scale) = (0.0, 0.0);
    for ((ahead, behind), product) in ahead.iter().zip(&behind).zip(&product) {
        let slope = ((ahead - behind)? / (2.0 * STEP))?;
        let squares = |t: Tensor| t.sqr()?.sum_all()?.to_scalar::<f64>();
        error += squares((&slope - product)?)?;
        scale += squares(slope)?;
    }
    Ok(Some((error.sqrt(), scale.sqrt())))
}
