use candle_core::{Device, Tensor};
use lopt_core::{Params, Result};
use serde::{Deserialize, Serialize};

use super::{
    Architecture, Image, Input, Model, Parameter, Size,
    ops::{Convolution, convolution_parameters, dense, dense_parameters},
};
use crate::error::{at_least_1, not_empty};

/// A convolutional network on images:
///
/// x ← relu(conv(x)) for each layer; logits = W·mean(x) + b,
///
/// with 3×3 convolutions, of stride 2 from the second on, and the mean over all pixels.
///
/// Parameters: `conv0/kernel` \[3, 3, in, out\], `conv0/bias` \[out\] and so on, `head/weight`
/// \[channels, classes\], `head/bias` \[classes\]. Kernels start as N(0, 2/(9·in)) (He et al.
/// 2015), the head as N(0, 1/in), biases at 0.
///
/// In a family, a width and a depth give `channels = [width; depth]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvNetConfig {
    /// Output channels of each convolution; at least one.
    pub channels: Vec<usize>,
}

impl Architecture for ConvNetConfig {
    fn of_size(size: Size) -> crate::Result<Self> {
        let (width, depth) = size.without_heads()?;
        at_least_1("depth", &[depth])?;
        Ok(Self {
            channels: vec![width; depth],
        })
    }

    fn build(
        &self,
        input: Input,
        classes: usize,
        device: &Device,
    ) -> crate::Result<Box<dyn Model>> {
        not_empty("channels", &self.channels)?;
        at_least_1("channels", &self.channels)?;
        let net = ConvNet::new(input.image()?, &self.channels, classes, device)?;
        Ok(Box::new(net))
    }
}

struct ConvNet {
    side: usize,
    /// Channels of the image, then of each layer.
    channels: Vec<usize>,
    layers: Vec<Convolution>,
    classes: usize,
}

impl ConvNet {
    fn new(image: Image, of_layers: &[usize], classes: usize, device: &Device) -> Result<Self> {
        let mut layers: Vec<Convolution> = vec![];
        for _ in of_layers {
            let (from, stride) = match layers.last() {
                None => (image.side, 1),
                Some(before) => (before.side, 2),
            };
            layers.push(Convolution::new(from, stride, device)?);
        }
        Ok(Self {
            side: image.side,
            channels: [&[image.channels], of_layers].concat(),
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
