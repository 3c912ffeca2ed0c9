use std::sync::Arc;

use candle_core::Device;
use lopt_core::Rng;
use lopt_datasets::{DatasetName, Source};
use serde::{Deserialize, Serialize};

use super::{TaskFamily, draw};
use crate::{
    Activation, DataStore, Initializer, MlpConfig, MlpTask, NativeTask, Reparametrize, Result,
    Task, error::not_empty,
};

/// MLPs on images: each property is drawn uniformly from its list. Lists of one entry make a
/// single task.
///
/// See [`MlpTask`] for the tasks. In TOML:
///
/// ```toml
/// dataset = ["fashion-mnist"]
/// source = "embedded"
/// image-size = [8, 14]
/// hidden = [[32], [64, 64]]
/// activation = ["relu", "tanh"]
/// initializer = ["he"]
/// batch-size = [128]
/// reparametrize = [0.1, 10.0] # optional
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MlpFamilyConfig {
    /// Data sets.
    pub dataset: Vec<DatasetName>,
    /// Embedded subsets or full sets, for all tasks.
    pub source: Source,
    /// Images are reduced to size×size.
    pub image_size: Vec<usize>,
    /// Hidden layers: a list of widths for each network.
    pub hidden: Vec<Vec<usize>>,
    /// Nonlinearities.
    pub activation: Vec<Activation>,
    /// Initial distributions of the weights.
    pub initializer: Vec<Initializer>,
    /// Images per minibatch.
    pub batch_size: Vec<usize>,
    /// Random factors on the parameters; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reparametrize: Option<Reparametrize>,
}

impl MlpFamilyConfig {
    /// Every task of the family, the first of each list first.
    ///
    /// # Errors
    /// Returns an error that names the key if a list is empty.
    pub fn combinations(&self) -> Result<Vec<MlpConfig>> {
        not_empty("dataset", &self.dataset)?;
        not_empty("image-size", &self.image_size)?;
        not_empty("hidden", &self.hidden)?;
        not_empty("activation", &self.activation)?;
        not_empty("initializer", &self.initializer)?;
        not_empty("batch-size", &self.batch_size)?;
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
                                input_scale: 1.0,
                                label_noise: 0.0,
                            }));
                        }
                    }
                }
            }
        }
        Ok(all)
    }
}

/// The tasks of an [`MlpFamilyConfig`] with their data.
///
/// A draw is uniform over the combinations, which is uniform over each list; then it takes the
/// factors of [`Reparametrize`], if any.
pub struct MlpFamily {
    tasks: Vec<Arc<MlpTask>>,
    reparametrize: Option<Reparametrize>,
}

impl MlpFamily {
    /// Builds every combination, so that mistakes are found before meta-training starts.
    ///
    /// # Errors
    /// Returns an error that names the key if a list is empty or a value is not valid, and an
    /// error if data are missing.
    pub fn new(config: &MlpFamilyConfig, store: &mut DataStore, device: &Device) -> Result<Self> {
        let reparametrize = config.reparametrize;
        reparametrize
            .as_ref()
            .map_or(Ok(()), Reparametrize::check)?;
        let tasks = config.combinations()?.into_iter();
        let tasks = tasks.map(|mlp| Ok(Arc::new(MlpTask::new(mlp, store, device)?)));
        Ok(Self {
            tasks: tasks.collect::<Result<_>>()?,
            reparametrize,
        })
    }

    /// Every task of the family, without factors.
    pub fn tasks(&self) -> &[Arc<MlpTask>] {
        &self.tasks
    }
}

impl TaskFamily for MlpFamily {
    fn sample(&self, rng: &mut Rng) -> Arc<dyn Task> {
        let tensors = |task: &MlpTask| task.sizes().len();
        draw(&self.tasks, tensors, self.reparametrize, rng)
    }

    fn single_mlp(&self) -> Option<Arc<MlpTask>> {
        match (&*self.tasks, self.reparametrize) {
            ([task], None) => Some(task.clone()),
            _ => None,
        }
    }
}
