//! What evolution strategies have in common: perturbed optimizers, and what pairs say.

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

/// The optimizers with θ + ξ and θ − ξ.
pub fn antithetic(optimizer: &dyn LearnedOptimizer, xi: &[f32]) -> Result<[Arc<dyn Optimizer>; 2]> {
    let shifted = |sign: f32| {
        let pairs = optimizer.theta().values().iter().zip(xi);
        copy(optimizer, pairs.map(|(w, xi)| w + sign * xi).collect())
    };
    Ok([shifted(1.0)?, shifted(-1.0)?])
}

/// The optimizer with θ itself, for both halves.
pub fn unperturbed(optimizer: &dyn LearnedOptimizer) -> Result<[Arc<dyn Optimizer>; 2]> {
    let copy = copy(optimizer, optimizer.theta().values().to_vec())?;
    Ok([copy.clone(), copy])
}

fn copy(optimizer: &dyn LearnedOptimizer, theta: Vec<f32>) -> Result<Arc<dyn Optimizer>> {
    let copy: Arc<dyn LearnedOptimizer> = optimizer.with_values(theta)?.into();
    Ok(copy)
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
