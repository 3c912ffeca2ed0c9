//! Adam against optax.

use candle_core::DType;
use lopt_adam::Adam;
use lopt_core::{Grads, Optimizer, Params};
use lopt_tests::{Golden, params, relative_error};

fn grads(inputs: &Golden, step: usize, dtype: DType) -> Grads {
    let all = inputs.below("grads_main").into_iter();
    Grads::new(
        all.map(|(_, g)| Some(g.get(step).unwrap().to_dtype(dtype).unwrap()))
            .collect(),
    )
}

fn compare(file: &str, dtype: DType, tolerance: f64) {
    let (inputs, golden) = (Golden::open("inputs"), Golden::open(file));
    let settings = &golden.metadata("configs")["adam_epsroot0"];
    let adam = Adam {
        learning_rate: settings["lr"].as_f64().unwrap(),
        beta1: settings["b1"].as_f64().unwrap(),
        beta2: settings["b2"].as_f64().unwrap(),
        epsilon: settings["eps"].as_f64().unwrap(),
        online_scale: None,
    };
    let mut params: Params = params(&inputs, dtype);
    let mut state = adam.init(&params).unwrap();
    for step in 1..=12 {
        adam.step(&mut state, &mut params, &grads(&inputs, step - 1, dtype))
            .unwrap();
        if ![1, 2, 12].contains(&step) {
            continue;
        }
        for (name, p) in params.iter() {
            let key = format!("adam_epsroot0/step{step}/{name}");
            let error = relative_error(p, golden.tensor(&key));
            assert!(error <= tolerance, "{file} {key}: {error:e}");
        }
    }
}

/// f32 within 2e-5 and f64 within 1e-6 of the largest value of the tensor.
#[test]
fn adam_matches_optax() {
    compare("hand_designed_f32", DType::F32, 2e-5);
    compare("hand_designed_f64", DType::F64, 1e-6);
}
