//! Fits a line with Adam, like any candle model.
//!
//! ```text
//! cargo run --release -p lopt-adam --example adam_line
//! ```

use candle_core::{DType, Device, Tensor};
use candle_nn::{Module, Optimizer, VarBuilder, VarMap, linear, loss};
use lopt_adam::{Adam, AdamOptimizer};
use lopt_core::DropInConfig;

fn main() -> anyhow::Result<()> {
    let config = DropInConfig::new(Adam::new(1e-2));
    let device = &Device::Cpu;
    let varmap = VarMap::new();
    let model = linear(1, 1, VarBuilder::from_varmap(&varmap, DType::F32, device))?;
    // With candle's AdamW: let mut optimizer = AdamW::new(varmap.all_vars(), params)?;
    let mut optimizer = AdamOptimizer::new(varmap.all_vars(), config)?;

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
