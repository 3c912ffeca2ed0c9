//! Trains a custom task with STAR.
//!
//! ```text
//! cargo run --release -p lopt-tasks --example own_task
//! ```

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use lopt_core::{Params, Purpose, Result, Rng, Streams, normal};
use lopt_star::Star;
use lopt_tasks::{Batch, Feed, Network, Split, Task};

/// Fits w to noisy samples of the line 3x.
struct Line;

impl Task for Line {
    fn init(&self, _: &mut Rng) -> Result<Params> {
        let w = Tensor::zeros((1, 1), DType::F32, &Device::Cpu)?;
        Params::new([("w".to_owned(), w)])
    }

    fn batch(&self, _: Split, rng: &mut Rng) -> Result<Batch> {
        let x: Vec<f32> = (0..64).map(|_| normal(rng)).collect();
        let y: Vec<f32> = x.iter().map(|x| 3.0 * x + 0.1 * normal(rng)).collect();
        let column = |values| Tensor::from_vec(values, (64, 1), &Device::Cpu);
        Ok(vec![column(x)?, column(y)?])
    }

    fn loss(&self, params: &Params, batch: &Batch) -> Result<Tensor> {
        let predicted = batch[0].matmul(params.get("w")?)?;
        Ok((predicted - &batch[1])?.sqr()?.mean_all()?)
    }
}

fn main() -> Result<()> {
    let mut rng = Streams::new(0).stream(Purpose::InnerBatch, 0, 0, 0);
    let params = Line.init(&mut rng)?;
    let mut network = Network::start(Arc::new(Line), params, Arc::new(Star::default()))?;
    let mut feed = Feed::default();
    println!("{}", network.path());
    for step in 0..=4000 {
        network.draw(Split::Train, &mut rng, &mut feed)?;
        let loss = network.step(&mut feed)?.loss;
        if step % 500 == 0 {
            println!("step {step}: loss {loss:.4}");
        }
    }
    Ok(())
}
