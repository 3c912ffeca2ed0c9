//! Steps that several threads share: the same bits for any number of threads, and the values of the
//! candle-op path.

use std::{num::NonZeroUsize, sync::LazyLock};

use candle_core::Tensor;
use lopt_adam::Adam;
use lopt_core::{Backend, Fused, Grads, Optimizer, Params, Purpose, StepContext, Streams, Workers};
use lopt_star::{Config, Magnitude, Star};
use lopt_tests::{flat, relative_error};

use crate::contract::random;

/// Large tensors, which are divided: matrices of both orders, others with dimensions before, between and
/// after the two largest, fewer rows than parts, and a vector. Small ones, which are not.
const SHAPES: [&[usize]; 10] = [
    &[1024, 1030],
    &[2100, 500],
    &[512, 3, 256, 3],
    &[3, 3, 400, 301],
    &[7, 150_000],
    &[(1 << 20) + 77],
    &[400, 300],
    &[300],
    &[],
    &[3, 2, 40],
];

fn tensors(seed: u64, scale: f32) -> Vec<Tensor> {
    let tensor = |(index, shape): (usize, &&[usize])| random(shape, seed, index as u64, scale);
    SHAPES.iter().enumerate().map(tensor).collect()
}

/// Made once, because so many random numbers take longer than the steps.
static START: LazyLock<Vec<Tensor>> = LazyLock::new(|| tensors(0, 0.3));
static GRADIENTS: LazyLock<[Vec<Tensor>; 2]> =
    LazyLock::new(|| [tensors(1, 1e-2), tensors(2, 1e-2)]);

/// Copies, because steps change the parameters in place.
fn params() -> Params {
    let named = START.iter().enumerate();
    Params::new(named.map(|(index, tensor)| (format!("p{index}"), tensor.copy().unwrap()))).unwrap()
}

fn grads(step: u64) -> Grads {
    let tensors = GRADIENTS[step as usize].iter().cloned();
    Grads::new(tensors.map(Some).collect())
}

fn optimizers() -> Vec<(&'static str, Box<dyn Optimizer>)> {
    let config = Config {
        nominal_magnitude: Magnitude::PerTensor,
        blackbox_magnitude: Magnitude::PerTensor,
        ..Config::default()
    };
    let mut rng = Streams::new(1).stream(Purpose::ThetaInit, 0, 0, 0);
    vec![
        ("star", Box::new(Star::pretrained())),
        ("adam", Box::new(Adam::new(0.01))),
        (
            "star per tensor",
            Box::new(Star::init(config, 1.0, &mut rng).unwrap()),
        ),
    ]
}

#[test]
fn threads_do_not_matter() {
    for (name, optimizer) in optimizers() {
        let run = |threads| {
            let params = params();
            let mut fused = Fused::new(&*optimizer, &params).unwrap().unwrap();
            fused.use_workers(Workers::new(NonZeroUsize::new(threads)));
            for t in 0..2 {
                let context = StepContext::new(t, optimizer.learning_rate());
                fused
                    .step(&*optimizer, &context, &params, &grads(t))
                    .unwrap();
            }
            let state = fused.state().unwrap();
            let slots = state.all_slots().map(|slot| slot.value.clone());
            params
                .tensors()
                .iter()
                .cloned()
                .chain(slots)
                .collect::<Vec<_>>()
        };
        let ours = run(1);
        let bits = |tensors: &[Tensor]| -> Vec<u64> {
            tensors.iter().flat_map(flat).map(f64::to_bits).collect()
        };
        assert!(bits(&ours) == bits(&run(3)), "{name}");

        let (mut params, mut state) = (params(), optimizer.init(&params()).unwrap());
        for t in 0..2 {
            optimizer.step(&mut state, &mut params, &grads(t)).unwrap();
        }
        let slots = state.all_slots().map(|slot| &slot.value);
        for (index, (ours, theirs)) in ours
            .iter()
            .zip(params.tensors().iter().chain(slots))
            .enumerate()
        {
            let error = relative_error(ours, theirs);
            assert!(error <= 1e-4, "{name}, tensor {index}: {error:e}");
        }
    }
}

/// An invalid entry in any part of a gradient is found.
#[test]
fn bad_gradients_are_refused() {
    let optimizer = Adam::new(0.1);
    let params = params();
    let mut fused = Fused::new(&optimizer, &params).unwrap().unwrap();
    fused.use_workers(Workers::new(NonZeroUsize::new(3)));
    let n = 1024 * 1030;
    for at in [0, n / 2, n - 1] {
        let mut values = vec![0f32; n];
        values[at] = f32::NAN;
        let mut grads = GRADIENTS[0].clone();
        grads[0] = Tensor::from_vec(values, (1024, 1030), grads[1].device()).unwrap();
        let grads = Grads::new(grads.into_iter().map(Some).collect());
        let context = StepContext::new(0, 0.1);
        let error = fused
            .step(&optimizer, &context, &params, &grads)
            .unwrap_err();
        assert!(error.to_string().contains("p0"), "{error}");
    }
}

/// Parameters that are views of one tensor, and gradients that are other parameters: each step reads what
/// was there before it, and no thread waits for another one forever.
#[test]
fn tensors_may_share_memory() {
    let (both, apart) = (
        random(&[2, 200, 300], 0, 0, 0.3),
        random(&[200, 300], 0, 1, 0.3),
    );
    let optimizer = Star::pretrained();
    let views = || (0..2).map(|index| both.get(index).unwrap());
    let step = |tensors: Vec<Tensor>, grads: &[Tensor], threads| {
        let named = tensors.into_iter().enumerate();
        let params = Params::new(named.map(|(index, p)| (format!("p{index}"), p))).unwrap();
        let mut fused = Fused::new(&optimizer, &params).unwrap().unwrap();
        fused.use_workers(Workers::new(NonZeroUsize::new(threads)));
        let grads = Grads::new(grads.iter().cloned().map(Some).collect());
        let context = StepContext::new(0, 1.0);
        fused.step(&optimizer, &context, &params, &grads).unwrap();
        params.tensors().iter().flat_map(flat).collect::<Vec<_>>()
    };
    let copied = |tensors: &[Tensor]| -> Vec<Tensor> {
        tensors
            .iter()
            .map(|tensor| tensor.copy().unwrap())
            .collect()
    };
    let all: Vec<Tensor> = views().chain([apart]).collect();
    let turned = [&all[1], &all[2], &all[0]].map(Tensor::clone);
    let expected = step(copied(&all), &copied(&turned), 1);
    let own = copied(&all);
    let turned_own = [&own[1], &own[2], &own[0]].map(Tensor::clone);
    assert!(step(own, &turned_own, 3) == expected);
    assert!(step(all, &turned, 3) == expected);
}
