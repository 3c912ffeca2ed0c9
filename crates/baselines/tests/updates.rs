//! The updates against independent computations in f64 and against candle's AdamW.

use candle_core::{Device, Tensor, Var};
use candle_nn::{Optimizer as _, ParamsAdamW};
use lopt_adam::Adam;
use lopt_baselines::{AdamW, Sgd, WarmUpCosine};
use lopt_core::{Backend, Fused, Grads, Optimizer, Params, StepContext};

const START: [f64; 4] = [0.5, -1.25, 2.0, 0.0];
const HORIZON: u64 = 20;

fn gradient(step: u64) -> [f64; 4] {
    let t = step as f64;
    [1.0 - 0.1 * t, 0.3, -2.0 + t * t / 50.0, (0.7 * t).sin()]
}

fn tensor(values: &[f64]) -> Tensor {
    let values = values.iter().map(|&x| x as f32).collect::<Vec<f32>>();
    Tensor::new(values, &Device::Cpu).unwrap()
}

fn start() -> Params {
    Params::new([("w".to_owned(), tensor(&START))]).unwrap()
}

fn values(params: &Params) -> Vec<f32> {
    params.tensors()[0].to_vec1().unwrap()
}

fn context(optimizer: &dyn Optimizer, step: u64, horizon: Option<u64>) -> StepContext {
    StepContext {
        horizon,
        ..StepContext::new(step, optimizer.learning_rate())
    }
}

/// The parameters after each step, in candle ops and fused.
fn both(optimizer: &dyn Optimizer, horizon: Option<u64>) -> [Vec<Vec<f32>>; 2] {
    let mut params = start();
    let mut state = optimizer.init(&params).unwrap();
    let in_place = start();
    let mut fused = Fused::new(optimizer, &in_place).unwrap().unwrap();
    let mut steps = [vec![], vec![]];
    for step in 0..HORIZON {
        let context = context(optimizer, step, horizon);
        let grads = Grads::new(vec![Some(tensor(&gradient(step)))]);
        optimizer
            .update(&context, &mut state, &mut params, &grads)
            .unwrap();
        fused.step(optimizer, &context, &in_place, &grads).unwrap();
        steps[0].push(values(&params));
        steps[1].push(values(&in_place));
    }
    steps
}

fn close(found: &[f32], expected: &[f64], what: &str) {
    for (found, expected) in found.iter().zip(expected) {
        let error = (f64::from(*found) - expected).abs();
        assert!(
            error <= 3e-6 * expected.abs().max(1.0),
            "{what}: {found} {expected}"
        );
    }
}

/// The factors of 20 steps: a warm-up of `warm_up` steps, then half a cosine.
fn factor(step: u64, warm_up: u64) -> f64 {
    if step < warm_up {
        return (step + 1) as f64 / warm_up as f64;
    }
    let angle = std::f64::consts::PI * (step - warm_up) as f64 / (HORIZON - warm_up) as f64;
    (angle / 2.0).cos().powi(2)
}

#[test]
fn sgd_is_the_heavy_ball() {
    for horizon in [None, Some(HORIZON)] {
        let steps = both(&Sgd::new(0.03), horizon);
        let (mut p, mut m) = (START, [0.0; 4]);
        for step in 0..HORIZON {
            let rate = 0.03 * horizon.map_or(1.0, |_| factor(step, 0));
            for (i, g) in gradient(step).into_iter().enumerate() {
                m[i] = 0.9 * m[i] + g;
                p[i] -= rate * m[i];
            }
            for path in &steps {
                close(&path[step as usize], &p, &format!("{horizon:?} {step}"));
            }
        }
    }
}

#[test]
fn adamw_decays_beside_adam() {
    let optimizer = AdamW {
        schedule: WarmUpCosine { warm_up: 0.2 },
        weight_decay: 0.5,
        ..AdamW::new(0.03)
    };
    let steps = both(&optimizer, Some(HORIZON));
    let (mut p, mut m, mut v) = (START, [0.0; 4], [0.0; 4]);
    for step in 0..HORIZON {
        let rate = 0.03 * factor(step, 4);
        let t = (step + 1) as i32;
        for (i, g) in gradient(step).into_iter().enumerate() {
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.999 * v[i] + 0.001 * g * g;
            let (m_hat, v_hat): (f64, f64) = (
                m[i] / (1.0 - 0.9f64.powi(t)),
                v[i] / (1.0 - 0.999f64.powi(t)),
            );
            p[i] = p[i] - rate * 0.5 * p[i] - rate * m_hat / (v_hat.sqrt() + 1e-8);
        }
        for path in &steps {
            close(&path[step as usize], &p, &format!("step {step}"));
        }
    }
}

#[test]
fn adamw_at_a_constant_rate_is_candles() {
    let steps = both(&AdamW::new(0.02), None);
    let var = Var::from_tensor(&tensor(&START)).unwrap();
    let settings = ParamsAdamW {
        lr: 0.02,
        weight_decay: 0.01,
        ..ParamsAdamW::default()
    };
    let mut candles = candle_nn::AdamW::new(vec![var.clone()], settings).unwrap();
    for step in 0..HORIZON {
        // A loss with this gradient.
        let loss = (var.as_tensor() * tensor(&gradient(step))).unwrap();
        candles.backward_step(&loss.sum_all().unwrap()).unwrap();
        let expected: Vec<f64> = var
            .to_vec1::<f32>()
            .unwrap()
            .into_iter()
            .map(f64::from)
            .collect();
        for path in &steps {
            close(&path[step as usize], &expected, &format!("step {step}"));
        }
    }
    // Without decay it is our Adam.
    let without = AdamW {
        weight_decay: 0.0,
        ..AdamW::new(0.02)
    };
    assert_eq!(both(&without, None), both(&Adam::new(0.02), None));
}

#[test]
fn after_the_horizon_nothing_moves() {
    for optimizer in [
        Box::new(AdamW::default()) as Box<dyn Optimizer>,
        Box::new(Sgd::default()),
    ] {
        let [ops, fused] = both(&*optimizer, Some(5));
        for path in [ops, fused] {
            assert_ne!(path[4], path[3]);
            assert!(path[5..].iter().all(|p| *p == path[4]));
        }
    }
}
