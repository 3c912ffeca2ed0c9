//! What the online scale promises: units do not matter, and one bad minibatch does no harm.

use candle_core::{DType, Device, Tensor};
use lopt_adam::Adam;
use lopt_core::{Backend, CandleOps, Chosen, Grads, Optimizer, Params, State, StepContext};
use lopt_online_scale::OnlineScale;
use lopt_star::{Config, Star};

/// Where the gradients of a quadratic function with curvatures of 0.01 to 1 vanish.
const MINIMUM: f32 = 0.5;

fn start() -> Params {
    let named = [("a", 12), ("b", 5)].map(|(name, n)| {
        let values = Tensor::zeros(n, DType::F32, &Device::Cpu).unwrap();
        (name.to_owned(), values)
    });
    Params::new(named).unwrap()
}

/// The gradient of `unit` times the quadratic function.
fn gradient(params: &Params, unit: f64) -> Grads {
    let of = |p: &Tensor| {
        let n = p.elem_count();
        let curvature = |i: usize| 0.01f32.powf(i as f32 / n as f32);
        let curvatures: Vec<f32> = (0..n).map(curvature).collect();
        let curvatures = Tensor::from_vec(curvatures, n, &Device::Cpu)?;
        ((p - f64::from(MINIMUM))? * curvatures)? * unit
    };
    let grads = params.tensors().iter().map(|p| of(p).map(Some));
    Grads::new(grads.collect::<Result<_, _>>().unwrap())
}

fn values(params: &Params) -> Vec<f32> {
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    params.tensors().iter().flat_map(values).collect()
}

fn train(optimizer: &dyn Optimizer, steps: usize, unit: f64) -> (State, Params) {
    let mut params = start();
    let mut state = optimizer.init(&params).unwrap();
    for _ in 0..steps {
        let grads = gradient(&params, unit);
        optimizer.step(&mut state, &mut params, &grads).unwrap();
    }
    (state, params)
}

/// A loss in another unit gives the same training, though STAR has constants such as 1e-6 that are
/// added to squares of gradients.
#[test]
fn the_unit_of_the_loss_does_not_matter() {
    let star = |gradient_rms| {
        let scale = OnlineScale {
            gradient_rms,
            ..OnlineScale::default()
        };
        let config = Config {
            online_scale: Some(scale),
            ..Star::pretrained().config().clone()
        };
        Star::pretrained().with_config(config).unwrap()
    };
    let differences = |star: &Star| {
        let expected = values(&train(star, 100, 1.0).1);
        [1e-4, 1e4].map(|unit| {
            let ours = values(&train(star, 100, unit).1);
            let differences = ours.iter().zip(&expected).map(|(a, b)| (a - b).abs());
            differences.fold(0.0, f32::max)
        })
    };
    let [small, large] = differences(&star(Some(0.01)));
    assert!(small < 1e-3 && large < 1e-3, "{small} {large}");
    let [small, large] = differences(&star(None));
    assert!(small > 0.01 || large > 0.01, "{small} {large}");
}

/// After a gradient 10,000 times as large as those before it, the parameters stay near where they
/// were.
#[test]
fn one_large_gradient_does_not_reset_the_scale() {
    let moved = |slope_limit| {
        let adam = Adam {
            learning_rate: 1e-4,
            online_scale: Some(OnlineScale {
                slope_limit,
                ..OnlineScale::default()
            }),
            ..Adam::default()
        };
        let (mut state, mut params) = train(&adam, 400, 1.0);
        let before = values(&params);
        let grads = gradient(&params, -1e4);
        adam.step(&mut state, &mut params, &grads).unwrap();
        let after = values(&params);
        let moved = before.iter().zip(&after).map(|(a, b)| (a - b).abs());
        let largest = before.iter().copied().fold(0.0, f32::max);
        moved.fold(0.0, f32::max) / largest
    };
    let (limited, unlimited) = (moved(1.2), moved(1e30));
    assert!(limited < 0.4, "{limited}");
    assert!(unlimited > 0.8, "{unlimited}");
}

/// Gradients that are just accepted, whose squares overflow in f32, leave finite numbers, on both
/// paths.
#[test]
fn the_largest_gradients_leave_finite_numbers() {
    let adam = Adam {
        online_scale: Some(OnlineScale {
            gradient_rms: Some(0.01),
            ..OnlineScale::default()
        }),
        ..Adam::default()
    };
    let zeros = || Tensor::zeros(4096, DType::F32, &Device::Cpu).unwrap();
    let params = || Params::new([("w".to_owned(), zeros())]).unwrap();
    // In the second sequence the squares of the slopes overflow too.
    for (sizes, rate) in [([1e18f32, 1.0, 1e18], 1e-3), ([1e18, 1e18, -1e18], 1.0)] {
        let Chosen::Fused(fused) = Chosen::new(&adam, &params()).unwrap() else {
            panic!("no fused update");
        };
        let ops = CandleOps::new(&adam, &params()).unwrap();
        for mut backend in [fused as Box<dyn Backend>, Box::new(ops)] {
            let mut params = params();
            for (t, size) in sizes.into_iter().enumerate() {
                let g = Tensor::full(size, 4096, &Device::Cpu).unwrap();
                let context = StepContext::new(t as u64, rate);
                let new = backend
                    .step(&adam, &context, &params, &Grads::new(vec![Some(g)]))
                    .unwrap();
                params = new.unwrap_or(params);
            }
            let state = backend.state().unwrap();
            let slots = state.all_slots().map(|slot| &slot.value);
            for tensor in slots.chain(params.tensors()) {
                let flat = lopt_tests::flat(tensor);
                let finite = flat.iter().all(|x| x.is_finite());
                assert!(finite, "{} at {rate}", backend.path());
            }
        }
    }
}

/// The learners of one number against the formulas, in f64.
#[test]
fn learners_follow_the_formulas() {
    let scale = OnlineScale {
        learners: 2,
        tensor_weight: 0.0,
        slope_limit: 1.5,
        gradient_rms: Some(0.1),
        ..OnlineScale::default()
    };
    let adam = Adam {
        learning_rate: 0.1,
        online_scale: Some(scale),
        ..Adam::default()
    };
    let one = Tensor::new(&[1f64], &Device::Cpu).unwrap();
    let mut params = Params::new([("w".to_owned(), one)]).unwrap();
    let mut state = adam.init(&params).unwrap();
    let (mut phi, mut sum, mut old) = (1.0, 0.0, 0.0);
    let (mut q, mut w, mut first, mut second) = (0.0f64, 0.0f64, 0.0, 0.0);
    let (mut m, mut v, mut r, mut s) = ([0f64; 2], [0f64; 2], [0f64; 2], [0f64; 2]);
    for (t, g) in [2.0, 1.9, 1.5, -30.0, 0.1, -0.2, 4.0]
        .into_iter()
        .enumerate()
    {
        let grads = Grads::new(vec![Some(Tensor::new(&[g], &Device::Cpu).unwrap())]);
        adam.step(&mut state, &mut params, &grads).unwrap();
        for i in 0..2 {
            let beta = 1.0 - 0.1f64.powi(i as i32 + 1);
            let mut h: f64 = sum * g;
            if m[i] > 1e-12 {
                h = h.clamp(-1.5 * m[i], 1.5 * m[i]);
            }
            r[i] = beta * r[i] - s[i] * h.clamp(-m[i], m[i]);
            m[i] = (beta * m[i]).max(h.abs() + 1e-12);
            v[i] = beta * beta * v[i] + h * h;
            s[i] = (0.05 * m[i] + r[i].max(0.0)) / ((v[i] + 1e-36).sqrt() + 1e-12);
        }
        (q, w) = (0.99 * q + 0.01 * g * g, 0.99 * w + 0.01);
        let read = g * 0.1 / (q / w).sqrt();
        let t = t as i32 + 1;
        first = 0.9 * first + 0.1 * read;
        second = 0.999 * second + 0.001 * read * read;
        let (first, second) = (
            first / (1.0 - 0.9f64.powi(t)),
            second / (1.0 - 0.999f64.powi(t)),
        );
        let update = -0.1 * first / (second.sqrt() + 1e-8);
        let new = s[0] + s[1];
        phi += (new - old) * sum + new * update;
        (sum, old) = (sum + update, new);
        let ours = params.tensors()[0].to_vec1::<f64>().unwrap()[0];
        assert!((ours - phi).abs() < 1e-9, "step {t}: {ours} {phi}");
        let of_network: Vec<Vec<f64>> = [0, 1]
            .map(|i| {
                let slot = state.network[i].value.flatten_all().unwrap();
                slot.to_vec1().unwrap()
            })
            .into();
        let gradient = [q, w];
        let learners = [m, v, r, s].concat();
        for (ours, expected) in of_network.iter().zip([&gradient[..], &learners]) {
            for (ours, expected) in ours.iter().zip(expected) {
                assert!(
                    (ours - expected).abs() <= 1e-9 * (1.0 + expected.abs()),
                    "step {t}"
                );
            }
        }
    }
}
