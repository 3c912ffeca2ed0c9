use candle_core::{Device, Tensor};
use lopt_core::{Params, Result};
use serde::{Deserialize, Serialize};

use super::{
    Architecture, Image, Input, Model, Parameter, Size,
    ops::{Convolution, convolution_parameters, dense, dense_parameters},
};
use crate::{
    Error,
    error::{not_empty, sizes_in_range},
};

/// A convolutional network on images:
///
/// x ← relu(conv(x)) for each layer; logits = W·mean(x) + b,
///
/// with filters of 3×3 pixels by default, of stride 2 from the second on, and the mean over all
/// pixels.
///
/// Parameters: `conv0/kernel` \[filter, filter, in, out\], `conv0/bias` \[out\] and so on, `head/weight`
/// \[channels, outputs\], `head/bias` \[outputs\]. Kernels start as N(0, 2/(filter²·in))
/// (He et al. 2015), the head as N(0, 1/in), biases at 0.
///
/// In a family, a width and a depth give `channels = [width; depth]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvNetConfig {
    /// Output channels of each convolution; at least one.
    pub channels: Vec<usize>,
    /// Side of the filters in pixels; 3 by default.
    #[serde(default = "three", skip_serializing_if = "is_three")]
    pub filter: usize,
    /// Whether images are padded; [`Padding::Same`] by default.
    #[serde(default, skip_serializing_if = "Padding::is_same")]
    pub padding: Padding,
}

/// What a convolution does at the border of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Padding {
    /// Zeros around the image, so that a convolution of stride 1 keeps its size.
    #[default]
    Same,
    /// No padding: filters stay within the image.
    Valid,
}

impl Padding {
    fn is_same(&self) -> bool {
        *self == Self::Same
    }
}

fn three() -> usize {
    3
}

fn is_three(filter: &usize) -> bool {
    *filter == 3
}

impl Architecture for ConvNetConfig {
    fn of_size(size: Size) -> crate::Result<Self> {
        let (width, depth) = size.without_heads()?;
        sizes_in_range("depth", &[depth])?;
        Ok(Self {
            channels: vec![width; depth],
            filter: three(),
            padding: Padding::Same,
        })
    }

    fn build(
        &self,
        input: Input,
        outputs: usize,
        device: &Device,
    ) -> crate::Result<Box<dyn Model>> {
        not_empty("channels", &self.channels)?;
        sizes_in_range("channels", &self.channels)?;
        sizes_in_range("filter", &[self.filter])?;
        let net = ConvNet::new(input.image()?, self, outputs, device)?;
        Ok(Box::new(net))
    }
}

struct ConvNet {
    side: usize,
    filter: usize,
    /// Channels of the image, then of each layer.
    channels: Vec<usize>,
    layers: Vec<Convolution>,
    outputs: usize,
}

impl ConvNet {
    fn new(
        image: Image,
        config: &ConvNetConfig,
        outputs: usize,
        device: &Device,
    ) -> crate::Result<Self> {
        let &ConvNetConfig {
            ref channels,
            filter,
            padding,
        } = config;
        let mut layers: Vec<Convolution> = vec![];
        for layer in 0..channels.len() {
            let (from, stride) = match layers.last() {
                None => (image.side, 1),
                Some(before) => (before.side, 2),
            };
            layers.push(match padding {
                Padding::Same => Convolution::padded(from, filter, stride, device)?,
                Padding::Valid if from < filter => {
                    return Err(Error::Config(format!(
                        "`filter` is {filter}, but the images of layer {layer} have {from}×{from} \
                         pixels"
                    )));
                }
                Padding::Valid => Convolution::valid(from, filter, stride, device)?,
            });
        }
        Ok(Self {
            side: image.side,
            filter,
            channels: [&[image.channels], &**channels].concat(),
            layers,
            outputs,
        })
    }
}

impl Model for ConvNet {
    fn parameters(&self) -> Vec<Parameter> {
        let mut all = vec![];
        for (layer, pair) in self.channels.windows(2).enumerate() {
            all.extend(convolution_parameters(
                &format!("conv{layer}"),
                self.filter,
                pair[0],
                pair[1],
            ));
        }
        let last = self.channels[self.channels.len() - 1];
        all.extend(dense_parameters("head", last, self.outputs, 1.0));
        all
    }

    fn outputs(&self, params: &Params, input: &Tensor) -> Result<Tensor> {
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
