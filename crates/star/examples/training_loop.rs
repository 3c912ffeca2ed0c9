//! What a training loop needs besides the optimizer: clipping, weight decay with groups, a schedule,
//! gradient accumulation, bf16 variables with a loss scale, and a stop and resume halfway.
//!
//! ```text
//! cargo run --release -p lopt-star --example training_loop [star|blackbox|adam]
//! ```
//!
//! The optimizer is chosen at run time. The task is to tell two spirals apart.

use anyhow::{Result, bail};
use candle_core::{D, DType, Device, Tensor};
use candle_nn::{Module, Optimizer as _, VarBuilder, VarMap, linear, loss, ops, seq};
use lopt_adam::Adam;
use lopt_blackbox::Blackbox;
use lopt_core::{Clip, DropIn, DropInConfig, Group, LossScale, Optimizer, Schedule};
use lopt_star::Star;

const STEPS: u64 = 1000;
/// The mean of so many gradients makes a step.
const ACCUMULATE: u64 = 2;
const POINTS: usize = 256;

fn config(optimizer: &str) -> Result<DropInConfig<Box<dyn Optimizer>>> {
    let optimizer: Box<dyn Optimizer> = match optimizer {
        "star" => Box::new(Star::pretrained()),
        "blackbox" => Box::new(Blackbox::pretrained()),
        "adam" => Box::new(Adam::new(1e-2)),
        other => bail!("`{other}` is neither star, blackbox nor adam"),
    };
    Ok(DropInConfig {
        clip: Some(Clip::GlobalNorm(1.0)),
        weight_decay: 1e-4,
        // The first layer takes smaller steps; the biases of the others are not decayed. A parameter
        // belongs to the first group that it is a member of.
        groups: vec![
            Group::new("first", |name, _| name.starts_with("first.")).factor(0.5),
            Group::new("vectors", |_, shape| shape.len() <= 1).weight_decay(0.0),
        ],
        schedule: Schedule::Cosine {
            warm_up: 20,
            steps: STEPS,
            end: 0.1,
        },
        accumulate: ACCUMULATE,
        loss_scale: Some(LossScale::default()),
        ..DropInConfig::new(optimizer)
    })
}

fn main() -> Result<()> {
    let name = std::env::args().nth(1);
    let config = || config(name.as_deref().unwrap_or("star"));
    let varmap = VarMap::new();
    let vb = VarBuilder::from_varmap(&varmap, DType::BF16, &Device::Cpu);
    let model = seq()
        .add(linear(2, 64, vb.pp("first"))?)
        .add_fn(|x| x.tanh())
        .add(linear(64, 64, vb.pp("second"))?)
        .add_fn(|x| x.tanh())
        .add(linear(64, 2, vb.pp("last"))?);
    let mut drop_in = DropIn::from_var_map(&varmap, config()?)?;

    let state = std::env::temp_dir().join(format!("training-loop-{}", std::process::id()));
    for step in 0..STEPS {
        let mut sum = 0.0;
        for part in 0..ACCUMULATE {
            let (x, y) = spirals(step * ACCUMULATE + part)?;
            let log_p = ops::log_softmax(&model.forward(&x)?.to_dtype(DType::F32)?, D::Minus1)?;
            let loss = loss::nll(&log_p, &y)?;
            drop_in.backward_step(&loss)?;
            sum += loss.to_scalar::<f32>()?;
        }
        if step % 200 == 0 || step == STEPS - 1 {
            println!("step {step}: loss {:.4}", sum / ACCUMULATE as f32);
        }
        if step == STEPS / 2 {
            // As after a restart: steps, moments, averages, schedule and loss scale go on. The
            // variables are saved by `VarMap::save`.
            drop_in.save_state(&state)?;
            drop_in = DropIn::from_var_map(&varmap, config()?)?;
            drop_in.load_state(&state)?;
            std::fs::remove_file(&state)?;
        }
    }
    let parameters: usize = varmap.all_vars().iter().map(|v| v.elem_count()).sum();
    println!(
        "{} steps skipped; state: {:.1} bytes per parameter",
        drop_in.skipped_steps()?,
        drop_in.state_bytes()? as f64 / parameters as f64
    );
    Ok(())
}

/// Points \[n, 2\] on two spirals, and which of them they are on. The same for each `index`.
fn spirals(index: u64) -> Result<(Tensor, Tensor)> {
    let point = |i: usize| {
        let at = ((index as usize * POINTS + i) as f64 * 0.618_034).fract() as f32;
        let (class, angle) = (i % 2, 10.0 * at.sqrt());
        let sign = if class == 0 { 0.2 } else { -0.2 };
        (
            vec![sign * angle * angle.cos(), sign * angle * angle.sin()],
            class as u32,
        )
    };
    let (points, classes): (Vec<_>, Vec<u32>) = (0..POINTS).map(point).unzip();
    let x = Tensor::new(points, &Device::Cpu)?.to_dtype(DType::BF16)?;
    Ok((x, Tensor::new(classes, &Device::Cpu)?))
}
