//! Meta-training with all networks together, as on a GPU, whose kernels run on a stand-in: against
//! the same estimators with each network by itself.

#[path = "../../crates/cuda/tests/step/program.rs"]
mod program;
#[allow(dead_code)]
#[path = "../../crates/cuda-backend/tests/steps/stand_in.rs"]
mod stand_in;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use candle_core::Device;
use lopt_core::{LearnedOptimizer, Optimizer, Workers};
use lopt_cuda_backend::{Classifier, Fleet, Kernels, MlpFleet};
use lopt_datasets::{DatasetName, Source};
use lopt_meta::{
    Alone, Driver, Estimate, Estimator, FullEs, FullEsConfig, GradientEstimator, Horizon, Snapshot,
    TruncatedConfig, TruncatedEs, UnrollLoss,
};
use lopt_star::Star;
use lopt_tasks::{Activation, DataStore, Initializer, MlpConfig, MlpTask};
use stand_in::{Counts, StandIn};

/// Small networks, so that the kernels, which one CPU runs, take little time.
fn task() -> Arc<MlpTask> {
    let config = MlpConfig {
        dataset: DatasetName::FashionMnist,
        source: Source::Embedded,
        image_size: 8,
        hidden: vec![12],
        activation: Activation::Relu,
        initializer: Initializer::He,
        batch_size: 16,
        input_scale: 1.0,
        label_noise: 0.0,
    };
    let mut store = DataStore::default();
    Arc::new(MlpTask::new(config, &mut store, &Device::Cpu).unwrap())
}

fn config(horizon: Horizon) -> TruncatedConfig {
    TruncatedConfig {
        tasks: 3,
        truncation: 10,
        sigma: 0.1,
        horizon,
        sign: None,
    }
}

fn kernels(optimizer: &dyn Optimizer) -> Kernels {
    *optimizer.kernels().unwrap().downcast::<Kernels>().unwrap()
}

fn together<E: Estimator>(estimator: E, star: &Star, device: &StandIn) -> Driver<E> {
    let new = |classifier: &Classifier, networks: usize, sharing: usize| {
        let (device, kernels) = (device.clone(), kernels(star));
        let fleet = MlpFleet::new(device, star, &kernels, classifier, networks, sharing)?;
        Ok(fleet.map(|fleet| Box::new(fleet) as Box<dyn Fleet>))
    };
    Driver::with_fleet(estimator, 5, Arc::new(task()), star, &Alone, &new).unwrap()
}

fn apart<E: Estimator>(estimator: E, star: &Star) -> Driver<E> {
    let (family, workers) = (Arc::new(task()), Workers::ONE);
    Driver::new(estimator, 5, family, workers, star, &Alone).unwrap()
}

/// The largest difference over the largest entry.
fn difference(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let largest = theirs.iter().fold(1e-30f64, |max, x| max.max(x.abs()));
    let pairs = ours.iter().zip(theirs);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / largest
}

/// Differences of losses are small, so their rounding errors are larger than those of losses.
fn check_estimates(ours: &Estimate, theirs: &Estimate) {
    assert_eq!(ours.inner_steps, theirs.inner_steps);
    let of_loss = (ours.meta_loss - theirs.meta_loss).abs() / theirs.meta_loss;
    let of_gradient = difference(&ours.gradient, &theirs.gradient);
    println!("loss {of_loss:e}, gradient {of_gradient:e}");
    assert!(of_loss < 1e-7, "{of_loss:e}");
    assert!(of_gradient < 1e-4, "{of_gradient:e}");
}

/// The networks and optimizers between truncations.
fn check_snapshots(ours: &Snapshot, theirs: &Snapshot) {
    assert_eq!(ours.description, theirs.description);
    for ((name, ours), (other, theirs)) in ours.tensors.iter().zip(&theirs.tensors) {
        assert_eq!((name, ours.dims()), (other, theirs.dims()));
        let values = |tensor: &candle_core::Tensor| {
            let tensor = tensor.to_dtype(candle_core::DType::F64).unwrap();
            tensor.flatten_all().unwrap().to_vec1::<f64>().unwrap()
        };
        let difference = difference(&values(ours), &values(theirs));
        assert!(difference < 1e-5, "{name}: {difference:e}");
    }
}

/// θ of STAR in some outer step.
fn star_at(outer_step: u64) -> Box<dyn LearnedOptimizer> {
    let star = Star::pretrained();
    let theta = star.theta().values().iter();
    let theta = theta.map(|x| x + 1e-3 * outer_step as f32);
    star.with_values(theta.collect()).unwrap()
}

fn next(driver: &mut dyn GradientEstimator, outer_step: u64) -> Estimate {
    let star = star_at(outer_step);
    driver.estimate(&*star, outer_step, &Alone).unwrap()
}

/// The pairs reach their horizons within truncations, at different steps.
#[test]
fn truncated_estimators_are_those_of_separate_networks() {
    let horizon = Horizon::Constant { steps: 14 };
    for estimator in [TruncatedEs::pes, TruncatedEs::es] {
        let (star, device) = (Star::pretrained(), StandIn::new());
        let mut ours = together(estimator(config(horizon)), &star, &device);
        let mut theirs = apart(estimator(config(horizon)), &star);
        assert_eq!(ours.path(), "cuda loss, cuda update, 6 networks together");
        for outer_step in 0..5 {
            let ours = next(&mut ours, outer_step);
            check_estimates(&ours, &next(&mut theirs, outer_step));
        }
        check_snapshots(&ours.snapshot().unwrap(), &theirs.snapshot().unwrap());
    }
}

/// Unrolls of different lengths.
#[test]
fn whole_unrolls_are_those_of_separate_networks() {
    let estimator = || {
        FullEs(FullEsConfig {
            tasks: 3,
            sigma: 0.1,
            horizon: Horizon::LogUniform { min: 5, max: 20 },
            loss: UnrollLoss::Mean,
            clip: None,
            sign: None,
        })
    };
    let (star, device) = (Star::pretrained(), StandIn::new());
    let mut ours = together(estimator(), &star, &device);
    let mut theirs = apart(estimator(), &star);
    for outer_step in 0..3 {
        let ours = next(&mut ours, outer_step);
        check_estimates(&ours, &next(&mut theirs, outer_step));
    }
}

/// A checkpoint continues with the same bits on the device, and on the CPU.
#[test]
fn checkpoints_move_between_devices() {
    let pes = || TruncatedEs::pes(config(Horizon::Constant { steps: 25 }));
    let (star, device) = (Star::pretrained(), StandIn::new());
    let mut ours = together(pes(), &star, &device);
    for outer_step in 0..2 {
        next(&mut ours, outer_step);
    }
    let Snapshot {
        description,
        tensors,
    } = ours.snapshot().unwrap();
    let description = serde_json::Value::Array(description);
    let expected = next(&mut ours, 2);
    let mut resumed = together(pes(), &star, &StandIn::new());
    let mut on_cpu = apart(pes(), &star);
    let drivers: [&mut dyn GradientEstimator; 2] = [&mut resumed, &mut on_cpu];
    for driver in drivers {
        let mut tensors: BTreeMap<_, _> = tensors.iter().cloned().collect();
        let here = Path::new("here");
        driver
            .restore(&description, &mut tensors, &*star_at(1), here)
            .unwrap();
    }
    assert_eq!(next(&mut resumed, 2), expected);
    check_estimates(&next(&mut on_cpu, 2), &expected);
}

/// A truncation uploads minibatches and θ, launches, and reads the losses.
#[test]
fn a_truncation_waits_once() {
    let (star, device) = (Star::pretrained(), StandIn::new());
    let horizon = Horizon::Constant { steps: 1000 };
    let mut driver = together(TruncatedEs::pes(config(horizon)), &star, &device);
    next(&mut driver, 0);
    device.counts();
    next(&mut driver, 1);
    let counts = device.counts();
    let (pairs, networks, steps, batch) = (3, 6, 10, 16);
    let theta = 4 * 251_usize;
    assert_eq!(
        counts,
        Counts {
            // Two layers forwards, the loss, two layers backwards, five of the optimizer.
            launches: counts.launches.clone(),
            writes: vec![
                4 * steps * pairs * batch,
                networks * theta.next_multiple_of(256)
            ],
            reads: vec![8 * steps * networks],
            ..Counts::default()
        }
    );
    assert_eq!(counts.launches.len(), 10 * steps);
}
