//! What evolution strategies have in common: perturbed optimizers, and means over pairs.

use std::sync::Arc;

use lopt_core::{LearnedOptimizer, Optimizer, Purpose, Streams, normal};

use super::{Estimate, unroll::StepRecord};
use crate::Result;

/// The halves of a pair, as checkpoints name them.
pub const HALVES: [&str; 2] = ["plus", "minus"];

/// ξ ~ N(0, σ²) of one pair at one outer step.
pub fn perturbation(
    streams: Streams,
    sigma: f64,
    outer_step: u64,
    index: u64,
    n: usize,
) -> Vec<f32> {
    let mut rng = streams.stream(Purpose::Perturbation, outer_step, index, 0);
    (0..n).map(|_| sigma as f32 * normal(&mut rng)).collect()
}

/// The optimizer with θ + sign·ξ, or with θ itself.
pub fn shifted(
    optimizer: &dyn LearnedOptimizer,
    shift: Option<(f32, &[f32])>,
) -> Result<Arc<dyn Optimizer>> {
    let mut theta = optimizer.theta().values().to_vec();
    if let Some((sign, xi)) = shift {
        theta.iter_mut().zip(xi).for_each(|(w, xi)| *w += sign * xi);
    }
    let optimizer: Arc<dyn LearnedOptimizer> = optimizer.with_values(theta)?.into();
    Ok(optimizer)
}

/// Means over the pairs, in their order.
pub fn average(results: &[(Vec<f64>, Vec<StepRecord>)]) -> Estimate {
    let unmasked = |records: &[StepRecord]| records.iter().filter(|r| !r.masked).count();
    let mean_loss = |records: &[StepRecord]| {
        let losses: f64 = records.iter().flat_map(|r| r.losses).map(f64::from).sum();
        losses / (2 * unmasked(records).max(1)) as f64
    };
    let records = || results.iter().map(|(_, records)| records.as_slice());
    Estimate {
        gradient: mean_of(results.iter().map(|(gradient, _)| gradient.as_slice())),
        meta_loss: records().map(mean_loss).sum::<f64>() / results.len() as f64,
        inner_steps: records().map(|records| 2 * unmasked(records) as u64).sum(),
    }
}

/// The mean of vectors of the same length, in their order.
pub fn mean_of<'a>(vectors: impl ExactSizeIterator<Item = &'a [f64]>) -> Vec<f64> {
    let count = vectors.len() as f64;
    let mut mean = vec![];
    for vector in vectors {
        mean.resize(vector.len(), 0.0);
        for (sum, x) in mean.iter_mut().zip(vector) {
            *sum += x / count;
        }
    }
    mean
}
