//! Candle's MNIST example, an MLP 784 → 100 → 10, trained with STAR.
//!
//! ```text
//! cargo run --release -p lopt-star --example mnist [THETA.safetensors]
//! ```
//!
//! Without a file, the example uses the θ embedded in `lopt-star`.

use anyhow::{Context, Result};
use candle_core::{D, DType, Device, Tensor};
use candle_nn::{Linear, Module, Optimizer, VarBuilder, VarMap, linear, loss, ops};
use lopt_core::{DropInConfig, Theta};
use lopt_datasets::{DatasetName, Source, Split};
use lopt_star::{Star, StarOptimizer};

const BATCH: usize = 64;
const EPOCHS: usize = 5;

struct Mlp(Linear, Linear);

impl Mlp {
    fn new(vs: VarBuilder) -> candle_core::Result<Self> {
        Ok(Self(
            linear(784, 100, vs.pp("ln1"))?,
            linear(100, 10, vs.pp("ln2"))?,
        ))
    }
}

impl Module for Mlp {
    fn forward(&self, xs: &Tensor) -> candle_core::Result<Tensor> {
        self.1.forward(&self.0.forward(xs)?.relu()?)
    }
}

fn main() -> Result<()> {
    let star = match std::env::args().nth(1) {
        Some(path) => Star::new(Theta::load(path.as_ref())?).context(path)?,
        None => Star::default(),
    };
    let data = lopt_datasets::load(DatasetName::Mnist, Source::Embedded, None)?;
    let (x, y) = tensors(&data.train)?;
    let (test_x, test_y) = tensors(&data.test)?;

    let varmap = VarMap::new();
    let model = Mlp::new(VarBuilder::from_varmap(&varmap, DType::F32, &Device::Cpu))?;
    let config = DropInConfig::new(star);
    // With candle's AdamW: let mut optimizer = AdamW::new(varmap.all_vars(), params)?;
    // `Default::default()` is a configuration with the embedded θ.
    let mut optimizer = StarOptimizer::new(varmap.all_vars(), config)?;
    println!("steps by {}", optimizer.path());

    for epoch in 1..=EPOCHS {
        let mut sum = 0.0;
        let batches = x.dim(0)? / BATCH;
        for batch in 0..batches {
            let rows = |t: &Tensor| t.narrow(0, batch * BATCH, BATCH);
            let log_p = ops::log_softmax(&model.forward(&rows(&x)?)?, D::Minus1)?;
            let loss = loss::nll(&log_p, &rows(&y)?)?;
            optimizer.backward_step(&loss)?;
            sum += loss.to_scalar::<f32>()?;
        }
        let right = model.forward(&test_x)?.argmax(D::Minus1)?.eq(&test_y)?;
        let accuracy = right.to_dtype(DType::F32)?.mean_all()?.to_scalar::<f32>()?;
        println!(
            "epoch {epoch}: training loss {:.4}, test accuracy {:.1} %",
            sum / batches as f32,
            100.0 * accuracy
        );
    }
    Ok(())
}

/// Returns pixels \[n, 784\] in \[0, 1\], and labels \[n\].
fn tensors(split: &Split) -> Result<(Tensor, Tensor)> {
    let pixels = Tensor::from_slice(&split.pixels, (split.len(), 784), &Device::Cpu)?;
    let labels = Tensor::from_slice(&split.labels, split.len(), &Device::Cpu)?;
    let pixels = (pixels.to_dtype(DType::F32)? / 255.0)?;
    Ok((pixels, labels.to_dtype(DType::U32)?))
}
