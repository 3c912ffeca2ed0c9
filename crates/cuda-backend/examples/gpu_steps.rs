//! Measures the steps on a GPU, and writes a JSON object to the file that the argument names. The
//! most important figures come first; each is written as soon as it is measured.

use std::{
    error::Error,
    path::PathBuf,
    time::{Duration, Instant},
};

use candle_core::{DType, Device, Tensor, Var, backprop::GradStore};
use candle_nn::{
    AdamW, Linear, Module, Optimizer as _, ParamsAdamW, VarBuilder, VarMap, linear,
    loss::cross_entropy,
};
use lopt_adam::Adam;
use lopt_core::{
    DropIn, DropInConfig, LearnedOptimizer, NonFinite, Optimizer, Params, Purpose, Streams, file,
    normal,
};
use lopt_cuda_backend::{Classifier, Pixels};
use lopt_kernels::mlp::{Activation, Layer, Mlp};
use lopt_star::Star;
use serde_json::{Map, Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The steps of a comparison.
const STEPS: u64 = 500;
/// The shapes of a comparison: each rank, and several tiles.
const SHAPES: [&[usize]; 6] = [
    &[],
    &[128],
    &[784, 128],
    &[128, 10],
    &[32, 16, 3, 3],
    &[5, 1, 7],
];

/// Matrices of about 10 and 100 million parameters: the number of them, and their side.
const SIZES: [(usize, usize); 2] = [(10, 1024), (24, 2048)];

/// The layers of a network whose training steps are measured.
const MLP: [usize; 4] = [784, 128, 128, 10];

/// What is measured, and the file.
struct Report {
    values: Map<String, Value>,
    path: PathBuf,
}

impl Report {
    /// Adds the result of a measurement, or why there is none.
    fn add(&mut self, name: &str, measured: Result<Value>) -> Result<()> {
        let value = measured.unwrap_or_else(|error| json!({ "error": error.to_string() }));
        println!("{name}: {value}");
        self.values.insert(name.to_owned(), value);
        let text = serde_json::to_string_pretty(&self.values)?;
        file::write_atomically(&self.path, text.as_bytes())?;
        Ok(())
    }
}

fn main() -> Result<()> {
    let path = std::env::args_os().nth(1);
    let path = path.ok_or("the argument must name the file for the results")?;
    let mut report = Report {
        values: Map::new(),
        path: path.into(),
    };
    let gpu = Device::new_cuda(0)?;
    report.add("the same bits in two runs", same_bits(&gpu))?;
    report.add(
        "star against the CPU",
        against_cpu(&gpu, Star::pretrained()),
    )?;
    report.add("adam against the CPU", against_cpu(&gpu, Adam::new(1e-3)))?;
    for (count, side) in SIZES {
        let size = count * side * side;
        let shapes = vec![vec![side, side]; count];
        for (name, optimizer) in optimizers() {
            let measured = nanoseconds(&gpu, &shapes, DType::F32, optimizer);
            report.add(&format!("{name}, {size} parameters"), measured)?;
        }
        let (name, star) = optimizers()[0];
        let measured = nanoseconds(&gpu, &shapes, DType::BF16, star);
        report.add(&format!("{name}, {size} parameters in bf16"), measured)?;
    }
    for pairs in [8, 64] {
        let measured = inner_steps(&gpu, pairs);
        report.add(
            &format!("inner steps of {pairs} pairs, 784-32-10"),
            measured,
        )?;
    }
    let layers = MLP.windows(2).flat_map(|w| [vec![w[0], w[1]], vec![w[1]]]);
    let shapes: Vec<Vec<usize>> = layers.collect();
    for (name, optimizer) in optimizers() {
        let measured = nanoseconds(&gpu, &shapes, DType::F32, optimizer);
        report.add(&format!("{name}, {MLP:?}"), measured)?;
        let measured = training_step(&gpu, optimizer);
        report.add(&format!("training step with {name}, {MLP:?}"), measured)?;
    }
    Ok(())
}

/// Creates a step of some variables with their gradients.
type Start = fn(&[Var]) -> Result<Step>;
type Step = Box<dyn FnMut(&GradStore) -> candle_core::Result<()>>;

fn optimizers() -> [(&'static str, Start); 5] {
    [
        ("star", |vars| {
            Ok(drop_in(Star::pretrained(), NonFinite::Skip, vars)?.1)
        }),
        ("adam", |vars| {
            Ok(drop_in(Adam::new(1e-3), NonFinite::Skip, vars)?.1)
        }),
        ("candle's adamw", |vars| {
            let mut adam = AdamW::new(vars.to_vec(), ParamsAdamW::default())?;
            Ok(Box::new(move |store| adam.step(store)))
        }),
        ("star, refusing", |vars| {
            Ok(drop_in(Star::pretrained(), NonFinite::Refuse, vars)?.1)
        }),
        ("star of the paper", |vars| {
            Ok(drop_in(lopt_star::paper(), NonFinite::Skip, vars)?.1)
        }),
    ]
}

/// The path of a drop-in, and its step.
fn drop_in<O: Optimizer + 'static>(
    optimizer: O,
    non_finite: NonFinite,
    vars: &[Var],
) -> Result<(&'static str, Step)> {
    let config = DropInConfig {
        non_finite,
        ..DropInConfig::new(optimizer)
    };
    let mut drop_in = DropIn::new(vars.to_vec(), config)?;
    Ok((drop_in.path(), Box::new(move |store| drop_in.step(store))))
}

/// Normal numbers, the same on each device.
fn numbers(dims: &[usize], seed: u64, step: u64, device: &Device) -> Result<Tensor> {
    let mut rng = Streams::new(seed).stream(Purpose::Evaluation, step, 0, 0);
    let count = dims.iter().product();
    let values: Vec<f32> = (0..count).map(|_| 0.1 * normal(&mut rng)).collect();
    Ok(Tensor::from_vec(values, dims, device)?)
}

/// A store with these gradients.
fn store(vars: &[Var], grads: impl IntoIterator<Item = Tensor>) -> Result<GradStore> {
    let mut store = Tensor::zeros((), DType::F32, &Device::Cpu)?.backward()?;
    for (var, g) in vars.iter().zip(grads) {
        store.insert(var, g);
    }
    Ok(store)
}

/// The values after some steps along noise, and the path of the steps.
fn trained(device: &Device, optimizer: impl Optimizer + 'static) -> Result<(String, Vec<f32>)> {
    let shapes = SHAPES.iter().zip(0..);
    let start = shapes.map(|(dims, i)| Ok(Var::from_tensor(&numbers(dims, i, 0, device)?)?));
    let vars: Vec<Var> = start.collect::<Result<_>>()?;
    let (path, mut step) = drop_in(optimizer, NonFinite::Refuse, &vars)?;
    for at in 0..STEPS {
        let grads = SHAPES.iter().zip(100..);
        let grads = grads.map(|(dims, i)| numbers(dims, i, at, device));
        let grads: Vec<Tensor> = grads.collect::<Result<_>>()?;
        step(&store(&vars, grads)?)?;
    }
    let mut values = vec![];
    for var in &vars {
        values.extend(var.flatten_all()?.to_vec1::<f32>()?);
    }
    Ok((path.to_owned(), values))
}

fn same_bits(gpu: &Device) -> Result<Value> {
    let (path, first) = trained(gpu, Star::pretrained())?;
    let (_, second) = trained(gpu, Star::pretrained())?;
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    Ok(json!({ "path": path, "same": bits(first) == bits(second) }))
}

/// The largest difference of a parameter after all steps, over the largest parameter.
fn against_cpu<O: Optimizer + Clone + 'static>(gpu: &Device, optimizer: O) -> Result<Value> {
    let (cpu_path, expected) = trained(&Device::Cpu, optimizer.clone())?;
    let (path, values) = trained(gpu, optimizer)?;
    let largest = expected.iter().fold(0f32, |max, x| max.max(x.abs()));
    let differences = values.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    let worst = differences.fold(0f32, f32::max);
    Ok(json!({ "paths": [cpu_path, path], "steps": STEPS, "difference": worst / largest }))
}

/// The rate of the inner steps of meta-training with antithetic pairs, as its estimators take them:
/// truncations of 50 steps, with new θ for each.
fn inner_steps(gpu: &Device, pairs: usize) -> Result<Value> {
    const IMAGES: usize = 60_000;
    let (steps, batch, sizes) = (50, 128, [784, 32, 10]);
    // In name order a bias comes before its weight.
    let mut end = 0;
    let layers = sizes.windows(2).map(|pair| {
        let (inputs, outputs, bias) = (pair[0], pair[1], end);
        let weight = bias + outputs;
        end = weight + inputs * outputs;
        Layer {
            inputs,
            outputs,
            weight,
            bias,
        }
    });
    let layers: Vec<Layer> = layers.collect();
    let mut named = vec![];
    for (index, layer) in layers.iter().enumerate() {
        let dims = [layer.inputs, layer.outputs];
        let weight = numbers(&dims, index as u64, 0, &Device::Cpu)?;
        named.push((format!("layer{index}/weight"), weight));
        let bias = Tensor::zeros(layer.outputs, DType::F32, &Device::Cpu)?;
        named.push((format!("layer{index}/bias"), bias));
    }
    let template = Params::new(named)?;
    let pixels: Vec<u8> = (0..IMAGES * sizes[0])
        .map(|i| (i * 7 % 251) as u8)
        .collect();
    let labels: Vec<u8> = (0..IMAGES).map(|i| (i % 10) as u8).collect();
    let classifier = Classifier {
        mlp: Mlp::new(layers, Activation::Relu),
        batch,
        template: template.clone(),
        pixels: Pixels::Bytes(&pixels),
        scale: 1.0,
        labels: &labels,
    };
    let star = Star::pretrained();
    let (theta, kernels) = (star.theta().values().to_vec(), star.cuda_kernels()?);
    let networks = 2 * pairs;
    let fleet = lopt_cuda_backend::fleet(gpu, &star, &kernels, &classifier, networks, 2)?;
    let mut fleet = fleet.ok_or("no fleet on this GPU")?;
    for network in 0..networks {
        fleet.start(network, &template)?;
    }
    let rows: Vec<u32> = (0..steps * pairs * batch)
        .map(|i| (i * 31 % IMAGES) as u32)
        .collect();
    let mut truncation = || -> Result<(Duration, f32)> {
        let started = Instant::now();
        for network in 0..networks {
            fleet.set_theta(network, &theta)?;
        }
        fleet.begin(&rows)?;
        for _ in 0..steps {
            fleet.step()?;
        }
        let taken = fleet.results()?;
        Ok((started.elapsed(), taken[taken.len() - 1].loss))
    };
    truncation()?;
    let mut times = vec![];
    let mut last = 0.0;
    for _ in 0..20 {
        let (time, loss) = truncation()?;
        times.push(time);
        last = loss;
    }
    times.sort();
    let median = times[times.len() / 2].as_secs_f64();
    Ok(json!({
        "inner steps per second": (networks * steps) as f64 / median,
        "truncation in µs": median * 1e6,
        "last loss": last,
    }))
}

/// The time of one call of `step`, the least of some rounds.
fn least(gpu: &Device, mut step: impl FnMut() -> Result<()>) -> Result<Duration> {
    let mut round = |steps: u32| -> Result<Duration> {
        gpu.synchronize()?;
        let started = Instant::now();
        for _ in 0..steps {
            step()?;
        }
        gpu.synchronize()?;
        Ok(started.elapsed() / steps)
    };
    round(5)?;
    let mut least = Duration::MAX;
    for _ in 0..5 {
        least = least.min(round(40)?);
    }
    Ok(least)
}

/// The time of a step of training, with the loss and its gradient by candle.
fn training_step(gpu: &Device, start: Start) -> Result<Value> {
    let variables = VarMap::new();
    let builder = VarBuilder::from_varmap(&variables, DType::F32, gpu);
    let sizes = MLP.windows(2).enumerate();
    let layers = sizes.map(|(index, w)| linear(w[0], w[1], builder.pp(index)));
    let layers: Vec<Linear> = layers.collect::<candle_core::Result<_>>()?;
    let x = Tensor::randn(0f32, 1.0, (128, MLP[0]), gpu)?;
    let labels = Tensor::zeros(128, DType::U32, gpu)?;
    let mut step = start(&variables.all_vars())?;
    let least = least(gpu, || {
        let mut activations = x.clone();
        for (index, layer) in layers.iter().enumerate() {
            activations = match index {
                0 => layer.forward(&activations)?,
                _ => layer.forward(&activations.relu()?)?,
            };
        }
        Ok(step(&cross_entropy(&activations, &labels)?.backward()?)?)
    })?;
    Ok(json!({ "step in µs": least.as_secs_f64() * 1e6 }))
}

/// The time of a step of tensors of this type.
fn nanoseconds(gpu: &Device, shapes: &[Vec<usize>], dtype: DType, start: Start) -> Result<Value> {
    let random = |dims: &Vec<usize>| {
        let values = Tensor::randn(0f32, 0.1, dims.as_slice(), gpu)?;
        Ok(values.to_dtype(dtype)?)
    };
    let vars = shapes
        .iter()
        .map(|dims| Ok(Var::from_tensor(&random(dims)?)?));
    let vars: Vec<Var> = vars.collect::<Result<_>>()?;
    let grads: Vec<Tensor> = shapes.iter().map(random).collect::<Result<_>>()?;
    let store = store(&vars, grads)?;
    let mut step = start(&vars)?;
    let least = least(gpu, || Ok(step(&store)?))?;
    let parameters: usize = vars.iter().map(|var| var.elem_count()).sum();
    Ok(json!({
        "step in µs": least.as_secs_f64() * 1e6,
        "ns per parameter": least.as_secs_f64() * 1e9 / parameters as f64,
    }))
}
