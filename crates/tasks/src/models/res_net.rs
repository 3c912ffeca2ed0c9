use candle_core::{Device, Tensor};
use lopt_core::{Params, Result};
use serde::{Deserialize, Serialize};

use super::{
    Architecture, Image, Input, Model, Parameter, Size,
    ops::{
        Convolution, convolution_parameters, dense, dense_parameters, layer_norm,
        layer_norm_parameters,
    },
};
use crate::error::{not_empty, sizes_in_range};

/// A residual network with pre-activation (He et al. 2016, arXiv 1603.05027) on images. For each
/// stage:
///
/// x ← conv(x); x ← x + conv(relu(norm(conv(relu(norm(x)))))),
///
/// and at the end logits = W·mean(relu(norm(x))) + b. Convolutions are 3×3; the first of each stage
/// but stage 0 has stride 2. Layer normalization over the channels of each pixel takes the place of
/// batch normalization, because it has no state.
///
/// Parameters: `stage0/enter/kernel`, `stage0/a/kernel`, `stage0/b/kernel` \[3, 3, in, out\] with
/// their `bias` \[out\], `stage0/a/norm/gain`, `stage0/a/norm/bias` \[channels\] and so on,
/// `norm/gain`, `norm/bias`, `head/weight` \[channels, outputs\], `head/bias` \[outputs\].
/// Kernels start as N(0, 2/(9·in)) (He et al. 2015), the head as N(0, 1/in), gains at 1, biases
/// at 0.
///
/// In a family, a width and a depth give `channels = [width; depth]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// Channels of each stage; at least one.
    pub channels: Vec<usize>,
}

impl Architecture for ResNetConfig {
    fn of_size(size: Size) -> crate::Result<Self> {
        let (width, depth) = size.without_heads()?;
        sizes_in_range("depth", &[depth])?;
        Ok(Self {
            channels: vec![width; depth],
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
        let net = ResNet::new(input.image()?, &self.channels, outputs, device)?;
        Ok(Box::new(net))
    }
}

struct ResNet {
    side: usize,
    /// Channels of the image, then of each stage.
    channels: Vec<usize>,
    stages: Vec<Stage>,
    outputs: usize,
}

struct Stage {
    /// From the previous stage or the image.
    enter: Convolution,
    within: Convolution,
}

impl ResNet {
    fn new(image: Image, of_stages: &[usize], outputs: usize, device: &Device) -> Result<Self> {
        let mut stages: Vec<Stage> = vec![];
        for _ in of_stages {
            let enter = match stages.last() {
                None => Convolution::new(image.side, 1, device)?,
                Some(before) => Convolution::new(before.within.side, 2, device)?,
            };
            let within = Convolution::new(enter.side, 1, device)?;
            stages.push(Stage { enter, within });
        }
        Ok(Self {
            side: image.side,
            channels: [&[image.channels], of_stages].concat(),
            stages,
            outputs,
        })
    }
}

impl Model for ResNet {
    fn parameters(&self) -> Vec<Parameter> {
        let mut all = vec![];
        for (stage, pair) in self.channels.windows(2).enumerate() {
            let (before, channels) = (pair[0], pair[1]);
            all.extend(convolution_parameters(
                &format!("stage{stage}/enter"),
                3,
                before,
                channels,
            ));
            for half in ["a", "b"] {
                let name = format!("stage{stage}/{half}");
                all.extend(layer_norm_parameters(&format!("{name}/norm"), channels));
                all.extend(convolution_parameters(&name, 3, channels, channels));
            }
        }
        let last = self.channels[self.channels.len() - 1];
        all.extend(layer_norm_parameters("norm", last));
        all.extend(dense_parameters("head", last, self.outputs, 1.0));
        all
    }

    fn outputs(&self, params: &Params, input: &Tensor) -> Result<Tensor> {
        let n = input.dim(0)?;
        let mut x = input.reshape((n, self.side * self.side, self.channels[0]))?;
        for (stage, Stage { enter, within }) in self.stages.iter().enumerate() {
            x = enter.apply(params, &format!("stage{stage}/enter"), &x)?;
            let mut branch = x.clone();
            for half in ["a", "b"] {
                let name = format!("stage{stage}/{half}");
                branch = layer_norm(params, &format!("{name}/norm"), &branch)?.relu()?;
                branch = within.apply(params, &name, &branch)?;
            }
            x = (x + branch)?;
        }
        let x = layer_norm(params, "norm", &x)?.relu()?;
        dense(params, "head", &x.mean(1)?)
    }
}
