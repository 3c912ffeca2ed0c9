use candle_core::{Device, Tensor};
use candle_nn::ops::sigmoid;
use lopt_core::{Params, Result};
use serde::{Deserialize, Serialize};

use super::{
    Architecture, Input, Model, Parameter, Size,
    ops::{dense, dense_parameters},
};
use crate::{Error, error::at_least_1};

/// An LSTM (Hochreiter and Schmidhuber 1997) of one layer that predicts the next byte of a text.
/// For each byte, with its embedding x:
///
/// \[i, f, o, g\] = x·W + h·U + b; c ← σ(f + 1)·c + σ(i)·tanh(g); h ← σ(o)·tanh(c);
/// logits = h·V + d,
///
/// with c = h = 0 at the start of each window.
///
/// Parameters: `embedding` \[256, embedding\], `input/weight` W \[embedding, 4·hidden\],
/// `input/bias` b \[4·hidden\], `recurrent/weight` U \[hidden, 4·hidden\], `head/weight` V
/// \[hidden, 256\], `head/bias` d \[256\]. The embedding starts as N(0, 1), weights as
/// N(0, 1/in), biases at 0.
///
/// In a family, a width gives `embedding = hidden = width`; the depth must be 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LstmConfig {
    /// Size of a byte's embedding.
    pub embedding: usize,
    /// Hidden units.
    pub hidden: usize,
}

impl Architecture for LstmConfig {
    fn of_size(size: Size) -> crate::Result<Self> {
        match size.without_heads()? {
            (width, 1) => Ok(Self {
                embedding: width,
                hidden: width,
            }),
            (_, depth) => Err(Error::Config(format!(
                "`depth` is {depth}; the LSTM has one layer, so it must be 1"
            ))),
        }
    }

    fn build(&self, input: Input, _classes: usize, _: &Device) -> crate::Result<Box<dyn Model>> {
        at_least_1("embedding", &[self.embedding])?;
        at_least_1("hidden", &[self.hidden])?;
        Ok(Box::new(Lstm {
            vocabulary: input.tokens()?.vocabulary,
            embedding: self.embedding,
            hidden: self.hidden,
        }))
    }
}

struct Lstm {
    vocabulary: usize,
    embedding: usize,
    hidden: usize,
}

impl Model for Lstm {
    fn parameters(&self) -> Vec<Parameter> {
        let (embedding, hidden) = (self.embedding, self.hidden);
        let mut all = vec![
            Parameter::normal("embedding", &[self.vocabulary, embedding], 1.0),
            Parameter::weight("recurrent/weight", &[hidden, 4 * hidden], 1.0),
        ];
        all.extend(dense_parameters("input", embedding, 4 * hidden, 1.0));
        all.extend(dense_parameters("head", hidden, self.vocabulary, 1.0));
        all
    }

    fn logits(&self, params: &Params, input: &Tensor) -> Result<Tensor> {
        let (n, length) = input.dims2()?;
        let hidden = self.hidden;
        // The steps one after the other, so that each is a block of rows.
        let tokens = input.t()?.contiguous()?.flatten_all()?;
        let x = params.get("embedding")?.index_select(&tokens, 0)?;
        let from_input = dense(params, "input", &x)?;
        let recurrent = params.get("recurrent/weight")?;
        let mut h = Tensor::zeros((n, hidden), x.dtype(), x.device())?;
        let mut c = h.clone();
        let mut outputs = vec![];
        for t in 0..length {
            let sums = (from_input.narrow(0, t * n, n)? + h.matmul(recurrent)?)?;
            let gate = |index: usize| sums.narrow(1, index * hidden, hidden);
            let (i, f, o) = (
                sigmoid(&gate(0)?)?,
                sigmoid(&(gate(1)? + 1.0)?)?,
                sigmoid(&gate(2)?)?,
            );
            c = ((f * c)? + (i * gate(3)?.tanh()?)?)?;
            h = (o * c.tanh()?)?;
            outputs.push(h.clone());
        }
        // [batch, length, hidden]
        let h = Tensor::stack(&outputs, 1)?.reshape((n * length, hidden))?;
        dense(params, "head", &h)
    }
}
