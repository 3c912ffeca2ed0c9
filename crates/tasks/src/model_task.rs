//! Tasks whose networks are not plain MLPs.

use candle_core::{Device, Tensor};
use lopt_core::{Params, Rng};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::{
    Batch, DataConfig, DataStore, Result, Split, Task, TestScore,
    classification::{TestRun, inputs_and_labels},
    data::Data,
    error::sizes_in_range,
    models::{Model, ModelConfig},
    target::Target,
};

/// Test rows per forward pass.
const TEST_CHUNK: usize = 100;

/// The data, network and minibatches of a [`ModelTask`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ModelTaskConfig {
    /// The data.
    pub data: DataConfig,
    /// The network.
    pub model: ModelConfig,
    /// Images, windows of text or rows of a table per minibatch, drawn with replacement.
    pub batch_size: usize,
}

/// A network in candle ops with its data; gradients by candle's autodiff.
///
/// The loss is the cross-entropy for classes and the next byte of a text, and the mean squared
/// error for images to reconstruct and a table's real numbers. See the variants of [`ModelConfig`]
/// for the networks and their parameters.
///
/// A batch of images is pixels in \[0, 1\], \[batch, size·size·channels\], and labels \[batch\],
/// or the pixels again; a batch of text is bytes \[batch, length\] and the bytes that follow them
/// \[batch·length\], both of u32; a batch of a table is features \[batch, 16\], and labels or
/// numbers \[batch, 1\].
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
    target: Target,
    model: Box<dyn Model>,
    device: Device,
}

impl ModelTask {
    /// Loads the data and builds the network.
    ///
    /// # Errors
    /// Returns an error if the data are missing or damaged, and an error that names the key or the
    /// model if a size is not valid or the model cannot read such data.
    pub fn new(config: ModelTaskConfig, store: &mut DataStore, device: &Device) -> Result<Self> {
        sizes_in_range("batch-size", &[config.batch_size])?;
        let data = config.data.load(store)?;
        let target = data.target();
        let model = config.model.build(data.input(), target.outputs(), device)?;
        Ok(Self {
            config,
            data,
            target,
            model,
            device: device.clone(),
        })
    }

    /// The number of training and of test images, bytes of text or rows of a table.
    pub fn examples(&self) -> [usize; 2] {
        [Split::Train, Split::Test].map(|split| self.data.examples(split))
    }

    /// The number of parameter tensors.
    pub fn parameter_tensors(&self) -> usize {
        self.model.parameters().len()
    }
}

impl Task for ModelTask {
    fn init(&self, rng: &mut Rng) -> lopt_core::Result<Params> {
        let parameters = self.model.parameters();
        let named = parameters.iter().map(|p| p.sample(rng, &self.device));
        Params::new(named.collect::<lopt_core::Result<Vec<_>>>()?)
    }

    fn batch(&self, split: Split, rng: &mut Rng) -> lopt_core::Result<Batch> {
        let n = self.data.rows(split);
        let rows: Vec<u32> = (0..self.config.batch_size)
            .map(|_| rng.random_range(0..n))
            .collect();
        self.data.batch(split, &rows, &self.device)
    }

    fn loss(&self, params: &Params, batch: &Batch) -> lopt_core::Result<Tensor> {
        let [inputs, targets] = inputs_and_labels(batch)?;
        let outputs = self.model.outputs(params, inputs)?;
        self.target.loss(&outputs, targets)
    }

    /// A cross-entropy is clipped to \[0, 1.5·ln(classes)\]. A squared error is divided by that of
    /// predicting the mean of the training targets, then clipped to \[0, 1.5\]. NaN and ±inf count
    /// as the upper end.
    fn normalize(&self, loss: f32) -> f32 {
        self.target.normalize(loss)
    }

    fn normalize_slope(&self, loss: f32) -> f32 {
        self.target.normalize_slope(loss)
    }

    /// The score on all test images or rows, or on 200 evenly spaced windows of the test text.
    fn test(&self, params: &Params) -> lopt_core::Result<Option<TestScore>> {
        let mut run = TestRun::default();
        for rows in self.data.test_rows().chunks(TEST_CHUNK) {
            let batch = self.data.batch(Split::Test, rows, &self.device)?;
            let outputs = self.model.outputs(params, &batch[0])?;
            self.target.test(&mut run, &outputs, &batch[1])?;
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
