//! Fits a line with the blackbox, like any candle model.
//!
//! ```text
//! cargo run --release -p lopt-blackbox --example blackbox_line THETA.safetensors
//! ```

use anyhow::Context;
use candle_core::{DType, Device, Tensor};
use candle_nn::{Module, Optimizer, VarBuilder, VarMap, linear, loss};
use lopt_blackbox::{Blackbox, BlackboxOptimizer};
use lopt_core::{DropInConfig, Theta};

fn main() -> anyhow::Result<()> {
    // Before meta-training the blackbox does not train anything.
    let path = std::env::args().nth(1);
    let path = path.context("give the path of a θ file written by `cargo xtask meta-train`")?;
    let config = DropInConfig::new(Blackbox::new(Theta::load(path.as_ref())?).context(path)?);
    let device = &Device::Cpu;
    let varmap = VarMap::new();
    let model = linear(1, 1, VarBuilder::from_varmap(&varmap, DType::F32, device))?;
    // With candle's AdamW: let mut optimizer = AdamW::new(varmap.all_vars(), params)?;
    let mut optimizer = BlackboxOptimizer::new(varmap.all_vars(), config)?;

    let x = Tensor::arange(0f32, 10.0, device)?
        .reshape((10, 1))?
        .affine(0.1, 0.0)?;
    let y = x.affine(3.0, -1.0)?;
    for step in 0..=1000 {
        let loss = loss::mse(&model.forward(&x)?, &y)?;
        optimizer.backward_step(&loss)?;
        if step % 200 == 0 {
            println!("step {step}: loss {:.6}", loss.to_scalar::<f32>()?);
        }
    }
    Ok(())
}
