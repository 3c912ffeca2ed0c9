//! Tasks that optimizers are meta-trained and evaluated on.
//!
//! * [`Task`]: a model, its data and its loss. [`MlpTask`] is a plain MLP on MNIST, Fashion-MNIST
//!   or CIFAR-10, with a fast path on the CPU; [`ModelTask`] is any other network, on images,
//!   text or tables.
//! * [`TaskFamily`]: a distribution of tasks to meta-train on; [`TaskFamilyConfig`] describes one
//!   in TOML.
//! * [`suite`]: lists of tasks to evaluate on, in and out of distribution.
//! * [`Network`]: a task's network in training, the inner loop.
//!
//! Your own task needs three methods and your own family one: see the examples of [`Task`] and
//! [`TaskFamily`].

mod activation;
mod classification;
mod config;
mod data;
mod error;
mod family;
mod images;
mod initializer;
mod mlp;
mod model_task;
mod models;
mod native;
mod network;
mod reparametrized;
mod second_order;
mod similar;
pub mod suite;
mod table;
mod target;
mod task;
mod together;

pub use activation::Activation;
pub use config::{LoadedTask, TaskConfig};
pub use data::DataConfig;
pub use error::{Error, Result};
pub use family::{
    Mixture, MixtureConfig, MlpFamily, MlpFamilyConfig, ModelFamily, ModelFamilyConfig, TaskFamily,
    TaskFamilyConfig, Weighted,
};
pub use images::{DataChecksums, DataStore, Images, Pixels};
pub use initializer::Initializer;
pub use lopt_cuda_backend::Step;
pub use mlp::{MlpConfig, MlpTask};
pub use model_task::{ModelTask, ModelTaskConfig};
pub use models::*;
pub use native::{NativeBatch, NativeTask, Workspace};
pub use network::{Feed, Loss, Network};
pub use reparametrized::{Reparametrize, Reparametrized};
pub use second_order::check_hessian;
pub use similar::did_you_mean;
pub use task::{Batch, Split, Task, TestScore};
pub use together::{NewFleet, STEPS_TOGETHER, Together};
