//! Linearized training steps against finite differences of the steps.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use lopt_blackbox::Blackbox;
use lopt_core::{LearnedOptimizer, Params, Purpose, Rng, State, Streams};
use lopt_datasets::{DatasetName, Source};
use lopt_stability::{
    Effort, eigenvalues, leading_eigenvalues,
    training::{Jacobian, Study},
};
use lopt_star::Star;
use lopt_tasks::{
    Activation, Batch, DataStore, Feed, Initializer, MlpConfig, MlpTask, Network, Split, Task,
};
use nalgebra::{DMatrix, DVector};

/// A network of 64 parameters, without kinks.
fn tiny() -> Arc<dyn Task> {
    let config = MlpConfig {
        dataset: DatasetName::FashionMnist,
        source: Source::Embedded,
        image_size: 4,
        hidden: vec![2],
        activation: Activation::Tanh,
        initializer: Initializer::He,
        batch_size: 16,
        input_scale: 1.0,
        label_noise: 0.0,
    };
    Arc::new(MlpTask::new(config, &mut DataStore::default(), &Device::Cpu).unwrap())
}

/// An untrained STAR with a blackbox term, and an untrained blackbox.
fn subjects() -> [(&'static str, Arc<dyn LearnedOptimizer>); 2] {
    let star = Star::init(Default::default(), 1.0, &mut rng(5)).unwrap();
    [
        ("star", Arc::new(star)),
        ("blackbox", Arc::new(Blackbox::untrained())),
    ]
}

fn rng(seed: u64) -> Rng {
    Streams::new(seed).stream(Purpose::Stability, 0, 0, 0)
}

/// Parameters, state and the next minibatch after `steps` steps of training.
fn trained(
    task: &Arc<dyn Task>,
    optimizer: &Arc<dyn LearnedOptimizer>,
    steps: u64,
) -> (Params, State, Batch) {
    let params = task.init(&mut rng(0)).unwrap();
    let mut network = Network::start(task.clone(), params, optimizer.clone()).unwrap();
    let mut feed = Feed::default();
    for t in 0..steps {
        network.draw(Split::Train, &mut rng(t), &mut feed).unwrap();
        network.step(&mut feed).unwrap();
    }
    let batch = task.batch(Split::Train, &mut rng(steps)).unwrap();
    (network.params().unwrap(), network.state().unwrap(), batch)
}

fn values(t: &Tensor) -> Vec<f64> {
    let t = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    t.to_vec1().unwrap()
}

fn pack(params: &Params, state: &State) -> Vec<f64> {
    let slots = state.all_slots().map(|slot| &slot.value);
    params
        .tensors()
        .iter()
        .chain(slots)
        .flat_map(values)
        .collect()
}

/// The step in f64, as a map of parameters and slots.
fn step(
    task: &dyn Task,
    optimizer: &dyn LearnedOptimizer,
    like: (&Params, &State),
    batch: &Batch,
    at: &[f64],
) -> Vec<f64> {
    let mut rest = at;
    let mut next = |t: &Tensor| {
        let (values, after) = rest.split_at(t.elem_count());
        rest = after;
        Tensor::from_slice(values, t.shape(), &Device::Cpu).unwrap()
    };
    let tensors = like.0.tensors().iter().map(&mut next).collect();
    let mut params = like.0.with_tensors(tensors).unwrap();
    let mut state = like.1.clone();
    for slot in state.all_slots_mut() {
        slot.value = next(&slot.value);
    }
    let batch: Batch = batch
        .iter()
        .map(|t| match t.dtype().is_float() {
            true => t.to_dtype(DType::F64).unwrap(),
            false => t.clone(),
        })
        .collect();
    let (_, grads) = task.loss_and_grad(&params, &batch).unwrap();
    optimizer.step(&mut state, &mut params, &grads).unwrap();
    pack(&params, &state)
}

/// The dense Jacobian by central differences, scaled by `units`.
fn dense(
    task: &dyn Task,
    optimizer: &dyn LearnedOptimizer,
    like: (&Params, &State),
    batch: &Batch,
    units: &DVector<f64>,
) -> DMatrix<f64> {
    const STEP: f64 = 1e-5;
    let at = pack(like.0, like.1);
    let mut jacobian = DMatrix::zeros(at.len(), at.len());
    for j in 0..at.len() {
        let moved = |sign: f64| {
            let mut at = at.clone();
            at[j] += sign * STEP * units[j];
            DVector::from_vec(step(task, optimizer, like, batch, &at))
        };
        let slope = (moved(1.0) - moved(-1.0)) / (2.0 * STEP);
        jacobian.set_column(j, &slope.component_div(units));
    }
    jacobian
}

#[test]
fn products_and_eigenvalues_match_the_dense_jacobian() {
    let task = tiny();
    for (name, subject) in subjects() {
        let (params, state, batch) = trained(&task, &subject, 20);
        let optimizer = &*subject;
        let jacobian = Jacobian::new(&*task, optimizer, &params, &state, &batch).unwrap();
        let like = (&params, &state);
        let dense = dense(&*task, optimizer, like, &batch, jacobian.units());
        assert_eq!(jacobian.dimension(), dense.nrows());
        let start = DVector::from_fn(dense.nrows(), |i, _| ((i * 7919 + 13) % 101) as f64 - 50.0);
        let (ours, expected) = (
            jacobian.transposed_product(&start).unwrap(),
            dense.tr_mul(&start),
        );
        let error = (&ours - &expected).norm() / expected.norm();
        assert!(error < 1e-5, "{name}: products are off by {error}");
        let expected = eigenvalues(&dense).unwrap()[0].norm();
        let effort = Effort {
            products: 200,
            tolerance: 1e-6,
        };
        let found = leading_eigenvalues(start, effort, |x| jacobian.transposed_product(x)).unwrap();
        let error = (found.radius() - expected).abs() / expected;
        assert!(
            error < 1e-4,
            "{name}: {} after {} products (residual {}), dense {expected}",
            found.radius(),
            found.products,
            found.residual
        );
    }
}

#[test]
fn a_study_linearises_the_steps_of_a_run() {
    let task = tiny();
    let study = Study {
        seed: 3,
        steps: vec![1, 5, 12],
        effort: Effort {
            products: 30,
            tolerance: 1e-4,
        },
    };
    for (name, subject) in subjects() {
        let mut seen = vec![];
        let points = study
            .run(&task, &subject, &mut |point| {
                seen.push(point.step);
                true
            })
            .unwrap();
        assert_eq!(seen, [1, 5, 12]);
        for point in &points {
            assert!(point.loss.is_finite() && point.update_norm > 0.0);
            assert!(point.leading.radius() > 0.9, "{name}: {point:?}");
            match name {
                "star" => assert!(point.nominal_share > 0.01 && point.nominal_share < 0.99),
                _ => assert_eq!(point.nominal_share, 0.0),
            }
        }
        let again = study.run(&task, &subject, &mut |_| true).unwrap();
        let of =
            |p: &lopt_stability::training::Point| (p.step, p.loss.to_bits(), p.leading.radius());
        assert!(points.iter().map(of).eq(again.iter().map(of)));
        let first = study.run(&task, &subject, &mut |_| false).unwrap();
        assert_eq!(first.len(), 1);
    }
    let backwards = Study {
        steps: vec![5, 5],
        ..study
    };
    let [(_, subject), _] = subjects();
    let error = backwards.run(&task, &subject, &mut |_| true).unwrap_err();
    assert!(error.to_string().contains("ascend"), "{error}");
}

/// Without a blackbox term, the nominal share of STAR is 1.
#[test]
fn a_nominal_term_alone_has_share_1() {
    let task = tiny();
    let [(_, star), _] = subjects();
    let nominal = star.nominal_only().unwrap().unwrap().into();
    let study = Study {
        seed: 0,
        steps: vec![2],
        effort: Effort {
            products: 1,
            tolerance: 1.0,
        },
    };
    let points = study.run(&task, &nominal, &mut |_| true).unwrap();
    assert_eq!(points[0].nominal_share, 1.0);
}
