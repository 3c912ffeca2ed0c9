use candle_core::{Device, Tensor};
use lopt_core::{Params, Result};

use super::{
    Model, Parameter,
    ops::{
        Convolution, convolution_parameters, dense, dense_parameters, layer_norm,
        layer_norm_parameters,
    },
};

/// Stages of a residual block each.
pub struct ResNet {
    side: usize,
    /// Of the image, then of each stage.
    channels: Vec<usize>,
    stages: Vec<Stage>,
    classes: usize,
}

struct Stage {
    /// From the stage before, or from the image.
    enter: Convolution,
    within: Convolution,
}

impl ResNet {
    pub fn new(
        side: usize,
        channels: usize,
        of_stages: &[usize],
        classes: usize,
        device: &Device,
    ) -> Result<Self> {
        let mut stages: Vec<Stage> = vec![];
        for _ in of_stages {
            let enter = match stages.last() {
                None => Convolution::new(side, 1, device)?,
                Some(before) => Convolution::new(before.within.side, 2, device)?,
            };
            let within = Convolution::new(enter.side, 1, device)?;
            stages.push(Stage { enter, within });
        }
        Ok(Self {
            side,
            channels: std::iter::once(channels)
                .chain(of_stages.iter().copied())
                .collect(),
            stages,
            classes,
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
                before,
                channels,
            ));
            for half in ["a", "b"] {
                let name = format!("stage{stage}/{half}");
                all.extend(layer_norm_parameters(&format!("{name}/norm"), channels));
                all.extend(convolution_parameters(&name, channels, channels));
            }
        }
        let last = self.channels[self.channels.len() - 1];
        all.extend(layer_norm_parameters("norm", last));
        all.extend(dense_parameters("head", last, self.classes, 1.0));
        all
    }

    fn logits(&self, params: &Params, input: &Tensor) -> Result<Tensor> {
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
