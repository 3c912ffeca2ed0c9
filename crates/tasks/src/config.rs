use std::sync::Arc;

use candle_core::Device;
use lopt_datasets::DatasetName;
use serde::{Deserialize, Serialize};

use crate::{DataConfig, DataStore, MlpConfig, MlpTask, ModelTask, ModelTaskConfig, Result, Task};

/// Any task of the suites.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum TaskConfig {
    /// A plain MLP, which has a native form.
    Mlp(MlpConfig),
    /// Another network.
    Model(ModelTaskConfig),
}

/// A task with its data.
pub struct LoadedTask {
    /// The task.
    pub task: Arc<dyn Task>,
    /// How many images there are to train on and to test on, or bytes of text.
    pub examples: [usize; 2],
}

impl TaskConfig {
    /// Loads what the configuration names.
    ///
    /// # Errors
    /// If the data are missing or the configuration makes no sense.
    pub fn load(&self, store: &mut DataStore, device: &Device) -> Result<LoadedTask> {
        Ok(match self.clone() {
            TaskConfig::Mlp(config) => {
                let task = MlpTask::new(config, store, device)?;
                LoadedTask {
                    examples: task.images(),
                    task: Arc::new(task),
                }
            }
            TaskConfig::Model(config) => {
                let task = ModelTask::new(config, store, device)?;
                LoadedTask {
                    examples: task.examples(),
                    task: Arc::new(task),
                }
            }
        })
    }

    /// What its data are called, with the unit of [`LoadedTask::examples`].
    pub fn data(&self) -> (String, &'static str) {
        match self.images() {
            Some((dataset, _)) => (dataset.to_string(), "images"),
            None => ("text".to_owned(), "bytes"),
        }
    }

    /// Its images and their size, if it has any.
    fn images(&self) -> Option<(DatasetName, usize)> {
        match self {
            TaskConfig::Mlp(config) => Some((config.dataset, config.image_size)),
            TaskConfig::Model(config) => match config.data {
                DataConfig::Images {
                    dataset,
                    image_size,
                    ..
                } => Some((dataset, image_size)),
                DataConfig::Text { .. } => None,
            },
        }
    }

    /// Pixels of an image's side, if it has images.
    pub fn image_size(&self) -> Option<usize> {
        self.images().map(|(_, size)| size)
    }

    /// The network in a word or two, such as `mlp-32-32-relu`.
    pub fn network(&self) -> String {
        match self {
            TaskConfig::Mlp(config) => {
                let mut words = vec!["mlp".to_owned()];
                words.extend(config.hidden.iter().map(ToString::to_string));
                words.push(config.activation.name().to_owned());
                words.join("-")
            }
            TaskConfig::Model(config) => config.model.name().to_owned(),
        }
    }

    /// Images or windows of text per minibatch.
    pub fn batch_size(&self) -> usize {
        match self {
            TaskConfig::Mlp(config) => config.batch_size,
            TaskConfig::Model(config) => config.batch_size,
        }
    }
}
