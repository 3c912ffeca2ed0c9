use candle_core::Tensor;
use lopt_core::{Params, Result};

use super::{
    Model, Parameter,
    ops::{dense, dense_parameters, layer_norm, layer_norm_parameters},
};

/// Dense layers, each but the last followed by a normalisation and a ReLU.
pub struct LayerNormMlp {
    /// Inputs, hidden layers, classes.
    sizes: Vec<usize>,
}

impl LayerNormMlp {
    pub fn new(sizes: Vec<usize>) -> Self {
        Self { sizes }
    }

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

    fn logits(&self, params: &Params, input: &Tensor) -> Result<Tensor> {
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
