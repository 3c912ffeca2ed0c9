//! What the blackbox and STAR have in common: per-parameter accumulators, 39 features of
//! them, and a small MLP that reads the features of each scalar parameter.
//!
//! One step of such an optimizer, for each parameter tensor of n elements with gradient g:
//!
//! 1. [`accumulate`](accumulators::accumulate): the seven moving averages take g in;
//! 2. [`features`](features::features): \[28, n\], normalised over the tensor;
//! 3. the MLP \[39 → hidden → heads\] with 11 features of the step appended;
//! 4. the optimizer's own formula from the heads to the update Δφ.
//!
//! [`PerParam::step`] does all of it and leaves 4 to a closure. Everything is candle ops,
//! on any device and in f32 or f64, and differentiable in θ. [`PerParam::fused_by`] does the
//! same in place on plain f32 memory, some hundred times faster, where 4 is a [`Formula`].
//!
//! Source: Metz et al. 2022, arXiv 2203.11860 (`small_fc_lopt`).

pub mod accumulators;
pub mod features;
mod fused;
mod mlp;
mod step;

pub use fused::{Exponent, Formula};
pub use step::{Evaluation, PerParam};

/// The decay rates b₀ that δ = 0 stands for.
pub mod initial_decays {
    /// Of the three momenta.
    pub const MOMENTUM: [f64; 3] = [0.9, 0.99, 0.999];
    /// Of the second moment.
    pub const RMS: [f64; 1] = [0.999];
    /// Of the three factored second moments.
    pub const ADAFACTOR: [f64; 3] = [0.9, 0.99, 0.999];
}
