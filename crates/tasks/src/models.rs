//! Networks in candle ops.
//!
//! A model is one file, which holds its configuration ([`Architecture`]) and its network
//! ([`Model`]), and one entry of [`models!`].

mod conv_net;
mod embedding_bag;
mod feed_forward;
mod gru;
mod layer_norm_mlp;
mod lstm;
mod mlp_mixer;
mod ops;
mod res_net;
mod transformer;
mod vanilla_lstm;

pub use conv_net::{ConvNetConfig, Padding};
pub use embedding_bag::EmbeddingBagConfig;
pub use feed_forward::FeedForwardConfig;
pub use gru::GruConfig;
pub use layer_norm_mlp::LayerNormMlpConfig;
pub use lstm::LstmConfig;
pub use mlp_mixer::MlpMixerConfig;
pub use res_net::ResNetConfig;
pub use transformer::TransformerConfig;
pub use vanilla_lstm::VanillaLstmConfig;

use candle_core::{Device, Tensor};
use lopt_core::{Params, Rng, normal};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Defines [`ModelConfig`] and [`ModelKind`] from one entry for each model: its variant, its
/// configuration and its name in files.
macro_rules! models {
    ($($(#[$doc:meta])* $model:ident($config:ty) = $name:literal;)+) => {
        /// A network and its size: the model's own keys, and `kind`.
        ///
        /// ```
        /// let text = r#"{ "kind": "conv-net", "channels": [8, 16] }"#;
        /// let model: lopt_tasks::ModelConfig = serde_json::from_str(text)?;
        /// assert_eq!(model.kind().name(), "conv-net");
        /// # Ok::<(), serde_json::Error>(())
        /// ```
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum ModelConfig {
            $($(#[$doc])* #[serde(rename = $name)] $model($config),)+
        }

        /// An architecture without its size.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum ModelKind {
            $($(#[$doc])* #[serde(rename = $name)] $model,)+
        }

        impl ModelConfig {
            /// The architecture.
            pub fn kind(&self) -> ModelKind {
                match self {
                    $(Self::$model(_) => ModelKind::$model,)+
                }
            }

            fn architecture(&self) -> &dyn Architecture {
                match self {
                    $(Self::$model(config) => config,)+
                }
            }
        }

        impl ModelKind {
            /// All architectures.
            pub const ALL: &[Self] = &[$(Self::$model,)+];

            /// The name in configurations, such as `conv-net`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$model => $name,)+
                }
            }

            /// The model of that size.
            ///
            /// # Errors
            /// Returns an error if the architecture has no such size.
            pub(crate) fn of_size(self, size: Size) -> Result<ModelConfig> {
                Ok(match self {
                    $(Self::$model => ModelConfig::$model(<$config>::of_size(size)?),)+
                })
            }
        }
    };
}

models! {
    /// An MLP with layer normalization, on images or tables.
    LayerNormMlp(LayerNormMlpConfig) = "layer-norm-mlp";
    /// A convolutional network, on images.
    ConvNet(ConvNetConfig) = "conv-net";
    /// A residual network, on images.
    ResNet(ResNetConfig) = "res-net";
    /// An LSTM language model.
    Lstm(LstmConfig) = "lstm";
    /// A decoder-only transformer language model.
    Transformer(TransformerConfig) = "transformer";
    /// A plain MLP, on images or tables with any loss.
    FeedForward(FeedForwardConfig) = "feed-forward";
    /// An MLP-Mixer, on images.
    MlpMixer(MlpMixerConfig) = "mlp-mixer";
    /// A GRU language model.
    Gru(GruConfig) = "gru";
    /// An LSTM language model with the layers of candle-nn.
    VanillaLstm(VanillaLstmConfig) = "vanilla-lstm";
    /// A language model of the mean of embeddings.
    EmbeddingBag(EmbeddingBagConfig) = "embedding-bag";
}

/// A size in the terms that all architectures of a family share.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub width: usize,
    pub depth: usize,
    /// Attention heads.
    pub heads: Option<usize>,
}

impl Size {
    /// `width` and `depth`, for architectures without attention heads.
    fn without_heads(self) -> Result<(usize, usize)> {
        match self.heads {
            None => Ok((self.width, self.depth)),
            Some(_) => Err(Error::Config(
                "`heads` has no effect on this model; remove it".to_owned(),
            )),
        }
    }

    /// `width`, for architectures of one layer. `model` is the subject of the error message.
    fn of_one_layer(self, model: &str) -> Result<usize> {
        match self.without_heads()? {
            (width, 1) => Ok(width),
            (_, depth) => Err(Error::Config(format!(
                "`depth` is {depth}; {model} has one layer, so it must be 1"
            ))),
        }
    }
}

/// The configuration of one architecture.
pub(crate) trait Architecture {
    /// The configuration of that size.
    fn of_size(size: Size) -> Result<Self>
    where
        Self: Sized;

    /// The network for these inputs with so many outputs.
    fn build(&self, input: Input, outputs: usize, device: &Device) -> Result<Box<dyn Model>>;
}

/// The input of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Image(Image),
    Tokens(Tokens),
    /// \[batch, features\].
    Features(usize),
}

/// \[batch, side·side·channels\], row by row, the channels of a pixel together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub side: usize,
    pub channels: usize,
}

/// \[batch, length\] of u32 below `vocabulary`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub vocabulary: usize,
    pub length: usize,
}

impl Input {
    fn image(self) -> Result<Image> {
        match self {
            Self::Image(image) => Ok(image),
            other => Err(other.refused("images")),
        }
    }

    fn tokens(self) -> Result<Tokens> {
        match self {
            Self::Tokens(tokens) => Ok(tokens),
            other => Err(other.refused("text")),
        }
    }

    /// The columns of images or tables.
    fn features(self) -> Result<usize> {
        match self {
            Self::Image(Image { side, channels }) => Ok(side * side * channels),
            Self::Features(features) => Ok(features),
            other => Err(other.refused("images or tables")),
        }
    }

    /// The error of a model that reads `what` instead.
    fn refused(self, what: &str) -> Error {
        let data = match self {
            Self::Image(_) => "images",
            Self::Tokens(_) => "text",
            Self::Features(_) => "a table",
        };
        Error::Config(format!("this model reads {what}, but the data are {data}"))
    }
}

/// A network: a function of inputs and parameters.
pub(crate) trait Model: Send + Sync {
    /// All parameters.
    fn parameters(&self) -> Vec<Parameter>;

    /// \[predictions, outputs\]: one prediction for each image or row of a table, or for each token of
    /// each row; logits if classes are predicted.
    fn outputs(&self, params: &Params, input: &Tensor) -> lopt_core::Result<Tensor>;
}

impl ModelConfig {
    /// The network for these inputs with so many outputs.
    ///
    /// # Errors
    /// Returns an error that names the model if a size is not valid or it cannot read such inputs.
    pub(crate) fn build(
        &self,
        input: Input,
        outputs: usize,
        device: &Device,
    ) -> Result<Box<dyn Model>> {
        let built = self.architecture().build(input, outputs, device);
        built.map_err(|error| error.within(self.kind().name()))
    }
}

/// A parameter tensor and its distribution at the start of training.
pub(crate) struct Parameter {
    name: String,
    shape: Vec<usize>,
    start: Start,
}

enum Start {
    Constant(f32),
    /// N(0, σ²).
    Normal(f32),
    /// Uniform in ±limit.
    Uniform(f32),
}

impl Parameter {
    fn constant(name: impl Into<String>, shape: &[usize], value: f32) -> Self {
        Self {
            name: name.into(),
            shape: shape.to_vec(),
            start: Start::Constant(value),
        }
    }

    /// N(0, gain/fan-in); all dimensions but the last are inputs.
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

    /// Uniform in ±limit.
    fn uniform(name: impl Into<String>, shape: &[usize], limit: f32) -> Self {
        Self {
            name: name.into(),
            shape: shape.to_vec(),
            start: Start::Uniform(limit),
        }
    }

    /// The parameter's name and a sample of its initial value.
    pub(crate) fn sample(
        &self,
        rng: &mut Rng,
        device: &Device,
    ) -> lopt_core::Result<(String, Tensor)> {
        let n = self.shape.iter().product();
        let values: Vec<f32> = match self.start {
            Start::Constant(value) => vec![value; n],
            Start::Normal(sigma) => (0..n).map(|_| sigma * normal(rng)).collect(),
            Start::Uniform(limit) => (0..n)
                .map(|_| limit * rng.random_range(-1f32..1.0))
                .collect(),
        };
        let tensor = Tensor::from_vec(values, &*self.shape, &Device::Cpu)?.to_device(device)?;
        Ok((self.name.clone(), tensor))
    }
}
