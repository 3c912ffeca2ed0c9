//! The common part of the learned optimizers: accumulators of each parameter, their features, and a
//! small MLP on the features of each scalar parameter.
//!
//! One step, for each parameter tensor of n elements with gradient g:
//!
//! 1. [`accumulate`](accumulators::accumulate): updates the seven moving averages with g;
//! 2. [`features`](features::features): \[features, n\], normalized over the tensor;
//! 3. the MLP \[inputs → hidden → heads\], which also reads the features of the step;
//! 4. the formula of a [`Rule`], from the MLP's outputs to the update Δφ.
//!
//! [`Learned`] is the optimizer of a rule; the crates `lopt-blackbox` and `lopt-star` each define
//! one. Its [`update`](lopt_core::Optimizer::update) runs in candle ops, on any device, in f32 or
//! f64, and is differentiable in θ. Its [`fused`](lopt_core::Optimizer::fused) update computes the
//! same in place on f32 slices, about 20 times faster. [`Kind`] creates optimizers by name.
//!
//! Source: Metz et al. 2022, arXiv 2203.11860 (`small_fc_lopt`).

pub mod accumulators;
mod cuda;
pub mod features;
mod fused;
mod kind;
mod learned;
mod mlp;
mod rule;
mod step;

pub use kind::Kind;
pub use learned::Learned;
pub use lopt_kernels::per_param::{Exponent, Formula};
pub use rule::{Evaluation, Pretrained, Rule, TimedFormula};
