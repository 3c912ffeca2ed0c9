//! Tasks whose networks are not MLPs.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use lopt_core::{Params, Rng};
use lopt_datasets::{DatasetName, Source, Text};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::{
    Batch, DataStore, Error, Images, Result, Split, Task, TestScore,
    classification::{TestRun, inputs_and_labels, normalize},
    models::{Input, Model, ModelConfig},
};

/// A byte is a token.
const VOCABULARY: usize = 256;
/// Test rows that go through the network at once.
const TEST_CHUNK: usize = 100;
/// Windows of a text's test part that are looked at.
const TEST_WINDOWS: usize = 200;

/// What a [`ModelTask`] learns from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "kind")]
pub enum DataConfig {
    /// To classify.
    Images {
        /// Which.
        dataset: DatasetName,
        /// The embedded subset or the full set.
        source: Source,
        /// Images are reduced to size×size by area averaging.
        image_size: usize,
    },
    /// To predict each byte from those before it: [`lopt_datasets::text()`].
    Text {
        /// Bytes of a window.
        length: usize,
    },
}

/// A network that is no plain MLP, and its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ModelTaskConfig {
    /// What it learns from.
    pub data: DataConfig,
    /// The network.
    pub model: ModelConfig,
    /// Images or windows of text per minibatch, drawn with replacement.
    pub batch_size: usize,
}

/// A network in candle ops with its data; cross-entropy loss, gradients by candle's autodiff.
pub struct ModelTask {
    config: ModelTaskConfig,
    data: Data,
    model: Box<dyn Model>,
    device: Device,
}

enum Data {
    Images(Arc<Images>),
    Text { text: Arc<Text>, length: usize },
}

impl ModelTask {
    /// Loads what the configuration names.
    ///
    /// # Errors
    /// If the data are missing, or the configuration makes no sense.
    pub fn new(config: ModelTaskConfig, store: &mut DataStore, device: &Device) -> Result<Self> {
        if config.batch_size == 0 {
            let problem = "batch-size is 0; it must be at least 1";
            return Err(Error::Config(problem.to_owned()));
        }
        let (data, input) = match config.data {
            DataConfig::Images {
                dataset,
                source,
                image_size: side,
            } => {
                let images = store.images(dataset, source, side)?;
                let channels = images.features / (side * side);
                (Data::Images(images), Input::Image { side, channels })
            }
            DataConfig::Text { length } => {
                let text = store.text()?;
                if length == 0 || length >= text.test.len() {
                    return Err(Error::Config(format!(
                        "windows of {length} bytes; the text takes 1 to {}",
                        text.test.len() - 1
                    )));
                }
                let vocabulary = VOCABULARY;
                (
                    Data::Text { text, length },
                    Input::Tokens { vocabulary, length },
                )
            }
        };
        let model = config.model.build(input, data.classes(), device)?;
        Ok(Self {
            config,
            data,
            model,
            device: device.clone(),
        })
    }

    /// How many images there are to train on and to test on, or bytes of text.
    pub fn examples(&self) -> [usize; 2] {
        [Split::Train, Split::Test].map(|split| match &self.data {
            Data::Images(images) => images.labels(split).len(),
            Data::Text { text, .. } => text_of(text, split).len(),
        })
    }

    /// Inputs of the rows, and a label for each prediction.
    fn tensors(&self, split: Split, rows: &[u32]) -> lopt_core::Result<Batch> {
        let (inputs, labels) = match &self.data {
            Data::Images(images) => {
                let mut pixels = vec![];
                images.gather(split, rows, &mut pixels);
                let all = images.labels(split);
                let labels: Vec<u32> = rows.iter().map(|&row| all[row as usize].into()).collect();
                let pixels = Tensor::from_vec(pixels, (rows.len(), images.features), &Device::Cpu)?;
                (pixels, labels)
            }
            Data::Text { text, length } => {
                let bytes = text_of(text, split);
                let windows = |shift: usize| -> Vec<u32> {
                    let window = |&row: &u32| {
                        let start = row as usize + shift;
                        bytes[start..start + length].iter().map(|&b| u32::from(b))
                    };
                    rows.iter().flat_map(window).collect()
                };
                let tokens = Tensor::from_vec(windows(0), (rows.len(), *length), &Device::Cpu)?;
                (tokens, windows(1))
            }
        };
        let labels = Tensor::new(labels, &Device::Cpu)?;
        Ok(vec![
            inputs.to_device(&self.device)?,
            labels.to_device(&self.device)?,
        ])
    }

    /// How many rows there are.
    fn rows(&self, split: Split) -> u32 {
        let n = match &self.data {
            Data::Images(images) => images.labels(split).len(),
            Data::Text { text, length } => text_of(text, split).len() - length,
        };
        n as u32
    }
}

impl Data {
    fn classes(&self) -> usize {
        match self {
            Data::Images(images) => images.classes,
            Data::Text { .. } => VOCABULARY,
        }
    }
}

fn text_of(text: &Text, split: Split) -> &[u8] {
    match split {
        Split::Train => &text.train,
        Split::Test => &text.test,
    }
}

impl Task for ModelTask {
    fn init(&self, rng: &mut Rng) -> lopt_core::Result<Params> {
        let parameters = self.model.parameters();
        let named = parameters.iter().map(|p| p.sample(rng, &self.device));
        Params::new(named.collect::<lopt_core::Result<Vec<_>>>()?)
    }

    fn batch(&self, split: Split, rng: &mut Rng) -> lopt_core::Result<Batch> {
        let n = self.rows(split);
        let rows: Vec<u32> = (0..self.config.batch_size)
            .map(|_| rng.random_range(0..n))
            .collect();
        self.tensors(split, &rows)
    }

    fn loss(&self, params: &Params, batch: &Batch) -> lopt_core::Result<Tensor> {
        let [inputs, labels] = inputs_and_labels(batch)?;
        let logits = self.model.logits(params, inputs)?;
        Ok(candle_nn::loss::cross_entropy(&logits, labels)?)
    }

    /// Clipped to \[0, 1.5·ln(classes)\]; NaN and ±inf count as the upper end.
    fn normalize(&self, loss: f32) -> f32 {
        normalize(loss, self.data.classes())
    }

    /// Of all test images, or of 200 windows at equal distances in the test text.
    fn test(&self, params: &Params) -> lopt_core::Result<Option<TestScore>> {
        let n = self.rows(Split::Test);
        let rows: Vec<u32> = match &self.data {
            Data::Images(_) => (0..n).collect(),
            Data::Text { .. } => {
                let windows = (n as usize).min(TEST_WINDOWS);
                (0..windows)
                    .map(|i| (i * n as usize / windows) as u32)
                    .collect()
            }
        };
        let mut run = TestRun::default();
        for rows in rows.chunks(TEST_CHUNK) {
            let batch = self.tensors(Split::Test, rows)?;
            run.add(&self.model.logits(params, &batch[0])?, &batch[1])?;
        }
        Ok(Some(run.score()))
    }

    fn name(&self) -> String {
        let data = match self.config.data {
            DataConfig::Images {
                dataset,
                image_size,
                ..
            } => format!("{dataset}-{image_size}px"),
            DataConfig::Text { length } => format!("text of {length} bytes"),
        };
        format!(
            "{data} {} batch {}",
            self.config.model.name(),
            self.config.batch_size
        )
    }
}
