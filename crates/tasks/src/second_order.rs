//! Products with the Hessian of a loss: H·v for the adjoint of an inner step.

use candle_core::{DType, Device, Tensor, Var};
use lopt_core::{Error, Params, Result, Rng, normal};

use crate::{Batch, Task};

/// H·v by candle's autodiff twice. Parameters that the loss does not depend on have zeros.
///
/// # Errors
/// If candle's second derivatives are wrong in this thread.
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

/// The gradient in `vars` of Σ ⟨gradient, v⟩.
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

/// (x²)² at 1 has the second derivative 12; where candle cuts gradients off it is 4.
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
            "candle's second derivatives lack terms in this process, and the exact \
             meta-gradient of this task needs them: call lopt_core::second_derivatives() first \
             in main (it sets CANDLE_GRAD_DO_NOT_DETACH=1), or implement Task::hessian_vector"
                .to_owned(),
        )),
    }
}

/// Compares [`Task::hessian_vector`] with a difference of gradients along a random
/// direction, in f64, near the given parameters: an operation of the task's own whose gradient
/// candle cannot differentiate would otherwise be taken for linear. Returns whether the task
/// could be computed in f64 and was checked.
///
/// A difference across a kink, such as a ReLU's, tells nothing: only what is off at each of
/// some points is wrong.
///
/// # Errors
/// If they differ.
pub fn check_hessian(
    task: &dyn Task,
    params: &Params,
    batch: &Batch,
    rng: &mut Rng,
) -> Result<bool> {
    const POINTS: u32 = 4;
    /// Of the product's length.
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
        "the Hessian of task `{}` times a vector is off by {error:.3e} of {scale:.3e}, compared \
         with differences of its gradient: an operation in its loss has a gradient that candle \
         cannot differentiate; write that operation in candle ops, or implement \
         Task::hessian_vector",
        task.name(),
    )))
}

/// By how much a product with the Hessian at a random point near `params` is off, and its
/// length, by differences. Nothing if the task cannot be computed in f64.
fn hessian_error(
    task: &dyn Task,
    params: &Params,
    batch: &Batch,
    rng: &mut Rng,
) -> Result<Option<(f64, f64)>> {
    /// Small enough that hardly a kink lies on the way.
    const STEP: f64 = 1e-8;
    /// How far from the given parameters the comparison is made.
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
        // Fresh biases of 0 lie on a kink where all units below are off.
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
    // Its own tensors of f32, or operations without f64: nothing to compare with.
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
