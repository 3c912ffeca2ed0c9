//! Networks of one task that a GPU trains together.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lopt_core::{Optimizer, Params, Purpose, Result, Rng, Streams};
use lopt_cuda_backend::{Classifier, Fleet, Kernels, Pixels as OnDevice, Step};

use crate::{MlpTask, Pixels, Split, Task};

/// A [`Fleet`] and the task of its networks, which a GPU trains together. Clones are the same fleet.
#[derive(Clone)]
pub struct Together {
    fleet: Arc<Mutex<Box<dyn Fleet>>>,
    task: Arc<MlpTask>,
}

/// The most steps to take between two reads of results, so that minibatches need little memory.
pub const STEPS_TOGETHER: usize = 500;

/// Creates a fleet from a description, the number of networks, and the number of consecutive networks
/// that share minibatches; `None` if there is no GPU or no kernels for them.
pub type NewFleet<'a> = &'a dyn Fn(&Classifier, usize, usize) -> Result<Option<Box<dyn Fleet>>>;

impl Together {
    /// Creates `networks` networks of a task, trained by `optimizer`; each group of `sharing` consecutive
    /// ones shares its minibatches. Returns `None` for no networks, or if the task is not on a GPU or
    /// there are no kernels for the optimizer or the networks.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    ///
    /// # Panics
    /// Panics if `sharing` does not divide `networks`.
    pub fn on_gpu(
        task: &Arc<MlpTask>,
        optimizer: &dyn Optimizer,
        networks: usize,
        sharing: usize,
    ) -> Result<Option<Self>> {
        if task.device().is_cpu() {
            return Ok(None);
        }
        let kernels = optimizer.kernels();
        let Some(kernels) = kernels.and_then(|kernels| kernels.downcast::<Kernels>().ok()) else {
            return Ok(None);
        };
        let device = task.device();
        Self::by(task, networks, sharing, &|classifier, networks, sharing| {
            lopt_cuda_backend::fleet(device, optimizer, &kernels, classifier, networks, sharing)
        })
    }

    /// As [`Together::on_gpu`], with a fleet that `new` creates.
    ///
    /// # Errors
    /// Returns the error of `new`.
    pub fn by(
        task: &Arc<MlpTask>,
        networks: usize,
        sharing: usize,
        new: NewFleet,
    ) -> Result<Option<Self>> {
        if networks == 0 {
            return Ok(None);
        }
        let fleet = with_classifier(task, |classifier| new(classifier, networks, sharing))?;
        Ok(fleet.map(|fleet| Self {
            fleet: Arc::new(Mutex::new(fleet)),
            task: task.clone(),
        }))
    }

    /// Locks the fleet for the calling thread.
    pub fn fleet(&self) -> MutexGuard<'_, Box<dyn Fleet>> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes some steps of networks that share no minibatches, and returns their results, \[steps,
    /// networks\]. Each network draws its minibatch of a step from its own stream, `stream(network,
    /// step)`.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn take_steps(
        &self,
        steps: Range<u64>,
        stream: impl Fn(usize, u64) -> Rng,
    ) -> Result<Vec<Step>> {
        let mut fleet = self.fleet();
        let mut results = vec![];
        for first in steps.clone().step_by(STEPS_TOGETHER) {
            let some = first..steps.end.min(first + STEPS_TOGETHER as u64);
            let mut rows = vec![];
            for step in some.clone() {
                for network in 0..fleet.networks() {
                    rows.extend(
                        self.task
                            .draw_rows(Split::Train, &mut stream(network, step)),
                    );
                }
            }
            fleet.begin(&rows)?;
            for _ in some {
                fleet.step()?;
            }
            results.extend(fleet.results()?);
        }
        Ok(results)
    }

    /// The task of all networks.
    pub fn task(&self) -> &MlpTask {
        &self.task
    }

    /// A copy of φ of one network, on the device of the task.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn params(&self, network: usize) -> Result<Params> {
        let params = self.fleet().params(network)?;
        let device = self.task.device();
        let tensors = params.tensors().iter().map(|p| Ok(p.to_device(device)?));
        params.with_tensors(tensors.collect::<Result<_>>()?)
    }

    /// How inner steps are taken, such as "cuda loss, cuda update, 16 networks together".
    pub fn path(&self) -> String {
        let fleet = self.fleet();
        let (path, networks) = (fleet.path(), fleet.networks());
        format!("{path} loss, {path} update, {networks} networks together")
    }
}

/// Calls `with` with a description of a task.
fn with_classifier<T>(task: &MlpTask, with: impl FnOnce(&Classifier) -> Result<T>) -> Result<T> {
    // Any values of the parameters: names and shapes are needed.
    let mut rng = Streams::new(0).stream(Purpose::ParamsInit, 0, 0, 0);
    let template = task.init(&mut rng)?;
    let data = task.data();
    with(&Classifier {
        mlp: task.kernel().clone(),
        batch: task.config().batch_size,
        template,
        pixels: match data.pixels(Split::Train) {
            Pixels::Bytes(bytes) => OnDevice::Bytes(bytes),
            Pixels::Floats(floats) => OnDevice::Floats(floats),
        },
        scale: data.scale(),
        labels: data.labels(Split::Train),
    })
}
