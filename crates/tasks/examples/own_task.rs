//! Trains an MLP of your own on two interleaved spirals with STAR, which has no learning rate, and
//! draws what it has learned.
//!
//! ```text
//! cargo run --release -p lopt-tasks --example own_task
//! ```

use std::{f32::consts::TAU, sync::Arc};

use candle_core::{D, DType, Device, Tensor};
use candle_nn::loss::cross_entropy;
use lopt_core::{Params, Purpose, Result, Rng, Streams, normal};
use lopt_star::Star;
use lopt_tasks::{Batch, Feed, Network, Split, Task};

/// An MLP with two inputs, the coordinates of a point, and two classes, the spirals.
struct Spirals;

/// Units of each layer, from the inputs to the classes.
const WIDTHS: [usize; 4] = [2, 32, 32, 2];

impl Task for Spirals {
    fn init(&self, rng: &mut Rng) -> Result<Params> {
        let mut params = vec![];
        for (layer, pair) in WIDTHS.windows(2).enumerate() {
            let (inputs, outputs) = (pair[0], pair[1]);
            let scale = (2.0 / inputs as f32).sqrt();
            let weights: Vec<f32> = (0..inputs * outputs).map(|_| scale * normal(rng)).collect();
            let weights = Tensor::from_vec(weights, (inputs, outputs), &Device::Cpu)?;
            let biases = Tensor::zeros(outputs, DType::F32, &Device::Cpu)?;
            params.push((format!("w{layer}"), weights));
            params.push((format!("b{layer}"), biases));
        }
        Params::new(params)
    }

    /// Points \[128, 2\] along 1.5 turns of both spirals, with a little noise, and their spirals
    /// \[128\].
    fn batch(&self, _: Split, rng: &mut Rng) -> Result<Batch> {
        let (mut points, mut spirals) = (vec![], vec![]);
        for index in 0..128u32 {
            let along = index as f32 / 128.0;
            let angle = 1.5 * TAU * along + 0.5 * TAU * (index % 2) as f32;
            points.push(along * angle.cos() + 0.02 * normal(rng));
            points.push(along * angle.sin() + 0.02 * normal(rng));
            spirals.push(index % 2);
        }
        let points = Tensor::from_vec(points, (128, 2), &Device::Cpu)?;
        Ok(vec![points, Tensor::from_vec(spirals, 128, &Device::Cpu)?])
    }

    fn loss(&self, params: &Params, batch: &Batch) -> Result<Tensor> {
        Ok(cross_entropy(&logits(params, &batch[0])?, &batch[1])?)
    }
}

/// The logits \[n, 2\] of points \[n, 2\].
fn logits(params: &Params, points: &Tensor) -> Result<Tensor> {
    let mut x = points.clone();
    for layer in 0..WIDTHS.len() - 1 {
        if layer > 0 {
            x = x.relu()?;
        }
        let weights = params.get(&format!("w{layer}"))?;
        x = x
            .matmul(weights)?
            .broadcast_add(params.get(&format!("b{layer}"))?)?;
    }
    Ok(x)
}

/// Draws the class of each point of the square from −1 to 1.
fn draw(params: &Params) -> Result<()> {
    const COLUMNS: usize = 56;
    const ROWS: usize = 28;
    let at = |index: usize, count: usize| 2.0 * (index as f32 + 0.5) / count as f32 - 1.0;
    let cells = (0..ROWS).flat_map(|row| (0..COLUMNS).map(move |column| (row, column)));
    let points: Vec<f32> = cells
        .flat_map(|(row, column)| [at(column, COLUMNS), -at(row, ROWS)])
        .collect();
    let points = Tensor::from_vec(points, (ROWS * COLUMNS, 2), &Device::Cpu)?;
    let classes = logits(params, &points)?.argmax(D::Minus1)?;
    for row in classes.to_vec1::<u32>()?.chunks(COLUMNS) {
        let symbols = row.iter().map(|&class| if class == 0 { '·' } else { '#' });
        println!("{}", symbols.collect::<String>());
    }
    Ok(())
}

fn main() -> Result<()> {
    let mut rng = Streams::new(0).stream(Purpose::InnerBatch, 0, 0, 0);
    let params = Spirals.init(&mut rng)?;
    let mut network = Network::start(Arc::new(Spirals), params, Arc::new(Star::default()))?;
    let mut feed = Feed::default();
    for step in 0..=1000 {
        network.draw(Split::Train, &mut rng, &mut feed)?;
        let loss = network.step(&mut feed)?.loss;
        if step % 200 == 0 {
            println!("step {step}: loss {loss:.4}");
        }
    }
    draw(&network.params()?)
}
