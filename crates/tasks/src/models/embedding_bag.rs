use candle_core::{Device, Tensor};
use lopt_core::{Params, Result};
use serde::{Deserialize, Serialize};

use super::{
    Architecture, Input, Model, Parameter, Size,
    ops::{dense, dense_parameters},
};
use crate::error::sizes_in_range;

/// A bag of embeddings that predicts the next byte of a text from the bytes before it in the
/// window, in any order:
///
/// logits = W·m + b, where m is the mean of these bytes' embeddings.
///
/// Parameters: `embedding` \[vocabulary, embedding\], `head/weight` W \[embedding, vocabulary\],
/// `head/bias` b \[vocabulary\]. The embedding starts as N(0, 1), W as N(0, 1/in), b at 0.
///
/// In a family, the width is `embedding`; the depth must be 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingBagConfig {
    /// Size of a byte's embedding.
    pub embedding: usize,
}

impl Architecture for EmbeddingBagConfig {
    fn of_size(size: Size) -> crate::Result<Self> {
        let embedding = size.of_one_layer("a bag of embeddings")?;
        Ok(Self { embedding })
    }

    fn build(
        &self,
        input: Input,
        _outputs: usize,
        device: &Device,
    ) -> crate::Result<Box<dyn Model>> {
        sizes_in_range("embedding", &[self.embedding])?;
        let tokens = input.tokens()?;
        let bag = EmbeddingBag {
            vocabulary: tokens.vocabulary,
            embedding: self.embedding,
            means: means(tokens.length, device)?,
        };
        Ok(Box::new(bag))
    }
}

struct EmbeddingBag {
    vocabulary: usize,
    embedding: usize,
    /// \[length, length\]: row t has the weights of a mean over the first t + 1 tokens.
    means: Tensor,
}

fn means(length: usize, device: &Device) -> Result<Tensor> {
    let weight = |row: usize, column: usize| match column <= row {
        true => 1.0 / (row + 1) as f32,
        false => 0.0,
    };
    let weights = (0..length * length).map(|i| weight(i / length, i % length));
    let weights: Vec<f32> = weights.collect();
    Ok(Tensor::from_vec(weights, (length, length), &Device::Cpu)?.to_device(device)?)
}

impl Model for EmbeddingBag {
    fn parameters(&self) -> Vec<Parameter> {
        let (vocabulary, embedding) = (self.vocabulary, self.embedding);
        let mut all = vec![Parameter::normal(
            "embedding",
            &[vocabulary, embedding],
            1.0,
        )];
        all.extend(dense_parameters("head", embedding, vocabulary, 1.0));
        all
    }

    fn outputs(&self, params: &Params, input: &Tensor) -> Result<Tensor> {
        let (rows, length) = input.dims2()?;
        let embedded = params.get("embedding")?;
        let embedded = embedded.index_select(&input.flatten_all()?, 0)?;
        let embedded = embedded.reshape((rows, length, self.embedding))?;
        let means = self.means.to_dtype(embedded.dtype())?;
        let means = means.broadcast_left(rows)?.contiguous()?;
        let means = means.matmul(&embedded)?;
        dense(
            params,
            "head",
            &means.reshape((rows * length, self.embedding))?,
        )
    }
}
