//! Meta-training: learning θ.
//!
//! The inner loop trains networks with the optimizer that θ describes ([`unroll`]); a
//! gradient estimator ([`Pes`]) perturbs θ and tells from the losses where to go; the
//! outer loop ([`Trainer`]) follows it with AdamW ([`OuterOptimizer`]) and keeps a run
//! directory ([`RunDir`]) from which it can go on after any interruption, bit for bit.

mod config;
mod error;
mod estimator;
mod held_out;
mod outer;
mod pes;
mod run_dir;
mod trainer;
pub mod unroll;

pub use config::{
    CheckpointConfig, HeldOutConfig, Horizon, Kind, OptimizerConfig, Preset, RunConfig,
};
pub use error::{Error, Result};
pub use estimator::{Estimate, GradientEstimator, Snapshot};
pub use held_out::{HeldOut, HeldOutScore};
pub use outer::{Clip, Decay, OuterConfig, OuterOptimizer, Schedule};
pub use pes::{Pes, PesConfig, pes_gradient};
pub use run_dir::{Checkpoint, Provenance, RunDir};
pub use trainer::{Observer, Progress, Trainer};
