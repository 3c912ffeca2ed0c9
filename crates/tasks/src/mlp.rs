use std::{collections::BTreeMap, sync::Arc};

use candle_core::{D, Device, Tensor};
use lopt_core::{Params, Rng};
use lopt_datasets::{DatasetName, Source};
use lopt_kernels::{Isa, mlp};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::{
    Activation, Batch, DataStore, Error, Images, Initializer, NativeBatch, NativeTask, Result,
    Split, Task, TestScore, Workspace,
    classification::{TestRun, inputs_and_labels, normalize},
    error::sizes_in_range,
    second_order,
};

/// Test images per forward pass.
const TEST_CHUNK: usize = 1000;

/// The data, size and minibatches of an [`MlpTask`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MlpConfig {
    /// The data set.
    pub dataset: DatasetName,
    /// The embedded subset or the full set.
    pub source: Source,
    /// Images are reduced to size×size by area averaging.
    pub image_size: usize,
    /// Widths of the hidden layers; empty for logistic regression.
    pub hidden: Vec<usize>,
    /// The nonlinearity.
    pub activation: Activation,
    /// The initial distribution of the weights; biases start at 0.
    pub initializer: Initializer,
    /// Images per minibatch, drawn with replacement.
    pub batch_size: usize,
    /// Factor on the pixels, which are in \[0, 1\]; 1 by default.
    #[serde(default = "unscaled", skip_serializing_if = "is_unscaled")]
    pub input_scale: f32,
    /// Probability with which each training label is replaced by a uniformly random one, once and
    /// for all; 0 by default.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub label_noise: f32,
}

fn unscaled() -> f32 {
    1.0
}

fn is_unscaled(factor: &f32) -> bool {
    *factor == 1.0
}

fn is_zero(share: &f32) -> bool {
    *share == 0.0
}

impl MlpConfig {
    /// The images with the scale and the labels of this configuration.
    fn images(&self, store: &mut DataStore) -> Result<Arc<Images>> {
        let (scale, noise) = (self.input_scale, self.label_noise);
        if !(scale > 0.0 && scale.is_finite()) {
            return Err(Error::Config(format!(
                "`input-scale` is {scale}; it must be positive and finite"
            )));
        }
        if !(0.0..=1.0).contains(&noise) {
            return Err(Error::Config(format!(
                "`label-noise` is {noise}; it must be in [0, 1]"
            )));
        }
        let mut images = store.images(self.dataset, self.source, self.image_size)?;
        if scale != 1.0 {
            images = Arc::new(images.scaled(scale));
        }
        if noise != 0.0 {
            images = Arc::new(images.with_label_noise(noise));
        }
        Ok(images)
    }

    /// The layers' sizes, the input first: `784-128-128-10`.
    fn sizes(&self, images: &Images) -> Vec<usize> {
        std::iter::once(images.features)
            .chain(self.hidden.iter().copied())
            .chain([images.classes])
            .collect()
    }
}

/// A multi-layer perceptron on images, with cross-entropy loss:
///
/// logits = W_L·a(… a(W_0·x + b_0) …) + b_L.
///
/// Parameters: `layer0/weight` \[in, out\], `layer0/bias` \[out\] and so on; pixels are in
/// \[0, `input-scale`\]. A batch is pixels \[batch, size·size·channels\] and labels \[batch\] of u32. On the
/// CPU the task has a [`Task::native`] form.
///
/// ```
/// use candle_core::Device;
/// use lopt_core::{Purpose, Streams};
/// use lopt_tasks::{DataStore, MlpTask, Split, Task, suite::Suite};
///
/// // 8×8 Fashion-MNIST, one hidden layer of 32, batches of 128.
/// let (config, _) = Suite::Quick.base();
/// let task = MlpTask::new(config, &mut DataStore::default(), &Device::Cpu)?;
/// let mut rng = Streams::new(0).stream(Purpose::ParamsInit, 0, 0, 0);
/// let params = task.init(&mut rng)?;
/// let batch = Task::batch(&task, Split::Train, &mut rng)?;
/// assert_eq!(params.get("layer0/weight")?.dims(), [64, 32]);
/// assert_eq!(batch[0].dims(), [128, 64]);
/// let (loss, _) = Task::loss_and_grad(&task, &params, &batch)?;
/// assert!(loss < 4.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MlpTask {
    config: MlpConfig,
    images: Arc<Images>,
    device: Device,
    layers: Vec<LayerNames>,
    kernel: mlp::Mlp,
}

struct LayerNames {
    weight: String,
    bias: String,
    fan_in: usize,
    fan_out: usize,
}

impl MlpTask {
    /// Loads the data and builds the network.
    ///
    /// # Errors
    /// Returns an error if the data are missing or damaged, and an error that names the key if a
    /// size is not valid.
    pub fn new(config: MlpConfig, store: &mut DataStore, device: &Device) -> Result<Self> {
        sizes_in_range("batch-size", &[config.batch_size])?;
        sizes_in_range("hidden", &config.hidden)?;
        let images = config.images(store)?;
        let sizes = config.sizes(&images);
        let layers = sizes
            .windows(2)
            .enumerate()
            .map(|(layer, pair)| LayerNames {
                weight: format!("layer{layer}/weight"),
                bias: format!("layer{layer}/bias"),
                fan_in: pair[0],
                fan_out: pair[1],
            });
        let layers: Vec<LayerNames> = layers.collect();
        Ok(Self {
            kernel: mlp::Mlp::new(kernel_layers(&layers), config.activation.kernel()),
            layers,
            config,
            images,
            device: device.clone(),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &MlpConfig {
        &self.config
    }

    /// The number of training and of test images.
    pub fn images(&self) -> [usize; 2] {
        [Split::Train, Split::Test].map(|split| self.images.labels(split).len())
    }

    /// The images.
    pub fn data(&self) -> &Images {
        &self.images
    }

    /// The layers and the activation.
    pub fn kernel(&self) -> &mlp::Mlp {
        &self.kernel
    }

    /// The device of its parameters and batches.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Draws the images of a minibatch, by their indices.
    pub fn draw_rows(&self, split: Split, rng: &mut Rng) -> impl Iterator<Item = u32> {
        let images = self.images.labels(split).len() as u32;
        (0..self.config.batch_size).map(move |_| rng.random_range(0..images))
    }

    /// \[batch, features\] → \[batch, classes\].
    fn logits(&self, params: &Params, x: &Tensor) -> lopt_core::Result<Tensor> {
        let mut x = x.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                x = self.config.activation.apply(&x)?;
            }
            x = x
                .matmul(params.get(&layer.weight)?)?
                .broadcast_add(params.get(&layer.bias)?)?;
        }
        Ok(x)
    }

    /// The gradient of the loss with respect to the parameters, in name order, in candle ops that
    /// can be differentiated again; candle's own gradients cannot.
    fn gradient(&self, params: &Params, batch: &Batch) -> lopt_core::Result<Vec<Tensor>> {
        let [pixels, labels] = inputs_and_labels(batch)?;
        // Each layer's inputs, and its outputs before the nonlinearity.
        let mut inputs = vec![pixels.clone()];
        let mut sums: Vec<Tensor> = vec![];
        for layer in &self.layers {
            if let Some(z) = sums.last() {
                inputs.push(self.config.activation.apply(z)?);
            }
            let x = &inputs[inputs.len() - 1];
            let product = x.matmul(params.get(&layer.weight)?)?;
            sums.push(product.broadcast_add(params.get(&layer.bias)?)?);
        }
        // (softmax(z) − onehot(label))/batch
        let logits = &sums[sums.len() - 1];
        let (n, classes) = logits.dims2()?;
        let all = Tensor::arange(0u32, classes as u32, logits.device())?;
        let hot = labels.unsqueeze(1)?.broadcast_eq(&all.unsqueeze(0)?)?;
        let probability = candle_nn::ops::softmax(logits, D::Minus1)?;
        let mut dz = ((probability - hot.to_dtype(logits.dtype())?)? / n as f64)?;
        let mut named = vec![];
        for (index, layer) in self.layers.iter().enumerate().rev() {
            named.push((layer.weight.clone(), inputs[index].t()?.matmul(&dz)?));
            named.push((layer.bias.clone(), dz.sum(0)?));
            if index > 0 {
                let below = dz.matmul(&params.get(&layer.weight)?.t()?)?;
                dz = (below * self.config.activation.slope(&sums[index - 1])?)?;
            }
        }
        named.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(named.into_iter().map(|(_, tensor)| tensor).collect())
    }

    fn tensors(&self, pixels: Vec<f32>, labels: Vec<u32>) -> lopt_core::Result<Batch> {
        let n = labels.len();
        let pixels = Tensor::from_vec(pixels, (n, self.images.features), &Device::Cpu)?;
        let labels = Tensor::from_vec(labels, n, &Device::Cpu)?;
        Ok(vec![
            pixels.to_device(&self.device)?,
            labels.to_device(&self.device)?,
        ])
    }
}

/// The number of elements of each parameter.
fn sizes(layers: &[LayerNames]) -> impl Iterator<Item = (&String, usize)> {
    layers.iter().flat_map(|layer| {
        [
            (&layer.weight, layer.fan_in * layer.fan_out),
            (&layer.bias, layer.fan_out),
        ]
    })
}

/// Each layer's offsets in memory that holds all parameters in name order.
fn kernel_layers(layers: &[LayerNames]) -> Vec<mlp::Layer> {
    let sizes: BTreeMap<&String, usize> = sizes(layers).collect();
    let start = |name: &String| {
        let before = sizes.iter().take_while(|(other, _)| **other < name);
        before.map(|(_, size)| size).sum()
    };
    let layer = |layer: &LayerNames| mlp::Layer {
        inputs: layer.fan_in,
        outputs: layer.fan_out,
        weight: start(&layer.weight),
        bias: start(&layer.bias),
    };
    layers.iter().map(layer).collect()
}

impl NativeTask for MlpTask {
    fn sizes(&self) -> Vec<usize> {
        let mut named: Vec<(&String, usize)> = sizes(&self.layers).collect();
        named.sort();
        named.into_iter().map(|(_, size)| size).collect()
    }

    fn batch(&self, split: Split, rng: &mut Rng, batch: &mut NativeBatch) {
        let all = self.images.labels(split);
        let NativeBatch {
            rows,
            inputs,
            labels,
        } = batch;
        rows.clear();
        rows.extend(self.draw_rows(split, rng));
        labels.clear();
        labels.extend(rows.iter().map(|&row| all[row as usize]));
        self.images.gather(split, rows, inputs);
    }

    fn loss_and_grad(
        &self,
        params: &[f32],
        batch: &NativeBatch,
        grads: &mut [f32],
        workspace: &mut Workspace,
    ) -> f32 {
        let NativeBatch { inputs, labels, .. } = batch;
        let isa = Isa::best();
        self.kernel
            .loss_and_grad(isa, params, inputs, labels, grads, &mut workspace.mlp)
    }
}

impl Task for MlpTask {
    fn init(&self, rng: &mut Rng) -> lopt_core::Result<Params> {
        let mut named = Vec::with_capacity(2 * self.layers.len());
        for layer in &self.layers {
            let (fan_in, fan_out) = (layer.fan_in, layer.fan_out);
            let weight = self.config.initializer.sample(fan_in, fan_out, rng);
            let weight = Tensor::from_vec(weight, (fan_in, fan_out), &Device::Cpu)?;
            let bias = Tensor::from_vec(vec![0f32; fan_out], fan_out, &Device::Cpu)?;
            named.push((layer.weight.clone(), weight.to_device(&self.device)?));
            named.push((layer.bias.clone(), bias.to_device(&self.device)?));
        }
        Params::new(named)
    }

    fn batch(&self, split: Split, rng: &mut Rng) -> lopt_core::Result<Batch> {
        let mut batch = NativeBatch::default();
        NativeTask::batch(self, split, rng, &mut batch);
        let labels = batch.labels.into_iter().map(u32::from);
        self.tensors(batch.inputs, labels.collect())
    }

    fn native(self: Arc<Self>) -> Option<Arc<dyn NativeTask>> {
        self.device.is_cpu().then_some(self)
    }

    fn mlp(self: Arc<Self>) -> Option<Arc<MlpTask>> {
        Some(self)
    }

    fn loss(&self, params: &Params, batch: &Batch) -> lopt_core::Result<Tensor> {
        let [pixels, labels] = inputs_and_labels(batch)?;
        Ok(candle_nn::loss::cross_entropy(
            &self.logits(params, pixels)?,
            labels,
        )?)
    }

    /// Differentiates the gradient in candle ops, which is correct in any process.
    fn hessian_vector(
        &self,
        params: &Params,
        batch: &Batch,
        v: &[Tensor],
    ) -> lopt_core::Result<Vec<Tensor>> {
        let (tracked, vars) = params.tracked()?;
        let gradient = self.gradient(&tracked, batch)?;
        let gradient: Vec<Option<&Tensor>> = gradient.iter().map(Some).collect();
        second_order::derivative_along(&vars, &gradient, v)
    }

    /// Clipped to \[0, 1.5·ln(classes)\]; NaN and ±inf count as the upper end.
    fn normalize(&self, loss: f32) -> f32 {
        normalize(loss, self.images.classes)
    }

    fn test(&self, params: &Params) -> lopt_core::Result<Option<TestScore>> {
        let all_labels = self.images.labels(Split::Test);
        let mut run = TestRun::default();
        for (index, labels) in all_labels.chunks(TEST_CHUNK).enumerate() {
            let first = index * TEST_CHUNK;
            let rows = first..first + labels.len();
            let rows: Vec<u32> = rows.map(|row| row as u32).collect();
            let mut pixels = vec![];
            self.images.gather(Split::Test, &rows, &mut pixels);
            let batch = self.tensors(pixels, labels.iter().map(|&y| y.into()).collect())?;
            run.add(&self.logits(params, &batch[0])?, &batch[1])?;
        }
        Ok(Some(run.score()))
    }

    fn name(&self) -> String {
        let config = &self.config;
        let sizes: Vec<String> = config
            .sizes(&self.images)
            .iter()
            .map(ToString::to_string)
            .collect();
        format!(
            "{}-{}px {} {} batch {}",
            config.dataset,
            config.image_size,
            sizes.join("-"),
            config.activation.name(),
            config.batch_size
        )
    }
}
