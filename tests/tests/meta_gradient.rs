//! The exact meta-gradient against finite differences, against PES, and in cases where candle's
//! second derivatives are wrong.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use lopt_core::{
    Grads, LearnedOptimizer, Optimizer, Params, Purpose, Result, Rng, StepContext, Streams,
    Workers, normal,
};
use lopt_datasets::{DatasetName, Source};
use lopt_meta::{
    Alone, Driver, GradientEstimator, Horizon, MetaLoss, MetaObjective, TruncatedConfig,
    TruncatedEs, meta_gradient,
};
use lopt_star::Star;
use lopt_tasks::{
    Activation, Batch, DataStore, Initializer, MlpConfig, MlpTask, Split, Task, check_hessian,
};
use lopt_tests::{flat, relative_error};

fn objective(steps: usize, loss: MetaLoss) -> MetaObjective {
    MetaObjective {
        steps,
        loss,
        horizon: None,
    }
}

use crate::{
    contract::{learned, random},
    golden_metagrad::with_second_derivatives,
};

/// ½ Σ h·(w − c)² with one curvature per parameter; the minibatch is the noise of c.
struct Quadratic;

const SIZE: usize = 4;

fn vector(values: [f32; SIZE]) -> Tensor {
    Tensor::from_slice(&values, SIZE, &Device::Cpu).unwrap()
}

impl Task for Quadratic {
    fn init(&self, _: &mut Rng) -> Result<Params> {
        Params::new([("w".to_owned(), vector([1.0, -0.5, 0.3, 2.0]))])
    }

    fn batch(&self, _: Split, rng: &mut Rng) -> Result<Batch> {
        let noise = std::array::from_fn(|_| 0.1 * normal(rng));
        Ok(vec![vector(noise)])
    }

    fn loss(&self, params: &Params, batch: &Batch) -> Result<Tensor> {
        let curvature = vector([1.0, 0.3, 3.0, 0.1]);
        let distance = (params.get("w")? - &batch[0])?;
        Ok(((distance.sqr()? * curvature)?.sum_all()? * 0.5)?)
    }

    fn hessian_vector(&self, _: &Params, _: &Batch, v: &[Tensor]) -> Result<Vec<Tensor>> {
        Ok(vec![(&v[0] * vector([1.0, 0.3, 3.0, 0.1]))?])
    }
}

/// Σ tanh(w)⁴·c: a chain of operations, each applied to the result of the one before.
struct Chain;

impl Task for Chain {
    fn init(&self, _: &mut Rng) -> Result<Params> {
        let w = random(&[3, 2], 1, 0, 0.7).to_dtype(DType::F64)?;
        Params::new([("w".to_owned(), w)])
    }

    fn batch(&self, _: Split, rng: &mut Rng) -> Result<Batch> {
        let c = (0..6).map(|_| f64::from(normal(rng)).abs() + 0.5);
        let c: Vec<f64> = c.collect();
        Ok(vec![Tensor::from_vec(c, (3, 2), &Device::Cpu)?])
    }

    fn loss(&self, params: &Params, batch: &Batch) -> Result<Tensor> {
        let powers = params.get("w")?.tanh()?.sqr()?.sqr()?;
        Ok((powers * &batch[0])?.sum_all()?)
    }
}

fn rng(what: u64) -> Rng {
    Streams::new(5).stream(Purpose::Evaluation, what, 0, 0)
}

/// Where candle detaches gradients, the second derivative of the chain is silently wrong by more
/// than half; ours is an error that says what to do.
#[test]
fn a_wrong_second_derivative_is_never_silent() {
    if std::env::var_os("CANDLE_GRAD_DO_NOT_DETACH").is_some() {
        return;
    }
    let params = Chain.init(&mut rng(0)).unwrap();
    let batch = Chain.batch(Split::Train, &mut rng(1)).unwrap();
    let v = random(&[3, 2], 2, 0, 1.0).to_dtype(DType::F64).unwrap();
    let vars = params.to_vars().unwrap();
    let tracked = params
        .with_tensors(vec![vars[0].as_tensor().clone()])
        .unwrap();
    let store = Chain.loss(&tracked, &batch).unwrap().backward().unwrap();
    let along = (store.get(&vars[0]).unwrap() * &v).unwrap().sum_all();
    let naive = along.unwrap().backward().unwrap();
    let naive = naive.get(&vars[0]).unwrap().clone();
    let difference = difference_of_gradients(&Chain, &params, &batch, &v, 1e-5);
    assert!(relative_error(&naive, &difference) > 0.5);
    let ours = Chain.hessian_vector(&params, &batch, &[v]).unwrap_err();
    let message = ours.to_string();
    assert!(message.contains("second_derivatives()"), "{message}");
    assert!(message.contains("Task::hessian_vector"), "{message}");
}

#[test]
fn second_derivatives_by_candle_are_right_where_it_keeps_its_graph() {
    if with_second_derivatives(
        "meta_gradient::second_derivatives_by_candle_are_right_where_it_keeps_its_graph",
    ) {
        let params = Chain.init(&mut rng(0)).unwrap();
        let batch = Chain.batch(Split::Train, &mut rng(1)).unwrap();
        let v = random(&[3, 2], 2, 0, 1.0).to_dtype(DType::F64).unwrap();
        let difference = difference_of_gradients(&Chain, &params, &batch, &v, 1e-5);
        let ours = Chain.hessian_vector(&params, &batch, &[v]).unwrap();
        let error = relative_error(&ours[0], &difference);
        assert!(error < 1e-8, "{error:e}");
        assert!(check_hessian(&Chain, &params, &batch, &mut rng(3)).unwrap());
    }
}

fn difference_of_gradients(
    task: &dyn Task,
    params: &Params,
    batch: &Batch,
    v: &Tensor,
    step: f64,
) -> Tensor {
    let gradient = |sign: f64| {
        let moved = (&params.tensors()[0] + (v * (sign * step)).unwrap()).unwrap();
        let moved = params.with_tensors(vec![moved]).unwrap();
        let (_, grads) = task.loss_and_grad(&moved, batch).unwrap();
        grads.tensors()[0].clone().unwrap()
    };
    ((gradient(1.0) - gradient(-1.0)).unwrap() / (2.0 * step)).unwrap()
}

/// A task that wrongly reports a Hessian of zero.
struct Flat;

impl Task for Flat {
    fn init(&self, rng: &mut Rng) -> Result<Params> {
        Chain.init(rng)
    }

    fn batch(&self, split: Split, rng: &mut Rng) -> Result<Batch> {
        Chain.batch(split, rng)
    }

    fn loss(&self, params: &Params, batch: &Batch) -> Result<Tensor> {
        Chain.loss(params, batch)
    }

    fn hessian_vector(&self, _: &Params, _: &Batch, v: &[Tensor]) -> Result<Vec<Tensor>> {
        v.iter().map(|v| Ok(v.zeros_like()?)).collect()
    }

    fn name(&self) -> String {
        "flat".to_owned()
    }
}

#[test]
fn a_wrong_hessian_is_reported() {
    let params = Flat.init(&mut rng(0)).unwrap();
    let batch = Flat.batch(Split::Train, &mut rng(1)).unwrap();
    let error = check_hessian(&Flat, &params, &batch, &mut rng(2)).unwrap_err();
    assert!(error.to_string().contains("`flat`"), "{error}");
}

/// With 8,000 ReLUs in a batch, a finite difference occasionally crosses a kink.
#[test]
fn kinks_are_not_taken_for_a_wrong_hessian() {
    let config = MlpConfig {
        dataset: DatasetName::FashionMnist,
        source: Source::Embedded,
        image_size: 8,
        hidden: vec![64],
        activation: Activation::Relu,
        initializer: Initializer::He,
        batch_size: 128,
        input_scale: 1.0,
        label_noise: 0.0,
    };
    let task = MlpTask::new(config, &mut DataStore::default(), &Device::Cpu).unwrap();
    let params = task.init(&mut rng(0)).unwrap();
    for seed in 0..150 {
        let batch = Task::batch(&task, Split::Train, &mut rng(seed)).unwrap();
        assert!(check_hessian(&task, &params, &batch, &mut rng(seed)).unwrap());
    }
}

/// Hessian-vector products of MLPs against differences of candle's gradients, for all activations,
/// in f64.
#[test]
fn hessians_of_mlps() {
    for activation in Activation::ALL {
        let config = MlpConfig {
            dataset: DatasetName::FashionMnist,
            source: Source::Embedded,
            image_size: 4,
            hidden: vec![6, 5],
            activation,
            initializer: Initializer::He,
            batch_size: 32,
            input_scale: 1.0,
            label_noise: 0.0,
        };
        let task = MlpTask::new(config, &mut DataStore::default(), &Device::Cpu).unwrap();
        let params = task.init(&mut rng(0)).unwrap();
        let mut batch = Task::batch(&task, Split::Train, &mut rng(1)).unwrap();
        assert!(check_hessian(&task, &params, &batch, &mut rng(2)).unwrap());
        let f64 = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
        let params = params
            .with_tensors(params.tensors().iter().map(f64).collect())
            .unwrap();
        batch[0] = f64(&batch[0]);
        let shapes = params.shapes().into_iter().enumerate();
        let directions: Vec<Tensor> = shapes
            .map(|(i, shape)| f64(&random(&shape, i as u64, 0, 1.0)))
            .collect();
        let product = task.hessian_vector(&params, &batch, &directions).unwrap();
        let step = 1e-6;
        let gradient = |sign: f64| {
            let pairs = params.tensors().iter().zip(&directions);
            let moved = pairs.map(|(p, v)| (p + (v * (sign * step)).unwrap()).unwrap());
            let moved = params.with_tensors(moved.collect()).unwrap();
            task.loss_and_grad(&moved, &batch).unwrap().1
        };
        let (ahead, behind) = (gradient(1.0), gradient(-1.0));
        let pairs = ahead.tensors().iter().zip(behind.tensors());
        for ((ahead, behind), ours) in pairs.zip(&product) {
            let difference = (ahead.as_ref().unwrap() - behind.as_ref().unwrap()).unwrap();
            let slope = (difference / (2.0 * step)).unwrap();
            let error = relative_error(ours, &slope);
            // Candle rounds the constants in the derivative of GELU.
            assert!(error < 2e-6, "{activation:?}: {error:e}");
        }
    }
}

/// Every optimizer and switch, in f64, along random directions of θ; the unrolls span more than
/// one segment.
#[test]
fn meta_gradients_match_finite_differences() {
    if !with_second_derivatives("meta_gradient::meta_gradients_match_finite_differences") {
        return;
    }
    let params = Chain.init(&mut rng(0)).unwrap();
    let batch = |t: usize| Chain.batch(Split::Train, &mut rng(10 + t as u64)).unwrap();
    let steps = 7;
    for (name, optimizer) in learned() {
        // Biases of 0 would be at kinks.
        let mut noise = rng(1);
        let moved = optimizer.theta().values().iter();
        let moved: Vec<f32> = moved.map(|w| w + 0.02 * normal(&mut noise)).collect();
        let optimizer = optimizer.with_values(moved).unwrap();
        let state = optimizer.init(&params).unwrap();
        for loss in [
            MetaLoss::Mean,
            MetaLoss::Sum,
            MetaLoss::Last,
            MetaLoss::Final,
        ] {
            let ours = meta_gradient(
                &Chain,
                &*optimizer,
                &params,
                &state,
                objective(steps, loss),
                &|t| Ok(batch(t)),
            )
            .unwrap();
            // The meta-loss in f64, with θ perturbed in f64.
            let meta_loss = |theta: &[Tensor]| -> f64 {
                let (mut params, mut state) = (params.clone(), state.clone());
                let mut losses = vec![];
                for t in 0..=steps {
                    let value = Chain.loss(&params, &batch(t)).unwrap();
                    losses.push(value.to_scalar::<f64>().unwrap());
                    let (_, grads) = Chain.loss_and_grad(&params, &batch(t)).unwrap();
                    let grads = Grads::new(grads.tensors().to_vec());
                    let context = StepContext::new(t as u64, 1.0);
                    optimizer
                        .update_with(theta, &context, &mut state, &mut params, &grads)
                        .unwrap();
                }
                let sum: f64 = losses[..steps].iter().sum();
                match loss {
                    MetaLoss::Mean => sum / steps as f64,
                    MetaLoss::Sum => sum,
                    MetaLoss::Last => losses[steps - 1],
                    MetaLoss::Final => losses[steps],
                }
            };
            let theta = optimizer.theta().tensors(DType::F64, &Device::Cpu).unwrap();
            let mut noise = rng(2);
            for _ in 0..3 {
                let direction: Vec<Tensor> = theta
                    .iter()
                    .map(|t| {
                        let values = (0..t.elem_count()).map(|_| f64::from(normal(&mut noise)));
                        let values: Vec<f64> = values.collect();
                        Tensor::from_vec(values, t.shape(), &Device::Cpu).unwrap()
                    })
                    .collect();
                let h = 1e-6;
                let at = |sign: f64| {
                    let pairs = theta.iter().zip(&direction);
                    let moved = pairs.map(|(t, d)| (t + (d * (sign * h)).unwrap()).unwrap());
                    meta_loss(&moved.collect::<Vec<_>>())
                };
                let difference = (at(1.0) - at(-1.0)) / (2.0 * h);
                let flat: Vec<f64> = direction.iter().flat_map(flat).collect();
                let along: f64 = ours.gradient.iter().zip(flat).map(|(g, d)| g * d).sum();
                let error = (along - difference).abs();
                assert!(
                    error <= 1e-5 * difference.abs() + 1e-9,
                    "{name} {loss:?}: {along:e}, not {difference:e}"
                );
            }
        }
    }
}

/// The meta-loss is at most 3.45: a diverged network has no gradient, and a rejected step changes
/// nothing.
#[test]
fn bounded_losses_have_no_gradient() {
    struct Bounded;
    impl Task for Bounded {
        fn init(&self, rng: &mut Rng) -> Result<Params> {
            Quadratic.init(rng)
        }
        fn batch(&self, split: Split, rng: &mut Rng) -> Result<Batch> {
            Quadratic.batch(split, rng)
        }
        fn loss(&self, params: &Params, batch: &Batch) -> Result<Tensor> {
            Quadratic.loss(params, batch)
        }
        fn hessian_vector(&self, p: &Params, b: &Batch, v: &[Tensor]) -> Result<Vec<Tensor>> {
            Quadratic.hessian_vector(p, b, v)
        }
        fn normalize(&self, loss: f32) -> f32 {
            if loss.is_finite() {
                loss.min(1e-3)
            } else {
                1e-3
            }
        }
    }
    let star = Star::untrained();
    let mut params = Bounded.init(&mut rng(0)).unwrap();
    let state = star.init(&params).unwrap();
    let batch = |t: usize| Ok(Quadratic.batch(Split::Train, &mut rng(t as u64)).unwrap());
    let run = |params: &Params| {
        let objective = objective(5, MetaLoss::Mean);
        meta_gradient(&Bounded, &star, params, &state, objective, &batch).unwrap()
    };
    let bounded = run(&params);
    assert!(bounded.gradient.iter().all(|g| *g == 0.0));
    assert_eq!(bounded.losses, [1e-3; 5]);
    params = params
        .with_tensors(vec![vector([1e25, 0.0, 0.0, 0.0])])
        .unwrap();
    let refused = run(&params);
    assert!(refused.gradient.iter().all(|g| *g == 0.0));
    assert_eq!(flat(&refused.params.tensors()[0])[0], f64::from(1e25f32));
    assert_eq!(refused.state.step, 0);
}

/// PES in truncations of 3 steps sums to the exact gradient of the mean loss of 12 steps: over 40
/// independent estimates of 10 pairs each, the mean of every entry is within the expected number
/// of standard errors, and so are all entries together.
#[test]
fn pes_is_unbiased() {
    let (horizon, truncation, runs) = (12u64, 3usize, 40u64);
    let mut rng_theta = Streams::new(1).stream(Purpose::ThetaInit, 0, 0, 0);
    let mut config = lopt_star::Config::default();
    // Large, so that 12 steps move the parameters.
    config.multipliers.nominal_step = 0.02;
    config.multipliers.nominal_exp = 0.3;
    config.multipliers.blackbox_exp = 0.3;
    let star = Star::init(config, 1.0, &mut rng_theta).unwrap();
    let n = star.theta().values().len();
    let family = Arc::new(Arc::new(Quadratic));
    let (mut estimates, mut exact) = (vec![], vec![0.0; n]);
    for seed in 0..runs {
        let config = TruncatedConfig {
            tasks: 10,
            truncation,
            sigma: 0.003,
            horizon: Horizon::Constant { steps: horizon },
            sign: None,
        };
        let (pes, workers) = (TruncatedEs::pes(config), Workers::new(None));
        let driver = Driver::new(pes, seed, family.clone(), workers, &star, &Alone);
        let mut driver = driver.unwrap().with_inner_steps(&[0; 10]);
        let parts = horizon / truncation as u64;
        let mut mean = vec![0.0; n];
        for outer_step in 0..parts {
            let estimate = driver.estimate(&star, outer_step, &Alone).unwrap();
            for (mean, g) in mean.iter_mut().zip(estimate.gradient) {
                *mean += g / parts as f64;
            }
        }
        estimates.push(mean);
        // The same minibatches as those of the first pair.
        let streams = Streams::new(seed);
        let params = Quadratic.init(&mut rng(0)).unwrap();
        let state = star.init(&params).unwrap();
        for pair in 0..10 {
            let batch = |t: usize| {
                let mut rng = streams.stream(Purpose::InnerBatch, pair, 0, t as u64);
                Ok(Quadratic.batch(Split::Train, &mut rng)?)
            };
            let steps = horizon as usize;
            let of_pair = meta_gradient(
                &Quadratic,
                &star,
                &params,
                &state,
                objective(steps, MetaLoss::Mean),
                &batch,
            );
            for (mean, g) in exact.iter_mut().zip(of_pair.unwrap().gradient) {
                *mean += g / (10 * runs) as f64;
            }
        }
    }
    let (mut squares, mut counted) = (0.0, 0);
    for (entry, exact) in exact.iter().enumerate() {
        let values = estimates.iter().map(|estimate| estimate[entry]);
        let mean = values.clone().sum::<f64>() / runs as f64;
        let variance = values.map(|x| (x - mean).powi(2)).sum::<f64>() / (runs - 1) as f64;
        let error = (variance / runs as f64).sqrt();
        let z = (mean - exact) / error;
        assert!(
            z.abs() < 4.5,
            "entry {entry}: {mean:e} ± {error:e}, not {exact:e}"
        );
        squares += z * z;
        counted += 1;
    }
    // χ² / 202 of the 202 entries: 1 ± 0.1 if they were independent, which is not quite so.
    let mean_square = squares / f64::from(counted);
    assert!((0.5..1.5).contains(&mean_square), "{mean_square}");
    // Not explained by chance: the estimate points along the gradient.
    let dot: f64 = (0..n)
        .map(|i| exact[i] * estimates.iter().map(|e| e[i]).sum::<f64>() / runs as f64)
        .sum();
    let norm: f64 = exact.iter().map(|g| g * g).sum();
    assert!((dot / norm - 1.0).abs() < 0.3, "{}", dot / norm);
}
