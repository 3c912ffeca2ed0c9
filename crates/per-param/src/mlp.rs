//! The MLP over the features of each scalar parameter.

use candle_core::{Device, Tensor};
use lopt_core::{Layout, Result, Rng, truncated_normal};

use lopt_kernels::per_param::{
    features::{PER_PARAMETER, PER_STEP, step_features},
    theta::parts,
};

/// Returns the layout of θ for an MLP of these sizes.
pub fn layout(sizes: &[usize]) -> Layout {
    Layout::new(parts(sizes))
}

/// Draws an initial θ. Weights are normal, truncated at ±2σ with σ = 1/√fan_in, and those of the
/// last layer are multiplied by `last_layer_scale`; biases and decay offsets δ are 0.
pub fn initial_values(sizes: &[usize], last_layer_scale: f32, rng: &mut Rng) -> Vec<f32> {
    let layout = layout(sizes);
    let last = format!("nn/w{}", sizes.len() - 2);
    let mut values = vec![0.0; layout.numel()];
    for (name, shape, start) in layout.parts() {
        let &[fan_in, fan_out] = shape else { continue };
        let scale = if name == last { last_layer_scale } else { 1.0 };
        let sigma = scale / (fan_in as f32).sqrt();
        for value in &mut values[start..start + fan_in * fan_out] {
            *value = sigma * truncated_normal(rng);
        }
    }
    values
}

/// The MLP at one step, with the step features folded into the first bias.
pub struct Mlp {
    /// The weights \[out, in\] and biases \[out, 1\] of each layer.
    layers: Vec<(Tensor, Tensor)>,
}

impl Mlp {
    /// Creates the MLP at step `t` from θ's weights and biases, first to last layer.
    pub fn at_step(layers: &[(&Tensor, &Tensor)], t: u64) -> Result<Self> {
        let folded = layers.iter().enumerate().map(|(index, (weight, bias))| {
            let bias = bias.unsqueeze(1)?;
            if index > 0 {
                return Ok((weight.t()?, bias));
            }
            let step = Tensor::from_slice(&step_features(t), (PER_STEP, 1), &Device::Cpu)?
                .to_dtype(weight.dtype())?
                .to_device(weight.device())?;
            let of_step = weight
                .narrow(0, PER_PARAMETER, PER_STEP)?
                .t()?
                .matmul(&step)?;
            Ok((weight.narrow(0, 0, PER_PARAMETER)?.t()?, (bias + of_step)?))
        });
        Ok(Self {
            layers: folded.collect::<Result<_>>()?,
        })
    }

    /// Maps raw features \[features, n\] and their normalizers \[features, 1\] to \[heads, n\]. The normalizers
    /// scale the first weights rather than every feature.
    pub fn forward(&self, raw: &Tensor, normalizer: &Tensor) -> Result<Tensor> {
        let last = self.layers.len() - 1;
        let mut x = raw.clone();
        for (index, (weight, bias)) in self.layers.iter().enumerate() {
            let weight = if index == 0 {
                weight.broadcast_mul(&normalizer.t()?)?
            } else {
                weight.clone()
            };
            x = weight.matmul(&x)?.broadcast_add(bias)?;
            if index < last {
                x = x.relu()?;
            }
        }
        Ok(x)
    }
}
