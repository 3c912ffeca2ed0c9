use candle_core::{Device, Tensor};
use lopt_core::{Params, Result};
use serde::{Deserialize, Serialize};

use super::{
    Architecture, Image, Input, Model, Parameter, Size,
    ops::{dense, dense_parameters, layer_norm, layer_norm_parameters},
};
use crate::{Error, error::sizes_in_range};

/// An MLP-Mixer (Tolstikhin et al. 2021, arXiv 2105.01601) on images. x has a row of `width`
/// numbers for each patch, at first a linear function of its pixels; for each layer:
///
/// x ← x + mlp(norm(x)ᵀ)ᵀ; x ← x + mlp(norm(x)), with mlp(x) = W₂·gelu(W₁·x + b₁),
///
/// so that the first MLP mixes patches and the second mixes channels, each with a hidden layer
/// twice as wide as its input. A second bias would have no effect in the first MLP, because norms
/// remove what is added to all channels. At the end logits = V·mean(norm(x)) + d.
///
/// Parameters: `patch` \[patch·patch·channels, width\]; for each layer `block0/patches/up`,
/// `block0/channels/up`, each a `weight` \[in, out\] with a `bias`, `block0/patches/down/weight`,
/// `block0/channels/down/weight`, and `block0/patches/norm`, `block0/channels/norm`, each a `gain`
/// and a `bias`; `norm` and `head`. Weights start as N(0, 1/in), those of `down` as
/// N(0, 1/(2·layers·in)), gains at 1, biases at 0.
///
/// In a family, the width is `width`, the depth is `layers`, and `patch = 2`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MlpMixerConfig {
    /// Side of a patch in pixels; a divisor of the image's side.
    pub patch: usize,
    /// Channels of each patch.
    pub width: usize,
    /// Blocks of two MLPs.
    pub layers: usize,
}

impl Architecture for MlpMixerConfig {
    fn of_size(size: Size) -> crate::Result<Self> {
        let (width, layers) = size.without_heads()?;
        sizes_in_range("depth", &[layers])?;
        Ok(Self {
            patch: 2,
            width,
            layers,
        })
    }

    fn build(&self, input: Input, outputs: usize, _: &Device) -> crate::Result<Box<dyn Model>> {
        sizes_in_range("patch", &[self.patch])?;
        sizes_in_range("width", &[self.width])?;
        sizes_in_range("layers", &[self.layers])?;
        let image = input.image()?;
        if !image.side.is_multiple_of(self.patch) {
            return Err(Error::Config(format!(
                "images of {0}×{0} pixels cannot be divided into patches of {1}×{1}; change `patch`",
                image.side, self.patch
            )));
        }
        Ok(Box::new(MlpMixer {
            config: self.clone(),
            image,
            outputs,
        }))
    }
}

struct MlpMixer {
    config: MlpMixerConfig,
    image: Image,
    outputs: usize,
}

impl MlpMixer {
    /// Patches along a side of the image.
    fn grid(&self) -> usize {
        self.image.side / self.config.patch
    }

    /// Numbers in a patch.
    fn pixels(&self) -> usize {
        self.config.patch * self.config.patch * self.image.channels
    }

    /// Images as patches \[rows·grid·grid, pixels\].
    fn patches(&self, input: &Tensor) -> Result<Tensor> {
        let (rows, grid, patch) = (input.dim(0)?, self.grid(), self.config.patch);
        let split = (rows * grid, patch, grid, patch * self.image.channels);
        let patches = input.reshape(split)?.transpose(1, 2)?.contiguous()?;
        Ok(patches.reshape((rows * grid * grid, self.pixels()))?)
    }
}

/// W₂·gelu(W₁·x + b₁) over the last dimension of x.
fn mlp(params: &Params, name: &str, x: &Tensor) -> Result<Tensor> {
    let flat = x.flatten_to(x.rank() - 2)?;
    let hidden = dense(params, &format!("{name}/up"), &flat)?.gelu()?;
    let down = params.get(&format!("{name}/down/weight"))?;
    Ok(hidden.matmul(down)?.reshape(x.shape())?)
}

impl Model for MlpMixer {
    fn parameters(&self) -> Vec<Parameter> {
        let MlpMixerConfig { width, layers, .. } = self.config;
        let mut all = Vec::from(dense_parameters("patch", self.pixels(), width, 1.0));
        // The more layers add to x, the smaller each starts.
        let gain = 1.0 / (2 * layers) as f32;
        for layer in 0..layers {
            for (part, size) in [("patches", self.grid().pow(2)), ("channels", width)] {
                let name = format!("block{layer}/{part}");
                all.extend(layer_norm_parameters(&format!("{name}/norm"), width));
                all.extend(dense_parameters(&format!("{name}/up"), size, 2 * size, 1.0));
                let down = format!("{name}/down/weight");
                all.push(Parameter::weight(down, &[2 * size, size], gain));
            }
        }
        all.extend(layer_norm_parameters("norm", width));
        all.extend(dense_parameters("head", width, self.outputs, 1.0));
        all
    }

    fn outputs(&self, params: &Params, input: &Tensor) -> Result<Tensor> {
        let MlpMixerConfig { width, layers, .. } = self.config;
        let (rows, patches) = (input.dim(0)?, self.grid().pow(2));
        let x = dense(params, "patch", &self.patches(input)?)?;
        let mut x = x.reshape((rows, patches, width))?;
        for layer in 0..layers {
            let name = format!("block{layer}/patches");
            let normed = layer_norm(params, &format!("{name}/norm"), &x)?;
            let mixed = mlp(params, &name, &normed.transpose(1, 2)?.contiguous()?)?;
            x = (x + mixed.transpose(1, 2)?)?;
            let name = format!("block{layer}/channels");
            let normed = layer_norm(params, &format!("{name}/norm"), &x)?;
            x = (x + mlp(params, &name, &normed)?)?;
        }
        let x = layer_norm(params, "norm", &x)?;
        dense(params, "head", &x.mean(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pixels 0 to 15 of 4×4, in patches of 2×2.
    #[test]
    fn patches_are_squares() {
        let config = MlpMixerConfig {
            patch: 2,
            width: 3,
            layers: 1,
        };
        let image = Image {
            side: 4,
            channels: 1,
        };
        let mixer = MlpMixer {
            config,
            image,
            outputs: 2,
        };
        let input = Tensor::arange(0u32, 16, &Device::Cpu).unwrap();
        let patches = mixer.patches(&input.unsqueeze(0).unwrap()).unwrap();
        assert_eq!(
            patches.to_vec2::<u32>().unwrap(),
            [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
        );
    }
}
