//! A network in training: the inner loop of meta-training and evaluation.

use std::sync::Arc;

use candle_core::Tensor;
use lopt_core::{
    Backend, Chosen, Error, Fused, LearnedOptimizer, Optimizer, Params, Result, Rng, State,
    StepContext,
};
use lopt_cuda_backend::Step;

use crate::{Batch, NativeBatch, NativeTask, Split, Task, Workspace};

/// A network in training: φ, the optimizer that trains it, and the optimizer's state.
///
/// An inner step takes the fastest of these paths, which [`Network::path`] names:
///
/// 1. native loss, fused update: on the CPU, if the task has a [`Task::native`] form;
/// 2. [`Task::loss_and_grad`], fused update: if the optimizer has one;
/// 3. [`Task::loss_and_grad`], [`Optimizer::update`] in candle ops.
///
/// ```
/// use std::sync::Arc;
/// use candle_core::Device;
/// use lopt_core::{Purpose, Streams};
/// use lopt_star::Star;
/// use lopt_tasks::{DataStore, Feed, MlpTask, Network, Split, Task, suite::Suite};
///
/// let (config, _) = Suite::Quick.base();
/// let task = Arc::new(MlpTask::new(config, &mut DataStore::default(), &Device::Cpu)?);
/// let mut rng = Streams::new(0).stream(Purpose::InnerBatch, 0, 0, 0);
/// let params = task.init(&mut rng)?;
/// let mut network = Network::start(task, params, Arc::new(Star::default()))?;
/// let mut feed = Feed::default();
/// let mut losses = vec![];
/// for _ in 0..100 {
///     network.draw(Split::Train, &mut rng, &mut feed)?;
///     losses.push(network.step(&mut feed)?.loss);
/// }
/// assert!(losses[99] < 0.6 * losses[0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Network {
    task: Arc<dyn Task>,
    optimizer: Arc<dyn Optimizer>,
    horizon: Option<u64>,
    /// Names, shapes and device, with the initial values.
    template: Params,
    engine: Engine,
}

enum Engine {
    Native {
        task: Arc<dyn NativeTask>,
        /// All parameters, in name order.
        params: Vec<f32>,
        /// The end of each parameter in `params`.
        ends: Vec<usize>,
        fused: Box<Fused>,
    },
    Tensors {
        /// Not shared: a backend may work in place.
        params: Params,
        backend: Box<dyn Backend>,
    },
}

/// The current minibatch of a task, and scratch memory. Networks of the same task may share it.
#[derive(Default)]
pub struct Feed {
    native: NativeBatch,
    tensors: Batch,
    grads: Vec<f32>,
    workspace: Workspace,
}

/// The loss of an inner step, which may still be computed by a GPU.
#[derive(Clone, Debug)]
pub enum Loss {
    /// Its value.
    Value(f32),
    /// A scalar on a GPU.
    OnDevice(Tensor),
}

impl Loss {
    /// Waits for the value.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn value(&self) -> Result<f32> {
        match self {
            Self::Value(loss) => Ok(*loss),
            Self::OnDevice(loss) => Ok(loss.to_scalar()?),
        }
    }

    /// Waits for the values of some losses of one device, once for all of them.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn values(losses: &[Self]) -> Result<Vec<f32>> {
        let on_device = losses.iter().filter_map(|loss| match loss {
            Self::Value(_) => None,
            Self::OnDevice(loss) => Some(loss),
        });
        let on_device: Vec<&Tensor> = on_device.collect();
        let mut read = match on_device.is_empty() {
            true => vec![],
            false => Tensor::stack(&on_device, 0)?.to_vec1::<f32>()?,
        }
        .into_iter();
        let value = |loss: &Self| match loss {
            Self::Value(loss) => Some(*loss),
            Self::OnDevice(_) => read.next(),
        };
        Ok(losses.iter().filter_map(value).collect())
    }
}

impl Network {
    /// A network at the start of training from `params`.
    ///
    /// # Errors
    /// Returns an error if the optimizer's state cannot be created or a tensor operation fails.
    pub fn start(
        task: Arc<dyn Task>,
        params: Params,
        optimizer: Arc<dyn Optimizer>,
    ) -> Result<Self> {
        let chosen = Chosen::new(&*optimizer, &params)?;
        let engine = match (task.clone().native(), chosen) {
            (Some(task), Chosen::Fused(fused)) => Engine::Native {
                task,
                params: flat(&params)?,
                ends: ends(&params),
                fused,
            },
            (_, chosen) => Engine::Tensors {
                backend: chosen.into_backend(),
                params: own(&params)?,
            },
        };
        Ok(Self {
            task,
            optimizer,
            horizon: None,
            template: params,
            engine,
        })
    }

    /// Passes the total number of training steps to the optimizer; see [`StepContext::horizon`].
    pub fn with_horizon(self, horizon: u64) -> Self {
        Self {
            horizon: Some(horizon),
            ..self
        }
    }

    fn backend(&self) -> &dyn Backend {
        match &self.engine {
            Engine::Native { fused, .. } => &**fused,
            Engine::Tensors { backend, .. } => &**backend,
        }
    }

    fn backend_mut(&mut self) -> &mut dyn Backend {
        match &mut self.engine {
            Engine::Native { fused, .. } => &mut **fused,
            Engine::Tensors { backend, .. } => &mut **backend,
        }
    }

    /// The path of inner steps, such as "native loss, avx512 update".
    pub fn path(&self) -> String {
        let loss = match &self.engine {
            Engine::Native { .. } => "native loss",
            Engine::Tensors { .. } => "candle autodiff",
        };
        format!("{loss}, {} update", self.backend().path())
    }

    /// The optimizer that trains it.
    pub fn optimizer(&self) -> &Arc<dyn Optimizer> {
        &self.optimizer
    }

    /// Continues with other values of θ.
    ///
    /// # Errors
    /// Returns an error if the optimizer has no θ, or another number of meta-parameters.
    pub fn set_theta(&mut self, values: &[f32]) -> Result<()> {
        let learned = self.optimizer.as_learned().ok_or_else(|| {
            Error::Mismatch(format!("`{}` has no θ to set", self.optimizer.kind()))
        })?;
        let optimizer: Arc<dyn LearnedOptimizer> = learned.with_values(values.to_vec())?.into();
        self.backend_mut().set_theta(values)?;
        self.optimizer = optimizer;
        Ok(())
    }

    /// Draws the minibatch of the next step into `feed`.
    ///
    /// # Errors
    /// Propagates the task's errors.
    pub fn draw(&self, split: Split, rng: &mut Rng, feed: &mut Feed) -> Result<()> {
        match &self.engine {
            Engine::Native { task, .. } => task.batch(split, rng, &mut feed.native),
            Engine::Tensors { .. } => feed.tensors = self.task.batch(split, rng)?,
        }
        Ok(())
    }

    /// Takes one inner step on the minibatch in `feed`, which a network of the same task and kind
    /// of optimizer drew.
    ///
    /// # Errors
    /// Propagates the errors of the task and of the optimizer, except for gradients that are not
    /// finite; see [`Step::refused`].
    pub fn step(&mut self, feed: &mut Feed) -> Result<Step> {
        let (loss, refused) = self.take_step(feed, true)?;
        let loss = loss.value()?;
        Ok(Step { loss, refused })
    }

    /// As [`Network::step`], without waiting for a GPU. From this step on, it is not known whether a
    /// step on a GPU was skipped. The optimizer does not see the loss of this step.
    ///
    /// # Errors
    /// As [`Network::step`].
    pub fn step_without_waiting(&mut self, feed: &mut Feed) -> Result<Loss> {
        self.backend_mut().allow_skipping();
        Ok(self.take_step(feed, false)?.0)
    }

    /// Takes a step, after waiting for the loss if asked, and returns whether it was refused at once.
    fn take_step(&mut self, feed: &mut Feed, waits: bool) -> Result<(Loss, bool)> {
        let mut context = StepContext::new(self.backend().steps(), self.optimizer.learning_rate());
        context.horizon = self.horizon;
        let (loss, result) = match &mut self.engine {
            Engine::Native {
                task,
                params,
                ends,
                fused,
            } => {
                let names = self.template.names();
                let (loss, result) = feed.native_step(&**task, context, names, params, ends, fused);
                (Loss::Value(loss), result)
            }
            Engine::Tensors { params, backend } => {
                let (loss, grads) = self.task.differentiate(params, &feed.tensors)?;
                let loss = match waits || loss.device().is_cpu() {
                    true => Loss::Value(loss.to_scalar()?),
                    false => Loss::OnDevice(loss),
                };
                if let Loss::Value(loss) = loss {
                    context = context.with_loss(loss);
                }
                let stepped = backend.step(&*self.optimizer, &context, params, &grads);
                let result = stepped.map(|new| {
                    if let Some(new) = new {
                        *params = new;
                    }
                });
                (loss, result)
            }
        };
        let refused = match result {
            Err(error) if error.is_bad_gradient() => true,
            other => {
                other?;
                false
            }
        };
        Ok((loss, refused))
    }

    /// A copy of φ.
    ///
    /// # Errors
    /// Returns an error if a tensor operation fails.
    pub fn params(&self) -> Result<Params> {
        match &self.engine {
            Engine::Native { params, ends, .. } => {
                let starts = std::iter::once(&0).chain(ends);
                let tensors = starts.zip(ends).zip(self.template.tensors());
                let tensors = tensors.map(|((&start, &end), template)| {
                    let values = &params[start..end];
                    Ok(Tensor::from_slice(
                        values,
                        template.shape(),
                        template.device(),
                    )?)
                });
                self.template.with_tensors(tensors.collect::<Result<_>>()?)
            }
            Engine::Tensors { params, .. } => own(params),
        }
    }

    /// A copy of the optimizer's state.
    ///
    /// # Errors
    /// Returns an error if a tensor operation fails.
    pub fn state(&self) -> Result<State> {
        self.backend().state()
    }

    /// Continues from the given parameters and state.
    ///
    /// # Errors
    /// Returns an error if their names or shapes are not the network's; the network is unchanged
    /// then.
    pub fn restore(&mut self, restored: &Params, restored_state: State) -> Result<()> {
        if restored.names() != self.template.names() || restored.shapes() != self.template.shapes()
        {
            return Err(Error::Mismatch(
                "the parameters belong to another network".to_owned(),
            ));
        }
        match &mut self.engine {
            Engine::Native { params, fused, .. } => {
                let values = flat(restored)?;
                fused.set_state(restored_state)?;
                *params = values;
            }
            Engine::Tensors { params, backend } => {
                let copies = own(restored)?;
                backend.set_state(restored_state)?;
                *params = copies;
            }
        }
        Ok(())
    }
}

impl Feed {
    fn native_step(
        &mut self,
        task: &dyn NativeTask,
        context: StepContext,
        names: &[String],
        params: &mut [f32],
        ends: &[usize],
        fused: &mut Fused,
    ) -> (f32, Result<()>) {
        self.grads.resize(params.len(), 0.0);
        let (grads, workspace) = (&mut self.grads, &mut self.workspace);
        let loss = task.loss_and_grad(params, &self.native, grads, workspace);
        let context = context.with_loss(loss);
        (loss, fused.step_flat(&context, names, ends, params, grads))
    }
}

fn ends(params: &Params) -> Vec<usize> {
    let sizes = params.tensors().iter().map(Tensor::elem_count);
    let add = |end: &mut usize, size| {
        *end += size;
        Some(*end)
    };
    sizes.scan(0, add).collect()
}

fn flat(params: &Params) -> Result<Vec<f32>> {
    let mut values = Vec::with_capacity(params.numel());
    for tensor in params.tensors() {
        values.extend(tensor.flatten_all()?.to_vec1::<f32>()?);
    }
    Ok(values)
}

/// Copies that share no memory with `params`.
fn own(params: &Params) -> Result<Params> {
    let copies = params.tensors().iter().map(|t| Ok(t.copy()?.detach()));
    params.with_tensors(copies.collect::<Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn losses_are_read_in_their_order() {
        let on_device = |loss: f32| Loss::OnDevice(Tensor::new(loss, &Device::Cpu).unwrap());
        let losses = [
            Loss::Value(1.0),
            on_device(2.0),
            Loss::Value(3.0),
            on_device(4.0),
        ];
        assert_eq!(Loss::values(&losses).unwrap(), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(losses[1].value().unwrap(), 2.0);
        assert!(Loss::values(&[]).unwrap().is_empty());
    }
}
