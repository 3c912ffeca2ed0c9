use candle_core::{Device, Tensor};
use candle_nn::ops::sigmoid;
use lopt_core::{Params, Result};
use serde::{Deserialize, Serialize};

use super::{
    Architecture, Input, Model, Parameter, Size,
    ops::{dense, dense_parameters, embed_steps},
};
use crate::error::sizes_in_range;

/// A GRU (Cho et al. 2014, arXiv 1406.1078; the reset gate after the product) of one layer that
/// predicts the next byte of a text. For each byte, with its embedding x:
///
/// \[r, z, n\] = x·W + b; \[r', z', n'\] = h·U + c; n ← tanh(n + σ(r + r')·n');
/// h ← n + σ(z + z')·(h − n); logits = h·V + d,
///
/// with h = 0 at the start of each window.
///
/// Parameters: `embedding` \[vocabulary, embedding\], `input/weight` W \[embedding, 3·hidden\],
/// `input/bias` b \[3·hidden\], `recurrent/weight` U \[hidden, 3·hidden\], `recurrent/bias` c
/// \[3·hidden\], `head/weight` V \[hidden, vocabulary\], `head/bias` d \[vocabulary\]. The
/// embedding starts as N(0, 1), weights as N(0, 1/in), biases at 0.
///
/// In a family, a width gives `embedding = hidden = width`; the depth must be 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GruConfig {
    /// Size of a byte's embedding.
    pub embedding: usize,
    /// Hidden units.
    pub hidden: usize,
}

impl Architecture for GruConfig {
    fn of_size(size: Size) -> crate::Result<Self> {
        let width = size.of_one_layer("the GRU")?;
        Ok(Self {
            embedding: width,
            hidden: width,
        })
    }

    fn build(&self, input: Input, _outputs: usize, _: &Device) -> crate::Result<Box<dyn Model>> {
        sizes_in_range("embedding", &[self.embedding])?;
        sizes_in_range("hidden", &[self.hidden])?;
        Ok(Box::new(Gru {
            vocabulary: input.tokens()?.vocabulary,
            embedding: self.embedding,
            hidden: self.hidden,
        }))
    }
}

struct Gru {
    vocabulary: usize,
    embedding: usize,
    hidden: usize,
}

impl Model for Gru {
    fn parameters(&self) -> Vec<Parameter> {
        let (embedding, hidden) = (self.embedding, self.hidden);
        let table = Parameter::normal("embedding", &[self.vocabulary, embedding], 1.0);
        let layers = [
            dense_parameters("input", embedding, 3 * hidden, 1.0),
            dense_parameters("recurrent", hidden, 3 * hidden, 1.0),
            dense_parameters("head", hidden, self.vocabulary, 1.0),
        ];
        [table]
            .into_iter()
            .chain(layers.into_iter().flatten())
            .collect()
    }

    fn outputs(&self, params: &Params, input: &Tensor) -> Result<Tensor> {
        let (rows, length) = input.dims2()?;
        let hidden = self.hidden;
        let from_input = dense(params, "input", &embed_steps(params, input)?)?;
        let mut h = Tensor::zeros((rows, hidden), from_input.dtype(), from_input.device())?;
        let mut outputs = vec![];
        for t in 0..length {
            let from_input = from_input.narrow(0, t * rows, rows)?;
            let from_state = dense(params, "recurrent", &h)?;
            let part = |sums: &Tensor, index: usize| sums.narrow(1, index * hidden, hidden);
            let gate = |index: usize| -> Result<Tensor> {
                Ok(sigmoid(
                    &(part(&from_input, index)? + part(&from_state, index)?)?,
                )?)
            };
            let n = (part(&from_input, 2)? + (gate(0)? * part(&from_state, 2)?)?)?.tanh()?;
            h = (&n + (gate(1)? * (h - &n)?)?)?;
            outputs.push(h.clone());
        }
        let h = Tensor::stack(&outputs, 1)?.reshape((rows * length, hidden))?;
        dense(params, "head", &h)
    }
}
