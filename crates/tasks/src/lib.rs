//! What optimizers are trained on and judged by.
//!
//! A [`Task`] is a model, its data and its loss. The suite's own are multi-layer
//! perceptrons on images ([`MlpTask`]): MNIST, Fashion-MNIST and CIFAR-10 at any image
//! size, any widths, depths and nonlinearities; and other networks ([`ModelTask`]), for images
//! and text. A [`TaskFamily`] is a distribution of
//! tasks to meta-train on; [`suite`] lists the tasks to evaluate out of distribution.
//!
//! A task of one's own needs three functions:
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use lopt_core::{Params, Result, Rng, normal};
//! use lopt_tasks::{Batch, Split, Task};
//!
//! /// Fits w to noisy samples of a line.
//! struct Line;
//!
//! impl Task for Line {
//!     fn init(&self, _: &mut Rng) -> Result<Params> {
//!         Params::new([("w".to_owned(), Tensor::zeros((1, 1), candle_core::DType::F32, &Device::Cpu)?)])
//!     }
//!
//!     fn batch(&self, _: Split, rng: &mut Rng) -> Result<Batch> {
//!         let x: Vec<f32> = (0..16).map(|_| normal(rng)).collect();
//!         let y: Vec<f32> = x.iter().map(|x| 3.0 * x + 0.1 * normal(rng)).collect();
//!         let column = |values| Tensor::from_vec(values, (16, 1), &Device::Cpu);
//!         Ok(vec![column(x)?, column(y)?])
//!     }
//!
//!     fn loss(&self, params: &Params, batch: &Batch) -> Result<Tensor> {
//!         let predicted = batch[0].matmul(params.get("w")?)?;
//!         Ok((predicted - &batch[1])?.sqr()?.mean_all()?)
//!     }
//! }
//!
//! use lopt_core::{Optimizer, Purpose, Streams};
//! # fn main() -> Result<()> {
//! let star = lopt_star::Star::default();
//! let mut rng = Streams::new(0).stream(Purpose::InnerBatch, 0, 0, 0);
//! let mut params = Line.init(&mut rng)?;
//! let mut state = star.init(&params)?;
//! for _ in 0..4000 {
//!     let batch = Line.batch(Split::Train, &mut rng)?;
//!     let (_, grads) = Line.loss_and_grad(&params, &batch)?;
//!     star.step(&mut state, &mut params, &grads)?;
//! }
//! let w = params.get("w")?.flatten_all()?.to_vec1::<f32>()?[0];
//! assert!((w - 3.0).abs() < 0.1, "{w}");
//! # Ok(())
//! # }
//! ```

mod activation;
mod classification;
mod config;
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
pub mod suite;
mod task;

pub use activation::Activation;
pub use config::{LoadedTask, TaskConfig};
pub use error::{Error, Result};
pub use family::{
    Mixture, MixtureConfig, MlpFamily, MlpFamilyConfig, ModelFamily, ModelFamilyConfig, TaskFamily,
    TaskFamilyConfig, Weighted,
};
pub use images::{DataStore, Images};
pub use initializer::Initializer;
pub use mlp::{MlpConfig, MlpTask};
pub use model_task::{DataConfig, ModelTask, ModelTaskConfig};
pub use models::{
    ConvNetConfig, LayerNormMlpConfig, LstmConfig, ModelConfig, ModelKind, ResNetConfig,
    TransformerConfig,
};
pub use native::{NativeBatch, NativeTask, Workspace};
pub use network::{Feed, Network, Step};
pub use reparametrized::{Reparametrize, Reparametrized};
pub use second_order::check_hessian;
pub use task::{Batch, Split, Task, TestScore};
