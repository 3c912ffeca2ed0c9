//! A network in training: the inner loop of everything.

use std::sync::Arc;

use candle_core::Tensor;
use lopt_core::{Fused, Optimizer, Params, Result, Rng, State, Stepper};

use crate::{Batch, NativeBatch, NativeTask, Split, Task, Workspace};

/// φ, the optimizer that trains it, and the optimizer's state.
///
/// On the CPU a task with a [`Task::native`] form and an optimizer with a fused update
/// train in plain memory, which is the fastest; other tasks by [`Task::loss_and_grad`]
/// and, where it exists, the fused update; the rest in candle ops. [`Network::path`]
/// tells.
pub struct Network {
    task: Arc<dyn Task>,
    optimizer: Arc<dyn Optimizer>,
    /// Names, shapes and device; the values are those of the start.
    template: Params,
    engine: Engine,
}

enum Engine {
    Native {
        task: Arc<dyn NativeTask>,
        /// Parameters one after the other, in name order.
        params: Vec<f32>,
        /// Index after each parameter.
        ends: Vec<usize>,
        fused: Box<Fused>,
    },
    Tensors {
        /// Shared with nobody: the fused update works in place.
        params: Params,
        stepper: Stepper,
    },
}

/// Minibatches of one task, and memory that its networks share while one of them is at
/// work.
#[derive(Default)]
pub struct Feed {
    native: NativeBatch,
    tensors: Batch,
    grads: Vec<f32>,
    workspace: Workspace,
}

/// What an inner step yields.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The loss on the minibatch before the update.
    pub loss: f32,
    /// The gradient was not finite: the step was left out, everything is as before.
    pub refused: bool,
}

impl Network {
    /// From the start of training.
    ///
    /// # Errors
    /// Those of candle.
    pub fn start(
        task: Arc<dyn Task>,
        params: Params,
        optimizer: Arc<dyn Optimizer>,
    ) -> Result<Self> {
        let stepper = Stepper::new(&*optimizer, &params)?;
        let engine = match (task.clone().native(), stepper) {
            (Some(task), Stepper::Fused(fused)) => Engine::Native {
                task,
                params: flat(&params)?,
                ends: ends(&params),
                fused,
            },
            (_, stepper) => Engine::Tensors {
                params: own(&params)?,
                stepper,
            },
        };
        Ok(Self {
            task,
            optimizer,
            template: params,
            engine,
        })
    }

    /// How steps are taken, such as "native loss, avx512 update".
    pub fn path(&self) -> String {
        match &self.engine {
            Engine::Native { fused, .. } => format!("native loss, {} update", fused.kernel()),
            Engine::Tensors { stepper, .. } => match stepper {
                Stepper::Fused(fused) => format!("candle autodiff, {} update", fused.kernel()),
                Stepper::Ops(_) => "candle autodiff, update in candle ops".to_owned(),
            },
        }
    }

    /// The optimizer that trains it.
    pub fn optimizer(&self) -> &Arc<dyn Optimizer> {
        &self.optimizer
    }

    /// Goes on with another θ of the same kind and configuration.
    ///
    /// # Errors
    /// If that optimizer has no fused update where this one has.
    pub fn set_optimizer(&mut self, optimizer: Arc<dyn Optimizer>) -> Result<()> {
        match &mut self.engine {
            Engine::Native { fused, .. }
            | Engine::Tensors {
                stepper: Stepper::Fused(fused),
                ..
            } => fused.set_optimizer(&*optimizer, &self.template.shapes())?,
            Engine::Tensors { .. } => {}
        }
        self.optimizer = optimizer;
        Ok(())
    }

    /// Draws the minibatch of the next step into `feed`.
    ///
    /// # Errors
    /// Those of the task.
    pub fn draw(&self, split: Split, rng: &mut Rng, feed: &mut Feed) -> Result<()> {
        match &self.engine {
            Engine::Native { task, .. } => task.batch(split, rng, &mut feed.native),
            Engine::Tensors { .. } => feed.tensors = self.task.batch(split, rng)?,
        }
        Ok(())
    }

    /// One inner step on the minibatch of `feed`, which was drawn by a network of the same
    /// task and kind of optimizer.
    ///
    /// # Errors
    /// Those of the task and of candle.
    pub fn step(&mut self, feed: &mut Feed) -> Result<Step> {
        let (loss, result) = match &mut self.engine {
            Engine::Native {
                task,
                params,
                ends,
                fused,
            } => feed.native_step(&**task, self.template.names(), params, ends, fused),
            Engine::Tensors { params, stepper } => {
                let (loss, grads) = self.task.loss_and_grad(params, &feed.tensors)?;
                let result = match stepper {
                    Stepper::Fused(fused) => fused.step_params(params, &grads),
                    Stepper::Ops(state) => self.optimizer.update(state, params, &grads),
                };
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
        Ok(Step { loss, refused })
    }

    /// A copy of φ.
    ///
    /// # Errors
    /// Those of candle.
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
    /// Those of candle.
    pub fn state(&self) -> Result<State> {
        match &self.engine {
            Engine::Native { fused, .. } => fused.state(),
            Engine::Tensors { stepper, .. } => stepper.state(),
        }
    }

    /// Goes on from these parameters and this state, of the same shapes.
    ///
    /// # Errors
    /// If they do not fit; the network is then as before.
    pub fn restore(&mut self, restored: &Params, restored_state: State) -> Result<()> {
        if restored.names() != self.template.names() || restored.shapes() != self.template.shapes()
        {
            return Err(lopt_core::Error::Mismatch(
                "the parameters are of another network".to_owned(),
            ));
        }
        match &mut self.engine {
            Engine::Native { params, fused, .. } => {
                let values = flat(restored)?;
                fused.set_state(&restored_state)?;
                *params = values;
            }
            Engine::Tensors { params, stepper } => {
                let copies = own(restored)?;
                stepper.set_state(restored_state)?;
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
        names: &[String],
        params: &mut [f32],
        ends: &[usize],
        fused: &mut Fused,
    ) -> (f32, Result<()>) {
        self.grads.resize(params.len(), 0.0);
        let (grads, workspace) = (&mut self.grads, &mut self.workspace);
        let loss = task.loss_and_grad(params, &self.native, grads, workspace);
        (loss, fused.step_flat(names, ends, params, grads))
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

/// Copies in memory of their own.
fn own(params: &Params) -> Result<Params> {
    let copies = params.tensors().iter().map(|t| Ok(t.copy()?.detach()));
    params.with_tensors(copies.collect::<Result<_>>()?)
}
