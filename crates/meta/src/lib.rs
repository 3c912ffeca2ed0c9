//! Meta-training: learning θ.
//!
//! The inner loop trains networks with the optimizer that θ describes; a
//! [`GradientEstimator`] tells where θ should go: evolution strategies from the losses of
//! perturbed θ ([`TruncatedEs`], which is PES or truncated ES, and [`FullEs`]), or
//! backpropagation through the inner loop ([`Backprop`], [`meta_gradient`]). The outer loop
//! ([`Trainer`]) follows it with AdamW ([`OuterOptimizer`]) and keeps a run directory
//! ([`RunDir`]) from which it can go on after any interruption, bit for bit.

mod comm;
mod config;
mod error;
mod estimator;
mod exact_sum;
mod grad_study;
mod held_out;
mod outer;
mod run_dir;
mod trainer;

pub use comm::{Alone, Comm, share};
pub use config::{
    CheckpointConfig, HeldOutConfig, Horizon, Kind, OptimizerConfig, Preset, RunConfig,
};
pub use error::{Error, Result};
pub use estimator::{
    Adjoint, Backprop, BackpropConfig, Estimate, EstimatorConfig, EstimatorKind, FullEs,
    FullEsConfig, GradientEstimator, LinearizedStep, MetaGradient, MetaLoss, Persistence, Snapshot,
    TruncatedConfig, TruncatedEs, UnrollLoss, es_gradient, full_es_gradient, meta_gradient,
    pes_gradient, unroll,
};
pub use grad_study::{GradStudy, STUDIED, StudyPoint};
pub use held_out::{HELD_OUT_FINAL_FRACTION, HeldOut, HeldOutScore};
pub use outer::{Clip, Decay, OuterConfig, OuterOptimizer, Schedule};
pub use run_dir::{Checkpoint, Provenance, RunDir};
pub use trainer::{Observer, Progress, Resources, Trainer};
