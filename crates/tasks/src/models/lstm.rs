use candle_core::Tensor;
use candle_nn::ops::sigmoid;
use lopt_core::{Params, Result};

use super::{
    Model, Parameter,
    ops::{dense, dense_parameters},
};

/// i, f, o = σ(…), g = tanh(…) of x·W + h·U + b; c ← σ(f + 1)·c + i·g; h ← o·tanh c. Both start
/// at 0.
pub struct Lstm {
    vocabulary: usize,
    embedding: usize,
    hidden: usize,
}

impl Lstm {
    pub fn new(vocabulary: usize, embedding: usize, hidden: usize) -> Self {
        Self {
            vocabulary,
            embedding,
            hidden,
        }
    }
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
