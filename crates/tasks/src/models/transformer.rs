use candle_core::{D, Device, Tensor};
use candle_nn::ops::softmax;
use lopt_core::{Params, Result};
use serde::{Deserialize, Serialize};

use super::{
    Architecture, Input, Model, Parameter, Size, Tokens,
    ops::{dense, dense_parameters, layer_norm, layer_norm_parameters},
};
use crate::{Error, error::sizes_in_range};

/// A decoder-only transformer (Vaswani et al. 2017, arXiv 1706.03762; with pre-normalization) that
/// predicts the next byte of a text. x is the sum of the embeddings of a byte and its position; for
/// each layer:
///
/// x ← x + attention(norm(x)); x ← x + W₂·gelu(W₁·norm(x)),
///
/// and at the end logits = V·norm(x) + d, where V may be the matrix of the embedding itself. Each
/// position attends to itself and to those before it.
///
/// Parameters: `embedding` \[vocabulary, width\], `position` \[length, width\]; for each layer
/// `block0/qkv` \[width, 3·width\], `block0/out` \[width, width\], `block0/up`
/// \[width, 4·width\], `block0/down` \[4·width, width\], each a `weight` with a `bias`, and
/// `block0/norm1`, `block0/norm2`, each a `gain` and a `bias` \[width\]; `norm` and `head`,
/// which is only a `bias` with `tied-embeddings`.
/// Embeddings start as N(0, 0.1²), weights as N(0, 1/in), those of `out` and `down` as
/// N(0, 1/(2·layers·in)), gains at 1, biases at 0.
///
/// In a family, the width is `width`, the depth is `layers`, and `heads` is a list as well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerConfig {
    /// Size of the embedding of a byte and its position.
    pub width: usize,
    /// Attention heads; a divisor of `width`.
    pub heads: usize,
    /// Blocks of attention and a two-layer network of 4·width.
    pub layers: usize,
    /// Whether the logits use the matrix of the embedding (Press and Wolf 2017); not by default.
    #[serde(
        default,
        rename = "tied-embeddings",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub tied_embeddings: bool,
}

impl Architecture for TransformerConfig {
    fn of_size(size: Size) -> crate::Result<Self> {
        sizes_in_range("depth", &[size.depth])?;
        let heads = size.heads.ok_or_else(|| {
            Error::Config("`heads` is missing; a transformer needs it, such as [4]".to_owned())
        });
        Ok(Self {
            width: size.width,
            heads: heads?,
            layers: size.depth,
            tied_embeddings: false,
        })
    }

    fn build(
        &self,
        input: Input,
        _outputs: usize,
        device: &Device,
    ) -> crate::Result<Box<dyn Model>> {
        sizes_in_range("width", &[self.width])?;
        sizes_in_range("heads", &[self.heads])?;
        sizes_in_range("layers", &[self.layers])?;
        if !self.width.is_multiple_of(self.heads) {
            return Err(Error::Config(format!(
                "`width` {} cannot be divided among {} `heads`",
                self.width, self.heads
            )));
        }
        let model = Transformer::new(self.clone(), input.tokens()?, device)?;
        Ok(Box::new(model))
    }
}

struct Transformer {
    config: TransformerConfig,
    tokens: Tokens,
    /// \[length, length\]: 0 where a position may attend, else a large negative number.
    mask: Tensor,
}

impl Transformer {
    fn new(config: TransformerConfig, tokens: Tokens, device: &Device) -> Result<Self> {
        let length = tokens.length;
        let at = |(row, column): (usize, usize)| if column > row { -1e9f32 } else { 0.0 };
        let mask = (0..length * length).map(|i| at((i / length, i % length)));
        let mask = Tensor::from_vec(mask.collect::<Vec<_>>(), (length, length), &Device::Cpu)?;
        Ok(Self {
            config,
            tokens,
            mask: mask.to_device(device)?,
        })
    }

    /// x \[batch·length, width\].
    fn attention(&self, params: &Params, name: &str, x: &Tensor) -> Result<Tensor> {
        let TransformerConfig { width, heads, .. } = self.config;
        let length = self.tokens.length;
        let n = x.dim(0)? / length;
        let all = dense(params, &format!("{name}/qkv"), x)?;
        // [batch, heads, length, width/heads]
        let part = |index: usize| {
            all.narrow(1, index * width, width)?
                .reshape((n, length, heads, width / heads))?
                .transpose(1, 2)?
                .contiguous()
        };
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let scale = ((width / heads) as f64).sqrt();
        let scores = (q.matmul(&k.transpose(2, 3)?.contiguous()?)? / scale)?;
        let mask = self.mask.to_dtype(scores.dtype())?;
        let weights = softmax(&scores.broadcast_add(&mask)?, D::Minus1)?;
        let mixed = weights.matmul(&v)?.transpose(1, 2)?.contiguous()?;
        let mixed = mixed.reshape((n * length, width))?;
        dense(params, &format!("{name}/out"), &mixed)
    }
}

impl Model for Transformer {
    fn parameters(&self) -> Vec<Parameter> {
        let Tokens { vocabulary, length } = self.tokens;
        let TransformerConfig { width, layers, .. } = self.config;
        let mut all = vec![
            Parameter::normal("embedding", &[vocabulary, width], 0.1),
            Parameter::normal("position", &[length, width], 0.1),
        ];
        // The more layers add to x, the smaller each starts.
        let gain = 1.0 / (2 * layers) as f32;
        for layer in 0..layers {
            let name = format!("block{layer}");
            all.extend(layer_norm_parameters(&format!("{name}/norm1"), width));
            all.extend(dense_parameters(
                &format!("{name}/qkv"),
                width,
                3 * width,
                1.0,
            ));
            all.extend(dense_parameters(&format!("{name}/out"), width, width, gain));
            all.extend(layer_norm_parameters(&format!("{name}/norm2"), width));
            all.extend(dense_parameters(
                &format!("{name}/up"),
                width,
                4 * width,
                1.0,
            ));
            all.extend(dense_parameters(
                &format!("{name}/down"),
                4 * width,
                width,
                gain,
            ));
        }
        all.extend(layer_norm_parameters("norm", width));
        let [weight, bias] = dense_parameters("head", width, vocabulary, 1.0);
        if !self.config.tied_embeddings {
            all.push(weight);
        }
        all.push(bias);
        all
    }

    fn outputs(&self, params: &Params, input: &Tensor) -> Result<Tensor> {
        let (n, length) = input.dims2()?;
        let TransformerConfig { width, layers, .. } = self.config;
        let tokens = input.flatten_all()?;
        let embedded = params.get("embedding")?.index_select(&tokens, 0)?;
        let embedded = embedded.reshape((n, length, width))?;
        let positioned = embedded.broadcast_add(params.get("position")?)?;
        let mut x = positioned.reshape((n * length, width))?;
        for layer in 0..layers {
            let name = format!("block{layer}");
            let normed = layer_norm(params, &format!("{name}/norm1"), &x)?;
            x = (x + self.attention(params, &name, &normed)?)?;
            let normed = layer_norm(params, &format!("{name}/norm2"), &x)?;
            let up = dense(params, &format!("{name}/up"), &normed)?.gelu()?;
            x = (x + dense(params, &format!("{name}/down"), &up)?)?;
        }
        let x = layer_norm(params, "norm", &x)?;
        if self.config.tied_embeddings {
            let product = x.matmul(&params.get("embedding")?.t()?)?;
            return Ok(product.broadcast_add(params.get("head/bias")?)?);
        }
        dense(params, "head", &x)
    }
}
