//! The fused updates against the candle-op path: every optimizer and switch, every
//! instruction set of this machine, tensors of rank 0 to 4.

use crate::contract::random as tensor;
use candle_core::{DType, Device, Tensor};
use lopt_adam::Adam;
use lopt_blackbox::Blackbox;
use lopt_core::{
    Backend, Fused, FusedUpdate, Grads, LearnedOptimizer, Optimizer, Params, Purpose, Slot, State,
    StepContext, Streams,
};
use lopt_kernels::Isa;
use lopt_online_scale::OnlineScale;
use lopt_star::{Config, Magnitude, Nominal, Star};
use lopt_tests::{flat, relative_error};

/// Relative to the largest entry of a tensor.
const TOLERANCE: f64 = 2e-6;

/// Sums over 16 or 32 hidden units round more often than those over 4.
fn tolerance(name: &str) -> f64 {
    match name {
        "star hidden 16" | "star hidden 32" => 4.0 * TOLERANCE,
        _ => TOLERANCE,
    }
}

/// One element, none, lengths around multiples of 8, 16 and 32, ties, and each order of the two
/// largest dimensions, with and without other dimensions before, between and after them.
const SHAPES: [&[usize]; 22] = [
    &[],
    &[1],
    &[7],
    &[33],
    &[1000],
    &[0],
    &[1, 1],
    &[1, 6],
    &[5, 3],
    &[4, 4],
    &[17, 33],
    &[33, 17],
    &[300, 10],
    &[3, 0, 2],
    &[2, 3, 4],
    &[9, 2, 5],
    &[5, 9, 2],
    &[2, 40, 19],
    &[3, 3, 2, 8],
    &[20, 7, 3, 3],
    &[6, 31, 3, 5],
    &[4, 4, 2, 2],
];

fn params() -> Params {
    let named = SHAPES.iter().enumerate();
    let named = named.map(|(i, shape)| (format!("p{i:02}"), tensor(shape, i as u64, 0, 0.3)));
    Params::new(named).unwrap()
}

/// Gradients of ordinary, zero, huge and tiny magnitude; some columns are always zero, as for the
/// border pixels of an image.
fn grads(step: u64) -> Grads {
    const SCALES: [f32; 9] = [1e-2, 1.0, 0.0, 1e6, 1e-12, 1e-3, 1.0, 1e-7, 1e-2];
    let scale = SCALES[step as usize % SCALES.len()];
    let all = SHAPES.iter().enumerate().map(|(i, shape)| {
        let grad = tensor(shape, 100 + i as u64, step, scale);
        let Some(&columns) = shape.last().filter(|_| shape.len() >= 2) else {
            return Some(grad);
        };
        let mask = (0..columns)
            .map(|column| f32::from(column % 5 != 2))
            .collect();
        let mask = Tensor::from_vec(mask, columns, &Device::Cpu).unwrap();
        Some(grad.broadcast_mul(&mask).unwrap())
    });
    Grads::new(all.collect())
}

/// A step at the optimizer's own learning rate.
fn step(fused: &mut Fused, optimizer: &dyn Optimizer, params: &Params, grads: &Grads) {
    let context = StepContext::new(fused.steps(), optimizer.learning_rate());
    let new = fused.step(optimizer, &context, params, grads).unwrap();
    assert!(new.is_none(), "steps are taken in place");
}

type ByIsa = Box<dyn Fn(Isa, &[Vec<usize>]) -> Option<Box<dyn FusedUpdate>>>;

fn star(name: &str, change: impl FnOnce(&mut Config)) -> (String, Box<dyn Optimizer>, ByIsa) {
    let mut config = Config::default();
    // Larger than in the paper, so that every head matters.
    config.multipliers.nominal_exp = 0.3;
    config.multipliers.blackbox_exp = 0.2;
    config.multipliers.blackbox_step = 0.01;
    change(&mut config);
    let mut rng = Streams::new(1).stream(Purpose::ThetaInit, 0, 0, 0);
    let star = Star::init(config, 1.0, &mut rng).unwrap();
    let fused = star.clone();
    let fused: ByIsa = Box::new(move |isa, shapes| fused.fused_by(isa, shapes));
    (format!("star {name}"), Box::new(star), fused)
}

fn all() -> Vec<(String, Box<dyn Optimizer>, ByIsa)> {
    let adam = Adam::new(1e-2);
    let online_adam = Adam {
        online_scale: Some(OnlineScale::default()),
        ..adam.clone()
    };
    let (of_adam, of_online_adam) = (adam.clone(), online_adam.clone());
    let blackbox = Blackbox::untrained();
    let of_blackbox = blackbox.clone();
    let mut all: Vec<(String, Box<dyn Optimizer>, ByIsa)> = vec![
        (
            "adam".to_owned(),
            Box::new(adam),
            Box::new(move |isa, _| Some(of_adam.fused_by(isa, SHAPES.len()))),
        ),
        (
            "adam with an online scale".to_owned(),
            Box::new(online_adam),
            Box::new(move |isa, _| Some(of_online_adam.fused_by(isa, SHAPES.len()))),
        ),
        (
            "blackbox".to_owned(),
            Box::new(blackbox),
            Box::new(move |isa, shapes| of_blackbox.fused_by(isa, shapes)),
        ),
        star("", |_| {}),
        star("with an online scale", |c| {
            c.online_scale = Some(OnlineScale::default())
        }),
        star("with a unit of gradients", |c| {
            let gradient_rms = Some(0.01);
            let scale = OnlineScale::default();
            c.online_scale = Some(OnlineScale {
                gradient_rms,
                ..scale
            });
        }),
        star("with a large online scale", |c| {
            let initial = 10.0;
            let scale = OnlineScale::default();
            c.online_scale = Some(OnlineScale { initial, ..scale });
        }),
        star("without control", |c| c.magnitude_control = false),
        star("without preconditioner", |c| {
            c.precondition_blackbox = false
        }),
        star("without blackbox term", |c| c.blackbox_term = false),
        star("hidden 8", |c| c.hidden = vec![8, 8]),
        star("hidden 16", |c| c.hidden = vec![16, 16]),
        star("hidden 32", |c| c.hidden = vec![32, 32]),
        star("with a time limit", |c| c.time_limit = Some(3)),
        star("nominal per tensor", |c| {
            c.nominal_magnitude = Magnitude::PerTensor
        }),
        star("per tensor", |c| {
            c.nominal_magnitude = Magnitude::PerTensor;
            c.blackbox_magnitude = Magnitude::PerTensor;
        }),
    ];
    for nominal in [
        Nominal::Off,
        Nominal::Sgd,
        Nominal::Sgdm,
        Nominal::AggMo,
        Nominal::Adam,
    ] {
        all.push(star(&format!("nominal {nominal:?}"), |c| {
            c.nominal = nominal
        }));
    }
    all
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn slot_values(slots: &[Slot]) -> Vec<Vec<f32>> {
    slots.iter().map(|slot| values(&slot.value)).collect()
}

fn error(ours: &[f32], expected: &Tensor) -> f64 {
    if ours.is_empty() {
        return 0.0;
    }
    let ours = Tensor::from_slice(ours, ours.len(), &Device::Cpu).unwrap();
    relative_error(&ours, &expected.flatten_all().unwrap())
}

fn largest(tensor: &Tensor) -> f64 {
    flat(tensor).iter().fold(0.0, |max, x| x.abs().max(max))
}

/// The learners of the online scale depend on a sum of products of either sign.
fn slot_tolerance(slot: &Slot) -> f64 {
    match slot.name {
        "scale-learners" => 3e-5,
        _ => TOLERANCE,
    }
}

/// Compares parameters, step and every accumulator over ten steps, each from the state of the
/// candle-op path.
#[test]
fn every_fused_update_matches_the_candle_op_path() {
    for isa in Isa::all() {
        for (name, optimizer, by_isa) in all() {
            let mut params = params();
            let mut fused = by_isa(isa, &params.shapes()).expect("a fused update");
            assert_eq!(fused.kernel(), isa.name());
            let mut state = optimizer.init(&params).unwrap();
            for t in 0..10 {
                let grads = grads(t);
                let (before, before_state) = (params.clone(), state.clone());
                optimizer.step(&mut state, &mut params, &grads).unwrap();
                let context = StepContext::new(t, optimizer.learning_rate());
                let mut network: Vec<_> = slot_values(&before_state.network);
                let before_slots = before_state.slots.iter();
                let mut all_slots: Vec<_> = before_slots.map(|s| slot_values(s)).collect();
                for (index, slots) in all_slots.iter_mut().enumerate() {
                    let g = values(grads.tensors()[index].as_ref().unwrap());
                    fused.observe(index, &g, slots);
                }
                fused.begin_step(&context, &mut network);
                for (ours, slot) in network.iter().zip(&state.network) {
                    let worst = error(ours, &slot.value);
                    let at = format!("{isa} {name}, step {t}");
                    assert!(
                        worst <= slot_tolerance(slot),
                        "{at}: {} {worst:e}",
                        slot.name
                    );
                }
                for (index, shape) in SHAPES.iter().enumerate() {
                    let mut p = values(&before.tensors()[index]);
                    let g = values(grads.tensors()[index].as_ref().unwrap());
                    let slots = &mut all_slots[index];
                    fused.update(index, &mut p, &g, slots);
                    let at = format!("{isa} {name}, step {t}, shape {shape:?}");
                    // A step that nearly cancels its parameter has the parameter's rounding error.
                    let old = largest(&before.tensors()[index]);
                    let new = largest(&params.tensors()[index]);
                    let worst = error(&p, &params.tensors()[index]) * new / new.max(old);
                    assert!(
                        new == 0.0 || worst <= tolerance(&name),
                        "{at}: parameters {worst:e}"
                    );
                    for (ours, slot) in slots.iter().zip(&state.slots[index]) {
                        let worst = error(ours, &slot.value);
                        assert!(
                            worst <= slot_tolerance(slot),
                            "{at}: {} {worst:e}",
                            slot.name
                        );
                    }
                }
            }
        }
    }
}

/// The bits of a kernel do not depend on what it computed before.
#[test]
fn the_same_input_gives_the_same_bits() {
    for isa in Isa::all() {
        for (name, optimizer, by_isa) in all() {
            let start = params();
            let mut fused = by_isa(isa, &start.shapes()).unwrap();
            let mut run = || {
                let state = optimizer.init(&start).unwrap();
                let mut bits = vec![];
                for index in (0..start.len()).rev() {
                    let mut p = values(&start.tensors()[index]);
                    let mut network = slot_values(&state.network);
                    let mut slots = slot_values(&state.slots[index]);
                    for t in 0..3 {
                        let g = values(grads(t).tensors()[index].as_ref().unwrap());
                        let context = StepContext::new(t, optimizer.learning_rate());
                        fused.observe(index, &g, &mut slots);
                        fused.begin_step(&context, &mut network);
                        fused.update(index, &mut p, &g, &mut slots);
                    }
                    bits.extend(p.iter().map(|x| x.to_bits()));
                }
                bits
            };
            assert_eq!(run(), run(), "{isa} {name}");
        }
    }
}

/// STAR with everything switched off is the blackbox in the kernels, too.
#[test]
fn star_switched_off_is_the_blackbox_bit_for_bit() {
    let blackbox = Blackbox::untrained();
    let config = Config {
        nominal: Nominal::Off,
        precondition_blackbox: false,
        ..Config::default()
    };
    let mut rng = Streams::new(0).stream(Purpose::ThetaInit, 0, 0, 0);
    let star = Star::init(config, 1.0, &mut rng).unwrap();
    let star = star
        .with_values(blackbox.theta().values().to_vec())
        .unwrap();
    let run = |optimizer: &dyn Optimizer| {
        let params = params();
        let mut fused = Fused::new(optimizer, &params).unwrap().unwrap();
        let copies = params.tensors().iter().map(|t| t.copy().unwrap());
        let params = params.with_tensors(copies.collect()).unwrap();
        for t in 0..6 {
            step(&mut fused, optimizer, &params, &grads(t));
        }
        let all = params.tensors().iter().flat_map(values);
        all.map(f32::to_bits).collect::<Vec<_>>()
    };
    assert_eq!(run(&*star), run(&blackbox));
}

/// Configurations without a kernel run in candle ops, and [`Fused`] says so.
#[test]
fn configurations_without_a_kernel_are_reported() {
    let f64_params = Params::new([(
        "w".to_owned(),
        Tensor::zeros((3, 2), DType::F64, &Device::Cpu).unwrap(),
    )]);
    assert!(
        Fused::new(&Star::untrained(), &f64_params.unwrap())
            .unwrap()
            .is_none()
    );
    let config = Config {
        hidden: vec![8],
        ..Config::default()
    };
    let mut rng = Streams::new(0).stream(Purpose::ThetaInit, 0, 0, 0);
    let other = Star::init(config, 1.0, &mut rng).unwrap();
    assert!(Fused::new(&other, &params()).unwrap().is_none());
    let fused = Fused::new(&Star::untrained(), &params()).unwrap().unwrap();
    assert_eq!(fused.path(), Isa::best().name());
}

/// A state converts to tensors and back unchanged, and is rejected where it does not fit.
#[test]
fn states_round_trip_through_tensors() {
    for (name, optimizer, _) in all() {
        let params = params();
        let copies = params.tensors().iter().map(|t| t.copy().unwrap());
        let params = params.with_tensors(copies.collect()).unwrap();
        let mut fused = Fused::new(&*optimizer, &params).unwrap().unwrap();
        step(&mut fused, &*optimizer, &params, &grads(0));
        let state = fused.state().unwrap();
        assert_eq!(state.step, 1);
        let bits = |state: &State| -> Vec<Vec<u64>> {
            let slots = state.slots.iter().flatten();
            slots
                .map(|s| flat(&s.value).iter().map(|x| x.to_bits()).collect())
                .collect()
        };
        step(&mut fused, &*optimizer, &params, &grads(1));
        fused.set_state(state.clone()).unwrap();
        assert_eq!(bits(&fused.state().unwrap()), bits(&state), "{name}");
        let smaller = Params::new([("w".to_owned(), tensor(&[3], 0, 0, 1.0))]).unwrap();
        assert!(fused.set_state(optimizer.init(&smaller).unwrap()).is_err());
    }
}

/// Up to the limit nothing changes; after it every step is the one at the limit, with the blackbox
/// term scaled by limit / t and, with an online scale, the nominal term by √(t / limit).
#[test]
fn time_stops_at_the_limit() {
    let any = |limit: Option<u64>, start: u64, blackbox: f64, online: Option<f64>| {
        let (_, optimizer, _) = star("", |c| {
            c.time_limit = limit;
            c.multipliers.blackbox_step = blackbox;
            c.multipliers.nominal_step *= online.unwrap_or(1.0);
            c.online_scale = online.map(|_| OnlineScale::default());
        });
        let mut params = params();
        let mut fused = Fused::new(&*optimizer, &params).unwrap().unwrap();
        let mut state = fused.state().unwrap();
        state.step = start;
        fused.set_state(state.clone()).unwrap();
        step(&mut fused, &*optimizer, &params, &grads(0));
        let updated = params
            .tensors()
            .iter()
            .flat_map(values)
            .collect::<Vec<f32>>();
        // The candle-op path agrees.
        let fresh = self::params();
        params = fresh;
        let mut state = optimizer.init(&params).unwrap();
        state.step = start;
        optimizer.step(&mut state, &mut params, &grads(0)).unwrap();
        assert_eq!(state.step, start + 1);
        let all = params
            .tensors()
            .iter()
            .flat_map(values)
            .collect::<Vec<f32>>();
        let expected = Tensor::from_slice(&all, all.len(), &Device::Cpu).unwrap();
        assert!(error(&updated, &expected) <= TOLERANCE);
        updated
    };
    let run = |limit, start, blackbox| any(limit, start, blackbox, None);
    assert_eq!(run(Some(5), 4, 0.5), run(None, 4, 0.5));
    assert_eq!(run(Some(5), 5, 0.5), run(None, 5, 0.5));
    assert_ne!(run(Some(5), 6, 0.5), run(None, 5, 0.5));
    assert_eq!(run(Some(5), 20, 0.5), run(None, 5, 0.125));
    assert_eq!(run(Some(5), 40, 0.5), run(None, 5, 0.0625));
    assert_ne!(run(None, 20, 0.125), run(None, 5, 0.125));
    let online = |limit, start, blackbox, nominal| any(limit, start, blackbox, Some(nominal));
    assert_eq!(online(Some(5), 5, 0.5, 1.0), online(None, 5, 0.5, 1.0));
    assert_eq!(online(Some(5), 20, 0.5, 1.0), online(None, 5, 0.125, 2.0));
}
