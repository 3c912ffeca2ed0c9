use candle_core::{Device, Tensor};
use candle_nn::ops::sigmoid;
use lopt_core::{Params, Result};
use serde::{Deserialize, Serialize};

use super::{
    Architecture, Input, Model, Parameter, Size,
    ops::{dense, dense_parameters, embed_steps},
};
use crate::error::sizes_in_range;

/// An LSTM (Hochreiter and Schmidhuber 1997) of one layer that predicts the next byte of a text.
/// For each byte, with its embedding x:
///
/// \[i, f, o, g\] = x·W + h·U + b; c ← σ(f + 1)·c + σ(i)·tanh(g); h ← σ(o)·tanh(c);
/// logits = h·V + d,
///
/// with c = h = 0 at the start of each window.
///
/// Parameters: `embedding` \[vocabulary, embedding\], `input/weight` W \[embedding, 4·hidden\],
/// `input/bias` b \[4·hidden\], `recurrent/weight` U \[hidden, 4·hidden\], `head/weight` V
/// \[hidden, vocabulary\], `head/bias` d \[vocabulary\]. The embedding starts as N(0, 1), weights as
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
        let width = size.of_one_layer("the LSTM")?;
        Ok(Self {
            embedding: width,
            hidden: width,
        })
    }

    fn build(&self, input: Input, _outputs: usize, _: &Device) -> crate::Result<Box<dyn Model>> {
        sizes_in_range("embedding", &[self.embedding])?;
        sizes_in_range("hidden", &[self.hidden])?;
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

    fn outputs(&self, params: &Params, input: &Tensor) -> Result<Tensor> {
        let from_input = dense(params, "input", &embed_steps(params, input)?)?;
        let recurrent = params.get("recurrent/weight")?;
        let h = unroll(&from_input, recurrent, 1.0, input.dims2()?)?;
        dense(params, "head", &h)
    }
}

/// The outputs h \[rows·length, hidden\] of an LSTM for \[i, f, o, g\] = `from_input` + h·`recurrent`,
/// where `forget` is added to f. `from_input` \[length·rows, 4·hidden\] has the steps one after the
/// other, `size` is (rows, length).
pub(super) fn unroll(
    from_input: &Tensor,
    recurrent: &Tensor,
    forget: f64,
    size: (usize, usize),
) -> Result<Tensor> {
    let (n, length) = size;
    let hidden = recurrent.dim(0)?;
    let mut h = Tensor::zeros((n, hidden), from_input.dtype(), from_input.device())?;
    let mut c = h.clone();
    let mut outputs = vec![];
    for t in 0..length {
        let sums = (from_input.narrow(0, t * n, n)? + h.matmul(recurrent)?)?;
        let gate = |index: usize| sums.narrow(1, index * hidden, hidden);
        let (i, f, o) = (
            sigmoid(&gate(0)?)?,
            sigmoid(&(gate(1)? + forget)?)?,
            sigmoid(&gate(2)?)?,
        );
        c = ((f * c)? + (i * gate(3)?.tanh()?)?)?;
        h = (o * c.tanh()?)?;
        outputs.push(h.clone());
    }
    // [rows, length, hidden]
    Ok(Tensor::stack(&outputs, 1)?.reshape((n * length, hidden))?)
}
