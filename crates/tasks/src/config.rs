use std::sync::Arc;

use candle_core::Device;
use lopt_datasets::{DatasetName, Source};
use serde::{Deserialize, Serialize};

use crate::{DataStore, MlpConfig, MlpTask, ModelTask, ModelTaskConfig, Result, Task};

/// Any task of this crate: the key `kind` is `mlp` or `model`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum TaskConfig {
    /// A plain MLP on images.
    Mlp(MlpConfig),
    /// Another network or other data.
    Model(ModelTaskConfig),
}

/// A task with its data.
pub struct LoadedTask {
    /// The task.
    pub task: Arc<dyn Task>,
    /// The number of training and of test images, bytes of text or rows of a table.
    pub examples: [usize; 2],
}

impl TaskConfig {
    /// Loads the data and builds the task.
    ///
    /// # Errors
    /// As [`MlpTask::new`] and [`ModelTask::new`].
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

    /// The name of the data, and the unit of [`LoadedTask::examples`].
    pub fn data(&self) -> (String, &'static str) {
        match self {
            TaskConfig::Mlp(config) => (config.dataset.to_string(), "images"),
            TaskConfig::Model(config) => config.data.name_and_unit(),
        }
    }

    /// The data set and the image size, if the data are images.
    fn images(&self) -> Option<(DatasetName, usize)> {
        match self {
            TaskConfig::Mlp(config) => Some((config.dataset, config.image_size)),
            TaskConfig::Model(config) => config.data.images(),
        }
    }

    /// The data set, if the full one is read from the user's disk.
    pub fn full_dataset(&self) -> Option<DatasetName> {
        match self {
            TaskConfig::Mlp(config) => (config.source == Source::Full).then_some(config.dataset),
            TaskConfig::Model(config) => config.data.full_dataset(),
        }
    }

    /// The side of an image in pixels, if the data are images.
    pub fn image_size(&self) -> Option<usize> {
        self.images().map(|(_, size)| size)
    }

    /// A short name of the network, such as `mlp-32-32-relu` or `conv-net`.
    pub fn network(&self) -> String {
        match self {
            TaskConfig::Mlp(config) => {
                let mut words = vec!["mlp".to_owned()];
                words.extend(config.hidden.iter().map(ToString::to_string));
                words.push(config.activation.name().to_owned());
                words.join("-")
            }
            TaskConfig::Model(config) => config.model.kind().name().to_owned(),
        }
    }

    /// Images, windows of text or rows of a table per minibatch.
    pub fn batch_size(&self) -> usize {
        match self {
            TaskConfig::Mlp(config) => config.batch_size,
            TaskConfig::Model(config) => config.batch_size,
        }
    }
}
