//! Batches, bounds and scores of classification tasks.

use candle_core::{D, DType, Device, Tensor};
use lopt_core::{Error, Result};

use crate::{Batch, TestScore};

/// The two tensors of a batch.
pub(crate) fn inputs_and_labels(batch: &Batch) -> Result<[&Tensor; 2]> {
    match batch.as_slice() {
        [inputs, labels] => Ok([inputs, labels]),
        _ => Err(Error::Mismatch(format!(
            "a batch of {} tensors; it must have inputs and labels",
            batch.len()
        ))),
    }
}

/// The loss clipped to \[0, 1.5·ln(classes)\]; NaN and ±inf count as the upper bound.
pub(crate) fn normalize(loss: f32, classes: usize) -> f32 {
    let ceiling = 1.5 * (classes as f32).ln();
    if loss.is_finite() {
        loss.clamp(0.0, ceiling)
    } else {
        ceiling
    }
}

/// Accumulates a [`TestScore`] over parts of the test set.
#[derive(Default)]
pub(crate) struct TestRun {
    loss: f64,
    correct: f64,
    n: usize,
}

impl TestRun {
    /// Adds logits \[n, classes\] with their labels \[n\]. The rest is computed on the CPU: on a GPU it
    /// would be many small launches.
    pub fn add(&mut self, logits: &Tensor, labels: &Tensor) -> Result<()> {
        let n = labels.elem_count();
        let logits = &logits.to_device(&Device::Cpu)?;
        let labels = &labels.to_device(&Device::Cpu)?;
        let loss = candle_nn::loss::cross_entropy(logits, labels)?.to_scalar::<f32>()?;
        let right = logits.argmax(D::Minus1)?.eq(labels)?;
        let right = right.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?;
        self.add_part(n, loss, f64::from(right));
        Ok(())
    }

    /// Adds `n` rows with their mean loss and the number of correct predictions.
    pub fn add_part(&mut self, n: usize, loss: f32, correct: f64) {
        self.loss += f64::from(loss) * n as f64;
        self.correct += correct;
        self.n += n;
    }

    pub fn score(&self) -> TestScore {
        TestScore {
            loss: (self.loss / self.n as f64) as f32,
            // `max` also replaces NaN.
            accuracy: ((self.correct / self.n as f64) as f32).max(0.0),
        }
    }
}
