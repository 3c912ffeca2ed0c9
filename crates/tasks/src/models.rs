//! Networks other than MLPs, in candle ops.

mod conv_net;
mod layer_norm_mlp;
mod lstm;
mod ops;
mod res_net;
mod transformer;

use candle_core::{Device, Tensor};
use lopt_core::{Params, Rng, normal};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A network and its size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "kind")]
pub enum ModelConfig {
    /// An MLP with a layer normalisation before each ReLU, on images.
    LayerNormMlp {
        /// Widths of the hidden layers.
        hidden: Vec<usize>,
    },
    /// 3×3 convolutions and ReLUs on images, each after the first with stride 2; then the mean
    /// over what is left of the image, and a dense layer.
    ConvNet {
        /// Of each convolution.
        channels: Vec<usize>,
    },
    /// A residual network (He et al. 2016) on images: a convolution, then for each stage a block
    /// x + conv(relu(norm(conv(relu(norm x))))), with a convolution of stride 2 between stages.
    /// Normalisation is over the channels of each pixel, which has no state.
    ResNet {
        /// Of each stage.
        channels: Vec<usize>,
    },
    /// An LSTM (Hochreiter and Schmidhuber 1997) that predicts the next byte of a text.
    Lstm {
        /// Numbers that stand for a byte.
        embedding: usize,
        /// Hidden units.
        hidden: usize,
    },
    /// A decoder-only transformer (Vaswani et al. 2017; normalisation first) that predicts the
    /// next byte of a text.
    Transformer {
        /// Numbers that stand for a byte and its position.
        width: usize,
        /// Attention heads.
        heads: usize,
        /// Blocks of attention and a two-layer network of 4·width.
        layers: usize,
    },
}

/// What goes into a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// \[batch, side·side·channels\], row by row, the channels of a pixel together.
    Image { side: usize, channels: usize },
    /// \[batch, length\] of u32.
    Tokens { vocabulary: usize, length: usize },
}

/// A function of inputs and parameters.
pub(crate) trait Model: Send + Sync {
    /// All parameters.
    fn parameters(&self) -> Vec<Parameter>;

    /// \[predictions, classes\]: a prediction for each image, or for each token of each row.
    fn logits(&self, params: &Params, input: &Tensor) -> lopt_core::Result<Tensor>;
}

/// A parameter tensor at the start.
pub(crate) struct Parameter {
    name: String,
    shape: Vec<usize>,
    start: Start,
}

enum Start {
    Constant(f32),
    /// N(0, σ²).
    Normal(f32),
}

impl Parameter {
    fn constant(name: impl Into<String>, shape: &[usize], value: f32) -> Self {
        Self {
            name: name.into(),
            shape: shape.to_vec(),
            start: Start::Constant(value),
        }
    }

    /// N(0, gain/fan-in), where all dimensions but the last are the inputs.
    fn weight(name: impl Into<String>, shape: &[usize], gain: f32) -> Self {
        let fan_in: usize = shape[..shape.len() - 1].iter().product();
        Self::normal(name, shape, (gain / fan_in as f32).sqrt())
    }

    /// N(0, σ²).
    fn normal(name: impl Into<String>, shape: &[usize], sigma: f32) -> Self {
        Self {
            name: name.into(),
            shape: shape.to_vec(),
            start: Start::Normal(sigma),
        }
    }

    pub(crate) fn sample(
        &self,
        rng: &mut Rng,
        device: &Device,
    ) -> lopt_core::Result<(String, Tensor)> {
        let n = self.shape.iter().product();
        let values: Vec<f32> = match self.start {
            Start::Constant(value) => vec![value; n],
            Start::Normal(sigma) => (0..n).map(|_| sigma * normal(rng)).collect(),
        };
        let tensor = Tensor::from_vec(values, &*self.shape, &Device::Cpu)?.to_device(device)?;
        Ok((self.name.clone(), tensor))
    }
}

impl ModelConfig {
    /// The network for such inputs.
    pub(crate) fn build(
        &self,
        input: Input,
        classes: usize,
        device: &Device,
    ) -> Result<Box<dyn Model>> {
        self.check()?;
        Ok(match (self, input) {
            (Self::LayerNormMlp { hidden }, Input::Image { side, channels }) => {
                let sizes = std::iter::once(side * side * channels)
                    .chain(hidden.iter().copied())
                    .chain([classes]);
                Box::new(layer_norm_mlp::LayerNormMlp::new(sizes.collect()))
            }
            (
                Self::ConvNet {
                    channels: of_layers,
                },
                Input::Image { side, channels },
            ) => Box::new(conv_net::ConvNet::new(
                side, channels, of_layers, classes, device,
            )?),
            (
                Self::ResNet {
                    channels: of_stages,
                },
                Input::Image { side, channels },
            ) => Box::new(res_net::ResNet::new(
                side, channels, of_stages, classes, device,
            )?),
            (&Self::Lstm { embedding, hidden }, Input::Tokens { vocabulary, .. }) => {
                Box::new(lstm::Lstm::new(vocabulary, embedding, hidden))
            }
            (
                &Self::Transformer {
                    width,
                    heads,
                    layers,
                },
                Input::Tokens { vocabulary, length },
            ) => Box::new(transformer::Transformer::new(
                transformer::Sizes {
                    vocabulary,
                    length,
                    width,
                    heads,
                    layers,
                },
                device,
            )?),
            (_, Input::Image { .. }) => {
                return Err(Error::Config(format!(
                    "a model of kind `{}` reads text, not images",
                    self.name()
                )));
            }
            (_, Input::Tokens { .. }) => {
                return Err(Error::Config(format!(
                    "a model of kind `{}` reads images, not text",
                    self.name()
                )));
            }
        })
    }

    /// As configurations spell it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::LayerNormMlp { .. } => "layer-norm-mlp",
            Self::ConvNet { .. } => "conv-net",
            Self::ResNet { .. } => "res-net",
            Self::Lstm { .. } => "lstm",
            Self::Transformer { .. } => "transformer",
        }
    }

    fn check(&self) -> Result<()> {
        let sizes = match self {
            Self::LayerNormMlp { hidden: list } => list.clone(),
            Self::ConvNet { channels } | Self::ResNet { channels } => {
                if channels.is_empty() {
                    let problem = "`channels` is empty; name the channels of one layer at least";
                    return Err(Error::Config(format!("{}: {problem}", self.name())));
                }
                channels.clone()
            }
            &Self::Lstm { embedding, hidden } => vec![embedding, hidden],
            &Self::Transformer {
                width,
                heads,
                layers,
            } => {
                if heads == 0 || !width.is_multiple_of(heads) {
                    return Err(Error::Config(format!(
                        "transformer: width {width} cannot be divided among {heads} heads"
                    )));
                }
                vec![width, layers]
            }
        };
        match sizes.contains(&0) {
            true => Err(Error::Config(format!("{}: a size is 0", self.name()))),
            false => Ok(()),
        }
    }
}
