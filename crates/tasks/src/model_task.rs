//! Tasks whose networks are not plain MLPs.

use std::{fmt, sync::Arc};

use candle_core::{Device, Tensor};
use lopt_core::{Params, Rng};
use lopt_datasets::{DatasetName, Source, Text};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::{
    Batch, DataStore, Error, Images, Result, Split, Task, TestScore,
    classification::{TestRun, inputs_and_labels, normalize},
    error::at_least_1,
    models::{Image, Input, Model, ModelConfig, Tokens},
};

/// Each byte is a token.
const VOCABULARY: usize = 256;
/// Test images or windows per forward pass.
const TEST_CHUNK: usize = 100;
/// Windows of the test text that [`Task::test`] uses.
const TEST_WINDOWS: usize = 200;

/// The data of a [`ModelTask`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "kind")]
pub enum DataConfig {
    /// Images to classify.
    Images {
        /// The data set.
        dataset: DatasetName,
        /// The embedded subset or the full set.
        source: Source,
        /// Images are reduced to size×size by area averaging.
        #[serde(alias = "image-size")]
        image_size: usize,
    },
    /// The text [`lopt_datasets::text()`], of which each byte is predicted from those before it.
    Text {
        /// Bytes of each window.
        length: usize,
    },
}

/// The name in a few words: `mnist-8px` or `text of 32 bytes`.
impl fmt::Display for DataConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Images {
                dataset,
                image_size,
                ..
            } => write!(f, "{dataset}-{image_size}px"),
            Self::Text { length } => write!(f, "text of {length} bytes"),
        }
    }
}

/// The data, network and minibatches of a [`ModelTask`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ModelTaskConfig {
    /// The data.
    pub data: DataConfig,
    /// The network.
    pub model: ModelConfig,
    /// Images or windows of text per minibatch, drawn with replacement.
    pub batch_size: usize,
}

/// A network in candle ops with its data and cross-entropy loss; gradients by candle's autodiff.
///
/// See the variants of [`ModelConfig`] for the networks and their parameters. A batch of images is
/// pixels in \[0, 1\], \[batch, size·size·channels\], and labels \[batch\]; a batch of text is
/// bytes \[batch, length\] and the bytes that follow them \[batch·length\], both of u32.
///
/// ```
/// use candle_core::Device;
/// use lopt_core::{Purpose, Streams};
/// use lopt_tasks::{DataConfig, DataStore, LstmConfig, ModelConfig, ModelTask, ModelTaskConfig};
/// use lopt_tasks::{Split, Task};
///
/// let config = ModelTaskConfig {
///     data: DataConfig::Text { length: 8 },
///     model: ModelConfig::Lstm(LstmConfig { embedding: 4, hidden: 6 }),
///     batch_size: 2,
/// };
/// let task = ModelTask::new(config, &mut DataStore::default(), &Device::Cpu)?;
/// let mut rng = Streams::new(0).stream(Purpose::ParamsInit, 0, 0, 0);
/// let params = task.init(&mut rng)?;
/// let batch = task.batch(Split::Train, &mut rng)?;
/// assert_eq!(batch[0].dims(), [2, 8]);
/// let (loss, _) = task.loss_and_grad(&params, &batch)?;
/// // Untrained: about ln 256.
/// assert!((loss - 5.5).abs() < 1.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    /// Loads the data and builds the network.
    ///
    /// # Errors
    /// Returns an error if the data are missing or damaged, and an error that names the key or the
    /// model if a size is not valid or the model cannot read such data.
    pub fn new(config: ModelTaskConfig, store: &mut DataStore, device: &Device) -> Result<Self> {
        at_least_1("batch-size", &[config.batch_size])?;
        let (data, input) = match config.data {
            DataConfig::Images {
                dataset,
                source,
                image_size: side,
            } => {
                let images = store.images(dataset, source, side)?;
                let channels = images.features / (side * side);
                (Data::Images(images), Input::Image(Image { side, channels }))
            }
            DataConfig::Text { length } => {
                let text = store.text()?;
                if length == 0 || length >= text.test.len() {
                    return Err(Error::Config(format!(
                        "`length` is {length}; windows of this text have 1 to {} bytes",
                        text.test.len() - 1
                    )));
                }
                let vocabulary = VOCABULARY;
                let tokens = Tokens { vocabulary, length };
                (Data::Text { text, length }, Input::Tokens(tokens))
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

    /// The number of training and of test images, or bytes of text.
    pub fn examples(&self) -> [usize; 2] {
        [Split::Train, Split::Test].map(|split| match &self.data {
            Data::Images(images) => images.labels(split).len(),
            Data::Text { text, .. } => text_of(text, split).len(),
        })
    }

    /// The number of parameter tensors.
    pub fn parameter_tensors(&self) -> usize {
        self.model.parameters().len()
    }

    /// The rows' inputs, and a label for each prediction.
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

    /// The number of images, or of windows of text.
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

    /// The score on all test images, or on 200 evenly spaced windows of the test text.
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
        let ModelTaskConfig {
            data,
            model,
            batch_size,
        } = &self.config;
        format!("{data} {} batch {batch_size}", model.kind().name())
    }
}
