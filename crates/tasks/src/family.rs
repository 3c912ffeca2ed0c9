use std::sync::Arc;

use candle_core::Device;
use lopt_core::{Rng, log_uniform};
use lopt_datasets::{DatasetName, Source};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::{
    Activation, DataStore, Error, Initializer, MlpConfig, MlpTask, NativeTask, Reparametrized,
    Result, Task,
};

/// A distribution of tasks.
pub trait TaskFamily: Send + Sync {
    /// Draws a task.
    fn sample(&self, rng: &mut Rng) -> Arc<dyn Task>;
}

/// A single task is the family that always yields it.
impl<T: Task + 'static> TaskFamily for Arc<T> {
    fn sample(&self, _: &mut Rng) -> Arc<dyn Task> {
        self.clone()
    }
}

/// MLPs on images: each property is drawn uniformly from a list. Lists of one entry make
/// a single task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MlpFamilyConfig {
    /// Data sets.
    pub dataset: Vec<DatasetName>,
    /// Embedded subsets or full sets, for all tasks.
    pub source: Source,
    /// Image sizes.
    pub image_size: Vec<usize>,
    /// Hidden layers, each a list of widths.
    pub hidden: Vec<Vec<usize>>,
    /// Nonlinearities.
    pub activation: Vec<Activation>,
    /// Initialisers.
    pub initializer: Vec<Initializer>,
    /// Batch sizes.
    pub batch_size: Vec<usize>,
    /// If given, tasks are [`Reparametrized`], with a factor for each parameter tensor that is
    /// log-uniform in \[lowest, highest\].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reparametrize: Option<[f64; 2]>,
}

/// The tasks of an [`MlpFamilyConfig`], their data loaded.
pub struct MlpFamily {
    tasks: Vec<Arc<MlpTask>>,
    reparametrize: Option<[f64; 2]>,
}

impl MlpFamily {
    /// Makes every combination, so that what is wrong shows at the start and not in the
    /// middle of meta-training.
    ///
    /// # Errors
    /// If a list is empty, or a combination is no task.
    pub fn new(config: &MlpFamilyConfig, store: &mut DataStore, device: &Device) -> Result<Self> {
        if let Some([lowest, highest]) = config.reparametrize {
            let ok = 0.0 < lowest && lowest <= highest && highest.is_finite();
            if !ok {
                return Err(Error::Config(format!(
                    "reparametrize = [{lowest}, {highest}]; it must be [lowest, highest] with \
                     0 < lowest ≤ highest, such as [0.1, 10.0]"
                )));
            }
        }
        let mut tasks = vec![];
        for mlp in config.combinations() {
            tasks.push(Arc::new(MlpTask::new(mlp, store, device)?));
        }
        if tasks.is_empty() {
            return Err(Error::Config(
                "a list of the task family is empty; each needs at least one entry".to_owned(),
            ));
        }
        Ok(Self {
            tasks,
            reparametrize: config.reparametrize,
        })
    }

    /// Every task of the family.
    pub fn tasks(&self) -> &[Arc<MlpTask>] {
        &self.tasks
    }
}

impl MlpFamilyConfig {
    /// Every task of the family, the first of each list first.
    pub fn combinations(&self) -> Vec<MlpConfig> {
        let mut all = vec![];
        for &dataset in &self.dataset {
            for &image_size in &self.image_size {
                for hidden in &self.hidden {
                    for &activation in &self.activation {
                        for &initializer in &self.initializer {
                            all.extend(self.batch_size.iter().map(|&batch_size| MlpConfig {
                                dataset,
                                source: self.source,
                                image_size,
                                hidden: hidden.clone(),
                                activation,
                                initializer,
                                batch_size,
                            }));
                        }
                    }
                }
            }
        }
        all
    }
}

impl TaskFamily for MlpFamily {
    /// Uniform over the combinations, which is uniform over each list; then the factors.
    fn sample(&self, rng: &mut Rng) -> Arc<dyn Task> {
        let task = self.tasks[rng.random_range(0..self.tasks.len() as u32) as usize].clone();
        let Some([low, high]) = self.reparametrize else {
            return task;
        };
        let tensors = task.sizes().len();
        let factors = (0..tensors).map(|_| log_uniform(rng, low, high) as f32);
        Arc::new(Reparametrized::new(task, factors.collect()))
    }
}
