//! Gradients on their way from candle to the optimizer.

use candle_core::{DType, Tensor};

use super::config::Clip;
use crate::{Grads, Params, Result, params::with_values};

/// The sums of the gradients since the last step.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub sums: Vec<Option<Tensor>>,
    pub count: u64,
}

impl Pending {
    pub fn add(&mut self, grads: &Grads) -> Result<()> {
        let grads = grads.tensors();
        self.sums.resize(grads.len(), None);
        for (sum, grad) in self.sums.iter_mut().zip(grads) {
            let added = match (&sum, grad) {
                (Some(sum), Some(grad)) => Some((sum + grad)?),
                (None, grad) => grad.clone(),
                (Some(_), None) => continue,
            };
            *sum = added;
        }
        self.count += 1;
        Ok(())
    }

    /// The sums, which are then empty.
    pub fn take(&mut self) -> Grads {
        self.count = 0;
        Grads::new(std::mem::take(&mut self.sums))
    }
}

/// All gradients times a factor.
pub(super) fn scaled(grads: &Grads, factor: f64) -> Result<Grads> {
    map(grads, |grad| Ok(grad.affine(factor, 0.0)?))
}

/// All gradients within the limit. They must be finite.
pub(super) fn clipped(grads: Grads, clip: Clip, params: &Params) -> Result<Grads> {
    // The norm of gradients that are not finite would spoil all of them.
    grads.check(params)?;
    let limit = match clip {
        Clip::Value(limit) => return map(&grads, |grad| Ok(grad.clamp(-limit, limit)?)),
        Clip::GlobalNorm(limit) => limit,
    };
    let present = grads.tensors().iter().flatten();
    let squares = present.map(sum_of_squares).sum::<Result<f64>>();
    let norm = squares?.sqrt();
    match norm > limit {
        true => scaled(&grads, limit / norm),
        false => Ok(grads),
    }
}

/// Σ g², in f64.
fn sum_of_squares(grad: &Tensor) -> Result<f64> {
    let square = |g: &f32| f64::from(*g) * f64::from(*g);
    if let Some(sum) = with_values(grad, |values| values.iter().map(square).sum()) {
        return Ok(sum);
    }
    Ok(grad.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar()?)
}

fn map(grads: &Grads, change: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Grads> {
    let each = |grad: &Option<Tensor>| grad.as_ref().map(&change).transpose();
    Ok(Grads::new(
        grads.tensors().iter().map(each).collect::<Result<_>>()?,
    ))
}
