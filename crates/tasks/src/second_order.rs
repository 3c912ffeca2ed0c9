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
    let vars = params.to_vars()?;
    let tracked = params.with_tensors(vars.iter().map(|var| var.as_tensor().clone()).collect())?;
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
/// direction: an operation of the task's own whose gradient cannot be differentiated would
/// otherwise be taken for linear.
///
/// # Errors
/// If they are nothing like each other, or those of the task.
pub fn check_hessian(task: &dyn Task, params: &Params, batch: &Batch, rng: &mut Rng) -> Result<()> {
    /// The direction's length relative to that of the parameters.
    const STEP: f64 = 1e-3;
    /// Rounding, and units that a ReLU switches on or off along the way.
    const TOLERANCE: f64 = 0.5;
    let v: Vec<Tensor> = params
        .tensors()
        .iter()
        .map(|p| {
            let values = (0..p.elem_count()).map(|_| normal(rng)).collect();
            let v = Tensor::from_vec::<_, f32>(values, p.shape(), &Device::Cpu)?;
            Ok(v.to_dtype(p.dtype())?.to_device(p.device())?)
        })
        .collect::<Result<_>>()?;
    let length = |tensors: &[Tensor]| -> Result<f64> {
        let mut sum = 0.0;
        for tensor in tensors {
            let squares = tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?;
            sum += squares.to_scalar::<f64>()?;
        }
        Ok(sum.sqrt())
    };
    let step = STEP * length(params.tensors())?.max(1.0) / length(&v)?.max(f64::MIN_POSITIVE);
    let gradient = |sign: f64| -> Result<Vec<Tensor>> {
        let pairs = params.tensors().iter().zip(&v);
        let moved = pairs.map(|(p, v)| Ok((p + (v * (sign * step))?)?));
        let moved = params.with_tensors(moved.collect::<Result<_>>()?)?;
        let (_, grads) = task.loss_and_grad(&moved, batch)?;
        let grads = grads.tensors().iter().zip(params.tensors());
        grads
            .map(|(grad, p)| grad.clone().map_or_else(|| Ok(p.zeros_like()?), Ok))
            .collect()
    };
    let (forward, backward) = (gradient(1.0)?, gradient(-1.0)?);
    let ours = task.hessian_vector(params, batch, &v)?;
    let mut difference = vec![];
    let mut expected = vec![];
    for ((forward, backward), ours) in forward.iter().zip(&backward).zip(&ours) {
        let slope = ((forward - backward)? / (2.0 * step))?;
        difference.push((&slope - ours)?);
        expected.push(slope);
    }
    let (error, scale) = (length(&difference)?, length(&expected)?);
    // Gradients of f32 differ by rounding even where the loss is linear.
    let rounding = 1e-5 * (length(&forward)? + length(&backward)?) / step;
    if error <= TOLERANCE * scale + rounding || !scale.is_finite() {
        return Ok(());
    }
    Err(Error::Mismatch(format!(
        "the Hessian of task `{}` times a vector is off by {error:.3e} of {scale:.3e}, compared \
         with differences of its gradient: an operation in its loss has a gradient that candle \
         cannot differentiate; write that operation in candle ops, or implement \
         Task::hessian_vector",
        task.name()
    )))
}
