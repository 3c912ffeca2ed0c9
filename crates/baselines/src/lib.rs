//! Baselines with a schedule of the learning rate: [`AdamW`] with warm-up and cosine decay, and
//! [`Sgd`] with momentum and cosine decay.
//!
//! The schedule needs the length of the training run, [`StepContext::horizon`]. Without it the
//! learning rate is constant. A [`DropIn`] does not know it: there, use [`DropInConfig::schedule`].
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use lopt_baselines::Sgd;
//! use lopt_core::{Grads, Optimizer, Params, StepContext};
//!
//! let w = Tensor::new(&[1f32, -2.0], &Device::Cpu)?;
//! let mut params = Params::new([("w".to_owned(), w)])?;
//! let sgd = Sgd::new(0.1);
//! let mut state = sgd.init(&params)?;
//! let grads = Grads::new(vec![Some(Tensor::new(&[1f32, 1.0], &Device::Cpu)?)]);
//! let context = StepContext::new(0, sgd.learning_rate()).with_horizon(100);
//! sgd.update(&context, &mut state, &mut params, &grads)?;
//! assert_eq!(params.tensors()[0].to_vec1::<f32>()?, [0.9, -2.1]);
//! # Ok::<(), lopt_core::Error>(())
//! ```
//!
//! [`StepContext::horizon`]: lopt_core::StepContext::horizon

mod adamw;
mod schedule;
mod sgd;

pub use lopt_core::{Clip, DropIn, DropInConfig, Group, LossScale, NonFinite, Schedule, Workers};

pub use adamw::{ADAMW_GRID, AdamW, AdamWOptimizer};
pub use schedule::WarmUpCosine;
pub use sgd::{SGD_GRID, Sgd, SgdOptimizer};
