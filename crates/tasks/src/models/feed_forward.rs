use candle_core::{Device, Tensor};
use lopt_core::{Params, Result};
use serde::{Deserialize, Serialize};

use super::{
    Architecture, Input, Model, Parameter, Size,
    ops::{dense, dense_parameters},
};
use crate::{
    Activation,
    error::{at_most_largest, sizes_in_range},
};

/// A plain MLP on images or tables, for losses and data that [`MlpTask`](crate::MlpTask) does not
/// have:
///
/// x ← a(W·x + b) for each hidden layer; outputs = W·x + b.
///
/// Parameters: `layer0/weight` \[in, out\], `layer0/bias` \[out\] and so on. Weights start as
/// N(0, 2/in) (He et al. 2015), those of the last layer as N(0, 1/in), biases at 0.
///
/// In a family, a width and a depth give `hidden = [width; depth]` with ReLU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedForwardConfig {
    /// Widths of the hidden layers; empty for linear regression.
    pub hidden: Vec<usize>,
    /// The nonlinearity.
    pub activation: Activation,
}

impl Architecture for FeedForwardConfig {
    fn of_size(size: Size) -> crate::Result<Self> {
        let (width, depth) = size.without_heads()?;
        at_most_largest("depth", depth)?;
        Ok(Self {
            hidden: vec![width; depth],
            activation: Activation::Relu,
        })
    }

    fn build(&self, input: Input, outputs: usize, _: &Device) -> crate::Result<Box<dyn Model>> {
        sizes_in_range("hidden", &self.hidden)?;
        Ok(Box::new(FeedForward {
            sizes: [&[input.features()?], &*self.hidden, &[outputs]].concat(),
            activation: self.activation,
        }))
    }
}

struct FeedForward {
    /// Inputs, hidden layers, outputs.
    sizes: Vec<usize>,
    activation: Activation,
}

impl FeedForward {
    fn layers(&self) -> usize {
        self.sizes.len() - 1
    }
}

impl Model for FeedForward {
    fn parameters(&self) -> Vec<Parameter> {
        let layer = |(layer, pair): (usize, &[usize])| {
            let last = layer + 1 == self.layers();
            let gain = if last { 1.0 } else { 2.0 };
            dense_parameters(&format!("layer{layer}"), pair[0], pair[1], gain)
        };
        let pairs = self.sizes.windows(2).enumerate();
        pairs.flat_map(layer).collect()
    }

    fn outputs(&self, params: &Params, input: &Tensor) -> Result<Tensor> {
        let mut x = input.clone();
        for layer in 0..self.layers() {
            if layer > 0 {
                x = self.activation.apply(&x)?;
            }
            x = dense(params, &format!("layer{layer}"), &x)?;
        }
        Ok(x)
    }
}
