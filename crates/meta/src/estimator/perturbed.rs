//! What evolution strategies have in common: perturbed optimizers, and means over pairs.

use std::sync::Arc;

use lopt_core::{LearnedOptimizer, Optimizer, Purpose, Streams, normal};

use super::{together::Contribution, unroll::StepRecord};
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

/// What one pair says.
pub fn contribution(gradient: Vec<f64>, records: &[StepRecord]) -> Contribution {
    let unmasked = 2 * records.iter().filter(|record| !record.masked).count();
    let losses: f64 = records.iter().flat_map(|r| r.losses).map(f64::from).sum();
    Contribution {
        gradient,
        meta_loss: losses / unmasked.max(2) as f64,
        inner_steps: unmasked as u64,
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
