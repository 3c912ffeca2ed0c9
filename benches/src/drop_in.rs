//! Candle's MNIST example, a 784-128-128-10 MLP, trained with candle's optimizers or ours.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::{Linear, Module, Optimizer, VarBuilder, VarMap, linear, loss, ops};
use lopt_core::{Purpose, Streams, normal};

const SIZES: [usize; 4] = [784, 128, 128, 10];
/// Batch size of candle's example.
const BATCH: usize = 64;

/// The network, a fixed minibatch and an optimizer.
pub struct Training<O> {
    layers: Vec<Linear>,
    x: Tensor,
    y: Tensor,
    optimizer: O,
}

impl<O: Optimizer> Training<O> {
    /// Draws random parameters and images.
    ///
    /// # Errors
    /// Returns an error if a tensor operation fails.
    pub fn new(config: O::Config) -> Result<Self> {
        let var_map = VarMap::new();
        let vs = VarBuilder::from_varmap(&var_map, DType::F32, &Device::Cpu);
        let layer = |(index, pair): (usize, &[usize])| linear(pair[0], pair[1], vs.pp(index));
        let layers = SIZES.windows(2).enumerate().map(layer);
        let mut rng = Streams::new(0).stream(Purpose::Evaluation, 0, 0, 0);
        let pixels: Vec<f32> = (0..BATCH * SIZES[0]).map(|_| normal(&mut rng)).collect();
        let labels: Vec<u32> = (0..BATCH as u32).map(|i| i % 10).collect();
        Ok(Self {
            layers: layers.collect::<Result<_>>()?,
            x: Tensor::from_vec(pixels, (BATCH, SIZES[0]), &Device::Cpu)?,
            y: Tensor::from_vec(labels, BATCH, &Device::Cpu)?,
            optimizer: O::new(var_map.all_vars(), config)?,
        })
    }

    /// The optimizer.
    pub fn optimizer(&self) -> &O {
        &self.optimizer
    }

    /// Forward pass, backward pass and update.
    ///
    /// # Errors
    /// Returns an error if a tensor operation fails.
    pub fn step(&mut self) -> Result<()> {
        let mut x = self.x.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                x = x.relu()?;
            }
            x = layer.forward(&x)?;
        }
        let loss = loss::nll(&ops::log_softmax(&x, D::Minus1)?, &self.y)?;
        self.optimizer.backward_step(&loss)
    }
}
