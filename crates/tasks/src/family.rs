mod config;
mod mixture;
mod mlp;
mod model;

pub use config::TaskFamilyConfig;
pub use mixture::{Mixture, MixtureConfig, Weighted};
pub use mlp::{MlpFamily, MlpFamilyConfig};
pub use model::{ModelFamily, ModelFamilyConfig};

use std::sync::Arc;

use lopt_core::Rng;
use rand::RngExt;

use crate::{MlpTask, Reparametrize, Task};

/// A distribution of tasks p(task), which meta-training draws from.
///
/// The meta-loss is the expectation over the family of the loss of a network in training. An
/// implementation draws everything random from the generator that it is given: the same
/// generator yields the same task, which is how a run resumes from a checkpoint.
///
/// [`TaskFamilyConfig`] describes the families of this crate. Your own family is a type with one
/// method; a task in an `Arc` is a family that always yields that task:
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// # use lopt_core::{Params, Purpose, Result, Rng, Streams, log_uniform};
/// # use lopt_tasks::{Batch, Split, Task, TaskFamily};
/// # use std::sync::Arc;
/// /// The loss a·x², from x = 1.
/// struct Parabola(f64);
///
/// impl Task for Parabola {
///     fn init(&self, _: &mut Rng) -> Result<Params> {
///         Params::new([("x".to_owned(), Tensor::ones(1, DType::F32, &Device::Cpu)?)])
///     }
///
///     fn batch(&self, _: Split, _: &mut Rng) -> Result<Batch> {
///         Ok(vec![])
///     }
///
///     fn loss(&self, params: &Params, _: &Batch) -> Result<Tensor> {
///         Ok((params.get("x")?.sqr()?.sum_all()? * self.0)?)
///     }
/// }
///
/// /// Parabolas of different curvature.
/// struct Parabolas;
///
/// impl TaskFamily for Parabolas {
///     fn sample(&self, rng: &mut Rng) -> Arc<dyn Task> {
///         Arc::new(Parabola(log_uniform(rng, 0.1, 10.0)))
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let mut rng = Streams::new(0).stream(Purpose::TaskSample, 0, 0, 0);
/// let task = Parabolas.sample(&mut rng);
/// let params = task.init(&mut rng)?;
/// let (loss, _) = task.loss_and_grad(&params, &vec![])?;
/// assert!((0.1..=10.0).contains(&loss));
/// # Ok(())
/// # }
/// ```
pub trait TaskFamily: Send + Sync {
    /// Draws a task.
    fn sample(&self, rng: &mut Rng) -> Arc<dyn Task>;

    /// The only task of the family, if it is an MLP on images: a GPU can then train many networks
    /// together. The default is `None`.
    fn single_mlp(&self) -> Option<Arc<MlpTask>> {
        None
    }
}

/// The family of a single task.
impl<T: Task + 'static> TaskFamily for Arc<T> {
    fn sample(&self, _: &mut Rng) -> Arc<dyn Task> {
        self.clone()
    }

    fn single_mlp(&self) -> Option<Arc<MlpTask>> {
        self.clone().mlp()
    }
}

/// Draws one of `tasks` uniformly, then its factors. `tensors` counts a task's parameter tensors.
fn draw<T: Task + 'static>(
    tasks: &[Arc<T>],
    tensors: impl Fn(&T) -> usize,
    reparametrize: Option<Reparametrize>,
    rng: &mut Rng,
) -> Arc<dyn Task> {
    let task = tasks[rng.random_range(0..tasks.len() as u32) as usize].clone();
    match reparametrize {
        Some(factors) => {
            let tensors = tensors(&task);
            factors.apply(task, tensors, rng)
        }
        None => task,
    }
}
