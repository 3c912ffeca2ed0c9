//! Meta-trains STAR on a custom task family, as any crate that depends on lopt can do.
//!
//! ```text
//! cargo run --release -p lopt-meta --example meta_train [DIR]
//! ```

use std::{path::Path, sync::Arc, sync::atomic::AtomicBool};

use candle_core::{DType, Device, Tensor};
use lopt_core::{Params, Result, Rng, log_uniform, normal};
use lopt_meta::{HeldOutScore, Resources, Trainer, TrainerConfig};
use lopt_star::Star;
use lopt_tasks::{Batch, Split, Task, TaskFamily};

/// Linear regression in 8 dimensions, whose inputs have the given scale.
struct Regression(f64);

impl Task for Regression {
    fn init(&self, _: &mut Rng) -> Result<Params> {
        let w = Tensor::zeros((8, 1), DType::F32, &Device::Cpu)?;
        Params::new([("w".to_owned(), w)])
    }

    fn batch(&self, _: Split, rng: &mut Rng) -> Result<Batch> {
        let x: Vec<f32> = (0..32 * 8).map(|_| normal(rng)).collect();
        let x = (Tensor::from_vec(x, (32, 8), &Device::Cpu)? * self.0)?;
        Ok(vec![x.sum_keepdim(1)?, x])
    }

    fn loss(&self, params: &Params, batch: &Batch) -> Result<Tensor> {
        let error = (batch[1].matmul(params.get("w")?)? - &batch[0])?;
        Ok(error.sqr()?.mean_all()?)
    }
}

/// Regressions of any scale from 0.1 to 10.
pub struct Regressions;

impl TaskFamily for Regressions {
    fn sample(&self, rng: &mut Rng) -> Arc<dyn Task> {
        Arc::new(Regression(log_uniform(rng, 0.1, 10.0)))
    }
}

/// Returns the best held-out score and its outer step.
pub fn meta_train(folder: &Path) -> Result<(u64, HeldOutScore), Box<dyn std::error::Error>> {
    let config: TrainerConfig = toml::from_str(include_str!("meta_train.toml"))?;
    let (family, star) = (Arc::new(Regressions), Box::new(Star::untrained()));
    let mut trainer = Trainer::start(family, star, &config, folder, Resources::default())?;
    trainer.run(&AtomicBool::new(false), &mut ())?;
    Ok(trainer.best().ok_or("no held-out score")?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The trainer has threads; candle's own would get in their way.
    lopt_core::one_candle_thread()?;
    let folder = std::env::args().nth(1).unwrap_or("own-task".into());
    let (step, best) = meta_train(Path::new(&folder))?;
    println!("outer step {step}: held-out loss {:.3}", best.mean_loss);
    println!("θ: {folder}/best.safetensors");
    Ok(())
}
