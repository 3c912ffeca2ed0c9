//! The types that the crates of lopt share.
//!
//! * [`Params`] and [`Grads`]: the named tensors of the network being trained, in name
//!   order.
//! * [`Theta`]: the meta-parameters θ of a learned optimizer, one flat vector with named
//!   parts, stored in one safetensors file.
//! * [`Optimizer`]: a function of (state, parameters, gradients); [`LearnedOptimizer`]
//!   adds θ. [`DropIn`] adapts both to [`candle_nn::Optimizer`].
//! * [`Streams`]: counter-based random numbers, so that results depend only on the seed.
//! * [`file`](mod@file): self-describing safetensors files with a checksum, written atomically.

mod backend;
mod candle_ops;
mod context;
pub mod device;
mod drop_in;
mod environment;
mod error;
pub mod file;
mod folder;
mod fused;
mod optimizer;
mod params;
mod rng;
mod schedule;
mod state;
mod theta;
mod workers;

pub use backend::{Backend, Chosen, GradSource};
pub use candle_ops::CandleOps;
pub use context::StepContext;
pub use drop_in::{Clip, DropIn, DropInConfig, Group, LossScale, NonFinite};
pub use environment::{one_candle_thread, second_derivatives};
pub use error::{Error, Result};
pub use folder::FolderLock;
pub use fused::{Fused, FusedUpdate};
pub use optimizer::{LearnedOptimizer, Optimizer};
pub use params::{Grads, Params, Places};
pub use rng::{Purpose, Rng, Streams, log_uniform, normal, truncated_normal};
pub use schedule::Schedule;
pub use state::{Slot, State};
pub use theta::{Layout, Theta};
pub use workers::Workers;
