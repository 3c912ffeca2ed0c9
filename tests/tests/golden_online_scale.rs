//! The online scale around Adam against `optax.contrib.mechanize`.

use candle_core::{DType, Tensor};
use lopt_adam::Adam;
use lopt_core::{Backend, CandleOps, Chosen, Grads, Optimizer, Params, StepContext};
use lopt_online_scale::OnlineScale;
use lopt_tests::{Golden, params, relative_error};

fn adam(golden: &Golden, tensor_weight: f64) -> Adam {
    let config = golden.metadata("config");
    let number = |key: &str| config[key].as_f64().unwrap();
    Adam {
        learning_rate: number("lr"),
        beta1: number("b1"),
        beta2: number("b2"),
        epsilon: number("eps"),
        online_scale: Some(OnlineScale {
            initial: number("initial"),
            learners: number("learners") as usize,
            tensor_weight,
            // Slopes of any size, as in optax.
            slope_limit: 1e30,
            gradient_rms: None,
        }),
    }
}

/// The runs and their numbers of steps.
const RUNS: [(&str, u64); 2] = [("main", 12), ("quadratic", 40)];

/// The steps after which the golden file has the parameters and the state.
const KEPT: [u64; 5] = [1, 2, 3, 12, 40];

fn compare(
    (run, steps): (&str, u64),
    dtype: DType,
    backend: &mut dyn Backend,
    adam: &Adam,
    tolerance: f64,
) {
    let golden = Golden::open("online_scale");
    let tensors = adam.online_scale.as_ref().unwrap().tensor_weight == 1.0;
    let kind = if tensors { "tensors" } else { "network" };
    let mut params = start(dtype);
    let near = |what: &str, key: &str, ours: &Tensor| {
        let key = format!("{run}/{kind}/{key}");
        let error = relative_error(ours, golden.tensor(&key));
        assert!(error <= tolerance, "{what} {dtype:?} {key}: {error:e}");
    };
    for step in 1..=steps {
        let grads = golden.below(&format!("{run}/gradients/{step}"));
        let grads = grads.into_iter();
        let grads = grads.map(|(_, g)| Some(g.to_dtype(dtype).unwrap()));
        let context = StepContext::new(step - 1, adam.learning_rate);
        let new = backend.step(adam, &context, &params, &Grads::new(grads.collect()));
        if let Some(new) = new.unwrap() {
            params = new;
        }
        if !KEPT.contains(&step) {
            continue;
        }
        for (name, p) in params.iter() {
            near("parameters", &format!("step{step}/{name}"), p);
        }
        let state = backend.state().unwrap();
        let learners = |name: &str| format!("learners{step}/{name}");
        if tensors {
            for (name, slots) in params.names().iter().zip(&state.slots) {
                near("learners", &learners(name), &slots[2].value);
            }
        } else {
            let first = &params.names()[0];
            near("learners", &learners(first), &state.network[0].value);
        }
    }
}

/// Every run with the scale of the network alone, and with those of the tensors alone.
fn cases() -> impl Iterator<Item = ((&'static str, u64), f64)> {
    RUNS.into_iter().flat_map(|run| [(run, 0.0), (run, 1.0)])
}

fn start(dtype: DType) -> Params {
    params(&Golden::open("inputs"), dtype)
}

#[test]
fn candle_ops_match_optax() {
    for (run, weight) in cases() {
        let adam = adam(&Golden::open("online_scale"), weight);
        for (dtype, tolerance) in [(DType::F64, 1e-5), (DType::F32, 2e-4)] {
            let mut backend = CandleOps::new(&adam, &start(dtype)).unwrap();
            compare(run, dtype, &mut backend, &adam, tolerance);
        }
    }
}

#[test]
fn kernels_match_optax() {
    for (run, weight) in cases() {
        let adam = adam(&Golden::open("online_scale"), weight);
        let chosen = Chosen::new(&adam, &start(DType::F32)).unwrap();
        assert!(matches!(chosen, Chosen::Fused(_)));
        compare(run, DType::F32, &mut *chosen.into_backend(), &adam, 2e-4);
    }
}

/// On the quadratic function all gradients point the same way, so every learner wins.
#[test]
fn the_scale_grows_while_the_loss_falls() {
    let adam = adam(&Golden::open("online_scale"), 0.5);
    let mut params = start(DType::F64);
    let mut state = adam.init(&params).unwrap();
    let scale = |slots: &[lopt_core::Slot]| {
        let s = slots[0].value.get(3).unwrap().sum_all().unwrap();
        s.to_scalar::<f64>().unwrap()
    };
    let mut scales = vec![];
    for _ in 0..20 {
        let grads = params.tensors().iter().map(|p| Some((p - 3.0).unwrap()));
        let grads: Vec<Option<Tensor>> = grads.collect();
        adam.step(&mut state, &mut params, &Grads::new(grads))
            .unwrap();
        scales.push(scale(&state.network));
    }
    assert!((scales[0] - 0.1).abs() < 1e-6, "{scales:?}");
    assert!(
        scales.windows(2).skip(2).all(|pair| pair[0] < pair[1]),
        "{scales:?}"
    );
}
