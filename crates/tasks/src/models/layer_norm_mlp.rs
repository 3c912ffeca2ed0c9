use candle_core::{Device, Tensor};
use lopt_core::{Params, Result};
use serde::{Deserialize, Serialize};

use super::{
    Architecture, Input, Model, Parameter, Size,
    ops::{dense, dense_parameters, layer_norm, layer_norm_parameters},
};
use crate::error::{at_most_largest, sizes_in_range};

/// An MLP with layer normalization (Ba et al. 2016, arXiv 1607.06450) on images or tables:
///
/// x ← relu(norm(W·x + b)) for each hidden layer; logits = W·x + b.
///
/// Parameters: `layer0/weight` \[in, out\], `layer0/bias` \[out\], `norm0/gain`, `norm0/bias`
/// \[out\] and so on; the last layer has no norm. Weights start as N(0, 2/in) (He et al. 2015),
/// gains at 1, biases at 0.
///
/// In a family, a width and a depth give `hidden = [width; depth]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerNormMlpConfig {
    /// Widths of the hidden layers; empty for logistic regression.
    pub hidden: Vec<usize>,
}

impl Architecture for LayerNormMlpConfig {
    fn of_size(size: Size) -> crate::Result<Self> {
        let (width, depth) = size.without_heads()?;
        at_most_largest("depth", depth)?;
        Ok(Self {
            hidden: vec![width; depth],
        })
    }

    fn build(&self, input: Input, outputs: usize, _: &Device) -> crate::Result<Box<dyn Model>> {
        sizes_in_range("hidden", &self.hidden)?;
        let sizes = [&[input.features()?], &*self.hidden, &[outputs]].concat();
        Ok(Box::new(LayerNormMlp { sizes }))
    }
}

struct LayerNormMlp {
    /// Inputs, hidden layers, outputs.
    sizes: Vec<usize>,
}

impl LayerNormMlp {
    fn layers(&self) -> usize {
        self.sizes.len() - 1
    }
}

impl Model for LayerNormMlp {
    fn parameters(&self) -> Vec<Parameter> {
        let mut all = vec![];
        for (layer, pair) in self.sizes.windows(2).enumerate() {
            all.extend(dense_parameters(
                &format!("layer{layer}"),
                pair[0],
                pair[1],
                2.0,
            ));
            if layer + 1 < self.layers() {
                all.extend(layer_norm_parameters(&format!("norm{layer}"), pair[1]));
            }
        }
        all
    }

    fn outputs(&self, params: &Params, input: &Tensor) -> Result<Tensor> {
        let mut x = input.clone();
        for layer in 0..self.layers() {
            x = dense(params, &format!("layer{layer}"), &x)?;
            if layer + 1 < self.layers() {
                x = layer_norm(params, &format!("norm{layer}"), &x)?.relu()?;
            }
        }
        Ok(x)
    }
}
