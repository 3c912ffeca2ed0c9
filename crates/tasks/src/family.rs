use std::sync::Arc;

use candle_core::Device;
use lopt_core::Rng;
use lopt_datasets::{DatasetName, Source};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::{Activation, DataStore, Error, Initializer, MlpConfig, MlpTask, Result, Task};

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
}

/// The tasks of an [`MlpFamilyConfig`], their data loaded.
pub struct MlpFamily {
    tasks: Vec<Arc<MlpTask>>,
}

impl MlpFamily {
    /// Makes every combination, so that what is wrong shows at the start and not in the
    /// middle of meta-training.
    ///
    /// # Errors
    /// If a list is empty, or a combination is no task.
    pub fn new(config: &MlpFamilyConfig, store: &mut DataStore, device: &Device) -> Result<Self> {
        let mut tasks = vec![];
        for mlp in config.combinations() {
            tasks.push(Arc::new(MlpTask::new(mlp, store, device)?));
        }
        if tasks.is_empty() {
            return Err(Error::Config(
                "a list of the task family is empty; each needs at least one entry".to_owned(),
            ));
        }
        Ok(Self { tasks })
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
    /// Uniform over the combinations, which is uniform over each list.
    fn sample(&self, rng: &mut Rng) -> Arc<dyn Task> {
        self.tasks[rng.random_range(0..self.tasks.len() as u32) as usize].clone()
    }
}
