use candle_core::{D, Device, Tensor};
use candle_nn::ops::softmax;
use lopt_core::{Params, Result};

use super::{
    Model, Parameter,
    ops::{dense, dense_parameters, layer_norm, layer_norm_parameters},
};

pub struct Sizes {
    pub vocabulary: usize,
    pub length: usize,
    pub width: usize,
    pub heads: usize,
    pub layers: usize,
}

/// x ← x + attention(norm x); x ← x + W₂·gelu(W₁·norm x); a position attends to itself and
/// those before it.
pub struct Transformer {
    sizes: Sizes,
    /// \[length, length\]: 0 where a position may look, else a large negative number.
    mask: Tensor,
}

impl Transformer {
    pub fn new(sizes: Sizes, device: &Device) -> Result<Self> {
        let length = sizes.length;
        let at = |(row, column): (usize, usize)| if column > row { -1e9f32 } else { 0.0 };
        let mask = (0..length * length).map(|i| at((i / length, i % length)));
        let mask = Tensor::from_vec(mask.collect::<Vec<_>>(), (length, length), &Device::Cpu)?;
        Ok(Self {
            sizes,
            mask: mask.to_device(device)?,
        })
    }

    /// x \[batch·length, width\].
    fn attention(&self, params: &Params, name: &str, x: &Tensor) -> Result<Tensor> {
        let Sizes {
            length,
            width,
            heads,
            ..
        } = self.sizes;
        let n = x.dim(0)? / length;
        let all = dense(params, &format!("{name}/qkv"), x)?;
        // [batch, heads, length, width of a head]
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
        let Sizes {
            vocabulary,
            length,
            width,
            layers,
            ..
        } = self.sizes;
        let mut all = vec![
            Parameter::normal("embedding", &[vocabulary, width], 0.1),
            Parameter::normal("position", &[length, width], 0.1),
        ];
        // What goes back into x starts smaller, the more layers add to it.
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
        all.extend(dense_parameters("head", width, vocabulary, 1.0));
        all
    }

    fn logits(&self, params: &Params, input: &Tensor) -> Result<Tensor> {
        let (n, length) = input.dims2()?;
        let width = self.sizes.width;
        let tokens = input.flatten_all()?;
        let embedded = params.get("embedding")?.index_select(&tokens, 0)?;
        let embedded = embedded.reshape((n, length, width))?;
        let positioned = embedded.broadcast_add(params.get("position")?)?;
        let mut x = positioned.reshape((n * length, width))?;
        for layer in 0..self.sizes.layers {
            let name = format!("block{layer}");
            let normed = layer_norm(params, &format!("{name}/norm1"), &x)?;
            x = (x + self.attention(params, &name, &normed)?)?;
            let normed = layer_norm(params, &format!("{name}/norm2"), &x)?;
            let up = dense(params, &format!("{name}/up"), &normed)?.gelu()?;
            x = (x + dense(params, &format!("{name}/down"), &up)?)?;
        }
        dense(params, "head", &layer_norm(params, "norm", &x)?)
    }
}
