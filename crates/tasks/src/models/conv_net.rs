use candle_core::{Device, Tensor};
use lopt_core::{Params, Result};

use super::{
    Model, Parameter,
    ops::{Convolution, convolution_parameters, dense, dense_parameters},
};

/// Convolutions and ReLUs, the mean over the image, a dense layer.
pub struct ConvNet {
    side: usize,
    /// Of the image, then of each layer.
    channels: Vec<usize>,
    layers: Vec<Convolution>,
    classes: usize,
}

impl ConvNet {
    pub fn new(
        side: usize,
        channels: usize,
        of_layers: &[usize],
        classes: usize,
        device: &Device,
    ) -> Result<Self> {
        let mut layers: Vec<Convolution> = vec![];
        for _ in of_layers {
            let (from, stride) = match layers.last() {
                None => (side, 1),
                Some(before) => (before.side, 2),
            };
            layers.push(Convolution::new(from, stride, device)?);
        }
        Ok(Self {
            side,
            channels: std::iter::once(channels)
                .chain(of_layers.iter().copied())
                .collect(),
            layers,
            classes,
        })
    }
}

impl Model for ConvNet {
    fn parameters(&self) -> Vec<Parameter> {
        let mut all = vec![];
        for (layer, pair) in self.channels.windows(2).enumerate() {
            all.extend(convolution_parameters(
                &format!("conv{layer}"),
                pair[0],
                pair[1],
            ));
        }
        let last = self.channels[self.channels.len() - 1];
        all.extend(dense_parameters("head", last, self.classes, 1.0));
        all
    }

    fn logits(&self, params: &Params, input: &Tensor) -> Result<Tensor> {
        let n = input.dim(0)?;
        let mut x = input.reshape((n, self.side * self.side, self.channels[0]))?;
        for (layer, convolution) in self.layers.iter().enumerate() {
            x = convolution
                .apply(params, &format!("conv{layer}"), &x)?
                .relu()?;
        }
        dense(params, "head", &x.mean(1)?)
    }
}
