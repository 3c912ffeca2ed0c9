//! Meta-training: learning θ.
//!
//! The inner loop trains networks with the optimizer that θ describes. A
//! [`GradientEstimator`] estimates the gradient of the meta-loss with respect to θ: evolution
//! strategies from the losses at perturbed θ ([`TruncatedEs`], which is PES or truncated ES, and
//! [`FullEs`]), or backpropagation through the inner loop ([`Backprop`], [`meta_gradient`]). The
//! outer loop ([`Trainer`]) updates θ with AdamW ([`OuterOptimizer`]) and writes a run directory
//! ([`RunDir`]), from which it resumes after any interruption, bit for bit. The trainer takes any
//! [`TaskFamily`](lopt_tasks::TaskFamily) and any
//! [`LearnedOptimizer`](lopt_core::LearnedOptimizer); [`RunConfig`] creates both from TOML, with
//! the optimizers of the [`registry`].

mod comm;
mod config;
mod error;
mod estimator;
mod exact_sum;
mod grad_study;
mod held_out;
mod outer;
pub mod registry;
mod run_dir;
mod trainer;

pub use comm::{Alone, Comm, share};
pub use config::{
    CheckpointConfig, Configuration, HeldOutConfig, Horizon, OptimizerConfig, Preset, RunConfig,
    TrainerConfig,
};
pub use error::{Error, Result};
pub use estimator::{
    Adjoint, Backprop, BackpropConfig, Contribution, Driver, Episode, Estimate, Estimator,
    EstimatorConfig, EstimatorKind, FullEs, FullEsConfig, GradientEstimator, LinearizedStep,
    MetaGradient, MetaLoss, MetaObjective, NamedTensors, OuterStep, Persistence, Saved, Settings,
    Snapshot, Source, StepRecord, TruncatedConfig, TruncatedEs, UnrollLoss, es_gradient,
    full_es_gradient, meta_gradient, pes_gradient,
};
pub use grad_study::{GradStudy, STUDIED, StudyPoint};
pub use held_out::{HELD_OUT_FINAL_PERCENT, HeldOut, HeldOutScore};
pub use outer::{Clip, Decay, OuterConfig, OuterOptimizer, Schedule};
pub use run_dir::{Checkpoint, Origin, Provenance, RunDir};
pub use trainer::{Observer, Progress, Resources, SavedRun, Trainer};
