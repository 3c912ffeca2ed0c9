//! The backend on a stand-in for a GPU, against the CPU kernels, with all that it asks of a device
//! counted.

mod fleet;
mod networks;
mod on_stand_in;
#[path = "../../../cuda/tests/step/program.rs"]
mod program;
mod sixteen_bits;
mod stand_in;
mod subject;

use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Tensor, Var};
use lopt_core::{
    Backend, DropIn, DropInConfig, Error, Grads, NonFinite, Optimizer, Params, Schedule,
    StepContext,
};
use lopt_cuda_backend::OnDevice;
use on_stand_in::OnStandIn;
use stand_in::Counts;
use subject::{Reference, adam, all, changed, difference, few, flat, grads, params, tensor};

fn pretrained() -> OnStandIn {
    subject::pretrained().into()
}

/// Weights and biases in turn.
fn layers(count: usize) -> Params {
    let shapes: [&[usize]; 2] = [&[16, 8], &[8]];
    let all: Vec<&[usize]> = shapes.into_iter().cycle().take(count).collect();
    params(&all)
}

#[test]
fn a_step_only_launches() {
    for (subject, most) in [
        (subject::pretrained(), 5),
        (changed("star per tensor", per_tensor), 6),
        (subject::blackbox_of_the_paper(), 5),
        (adam("adam", None), 3),
        (adam("adam with a scale", subject::scale(Some(1.0))), 3),
    ] {
        let (name, subject) = (subject.name, OnStandIn::from(subject));
        for (count, factor) in [(1, 1), (48, 1), (49, 1), (400, 2)] {
            let params = layers(count);
            let grads = grads(&params, 0);
            let mut backend = subject.start(&params);
            let counts = subject.stand_in.counts();
            assert_eq!(
                (counts.allocations, counts.launches.len()),
                (3, 0),
                "{name}"
            );
            assert!(counts.reads.is_empty(), "{name}");

            subject.train(&mut *backend, &params, &grads).unwrap();
            let counts = subject.stand_in.counts();
            let launches = counts.launches.len();
            println!("{name}, {count} tensors: {launches} launches");
            assert!(launches <= factor * most, "{name}, {count}: {counts:?}");
            assert!(launches == most || count != 48, "{name}: {counts:?}");
            let only_a_read = Counts {
                launches: counts.launches.clone(),
                reads: vec![4],
                ..Counts::default()
            };
            assert_eq!(counts, only_a_read, "{name}, {count}");

            backend.allow_skipping();
            for _ in 0..3 {
                subject.train(&mut *backend, &params, &grads).unwrap();
                let counts = subject.stand_in.counts();
                let nothing_else = Counts {
                    launches: only_a_read.launches.clone(),
                    ..Counts::default()
                };
                assert_eq!(counts, nothing_else, "{name}, {count}");
            }

            drop(backend);
            assert_eq!(subject.stand_in.counts().freed, 3, "{name}");
        }
    }
}

fn per_tensor(config: &mut lopt_star::Config) {
    config.nominal_magnitude = lopt_star::Magnitude::PerTensor;
}

#[test]
fn theta_is_uploaded_once_and_when_it_is_replaced() {
    let (subject, params) = (pretrained(), layers(4));
    let learned = subject.optimizer.as_learned().unwrap();
    let mut values = learned.theta().values().to_vec();
    let mut backend = subject.start(&params);
    subject.stand_in.counts();
    subject
        .train(&mut *backend, &params, &grads(&params, 0))
        .unwrap();
    assert!(subject.stand_in.counts().writes.is_empty());

    values.iter_mut().for_each(|x| *x *= 1.25);
    backend.set_theta(&values).unwrap();
    // The seven decays and a padding, the layers 39 → 4 → 4 → 3.
    let decoded = 8 + 39 * 4 + 4 + 4 * 4 + 4 + 4 * 3 + 3;
    let only_theta = Counts {
        writes: vec![4 * decoded],
        ..Counts::default()
    };
    assert_eq!(subject.stand_in.counts(), only_theta);
    let mut reference = Reference::new(&subject, &params);
    reference.fused.set_state(backend.state().unwrap()).unwrap();
    reference.fused.set_theta(&values).unwrap();
    for step in 1..4 {
        let grads = grads(&params, step);
        subject.train(&mut *backend, &params, &grads).unwrap();
        reference.step(&grads);
    }
    let difference = reference.difference(&*backend, &params);
    assert!(difference < 2e-6, "{difference:e}");

    let error = backend.set_theta(&values[1..]).unwrap_err().to_string();
    assert!(error.contains("201") && error.contains("202"), "{error}");
    let mut adam = OnStandIn::from(adam("adam", None)).start(&params);
    assert!(adam.set_theta(&[0.0]).is_err());
}

#[test]
fn steps_are_those_of_the_cpu_kernels() {
    for subject in all().into_iter().map(OnStandIn::from) {
        let params = few();
        let mut backend = subject.start(&params);
        let mut reference = Reference::new(&subject, &params);
        for step in 0..30 {
            let mut grads = grads(&params, step).tensors().to_vec();
            // A parameter that the loss does not depend on, another at each step.
            grads[step as usize % (params.len() + 3) % params.len()] = None;
            let grads = Grads::new(grads);
            subject.train(&mut *backend, &params, &grads).unwrap();
            reference.step(&grads);
        }
        let difference = reference.difference(&*backend, &params);
        println!("{}: {difference:e}", subject.name);
        assert!(difference < 1e-5, "{}: {difference:e}", subject.name);
        assert_eq!(backend.steps(), 30);
    }
}

#[test]
fn invalid_gradients_are_refused_by_name() {
    for subject in [pretrained(), adam("adam", None).into()] {
        let params = few();
        let mut backend = subject.start(&params);
        subject
            .train(&mut *backend, &params, &grads(&params, 0))
            .unwrap();
        let before = (flat(params.tensors()), backend.state().unwrap());
        for bad in [f64::NAN, f64::INFINITY, -2e18] {
            let mut grads = grads(&params, 1).tensors().to_vec();
            grads[5] = Some(Tensor::full(bad as f32, (5, 19, 3), &Device::Cpu).unwrap());
            let result = subject.train(&mut *backend, &params, &Grads::new(grads));
            let error = result.unwrap_err();
            assert!(matches!(&error, Error::BadGradient { param, .. } if param == "p005"));
            let after = backend.state().unwrap();
            assert_eq!(flat(params.tensors()), before.0);
            assert_eq!(flat(after.all_slots().map(|slot| &slot.value)), {
                flat(before.1.all_slots().map(|slot| &slot.value))
            });
            assert_eq!((after.step, backend.steps()), (1, 1));
            assert_eq!(backend.skipped_steps().unwrap(), 0);
        }
        subject
            .train(&mut *backend, &params, &grads(&params, 1))
            .unwrap();
        let mut reference = Reference::new(&subject, &few());
        (0..2).for_each(|step| reference.step(&grads(&params, step)));
        let difference = reference.difference(&*backend, &params);
        assert!(difference < 2e-6, "{}: {difference:e}", subject.name);
    }
}

/// What could reach memory of others is refused before anything is launched.
#[test]
fn other_shapes_and_types_are_refused() {
    let (subject, params) = (pretrained(), layers(2));
    let mut backend = subject.start(&params);
    subject.stand_in.counts();
    let good = grads(&params, 0);
    let with = |first: Tensor| Grads::new(vec![Some(first), good.tensors()[1].clone()]);
    let larger = with(tensor(&[16, 9], 0, 0));
    let double = with(tensor(&[16, 8], 0, 0).to_dtype(DType::F64).unwrap());
    for grads in [larger, double, Grads::new(vec![None])] {
        assert!(subject.train(&mut *backend, &params, &grads).is_err());
    }
    let others = layers(3);
    assert!(
        subject
            .train(&mut *backend, &others, &grads(&others, 0))
            .is_err()
    );
    let context = StepContext::new(0, f64::NAN);
    assert!(backend.step(&subject, &context, &params, &good).is_err());
    let state = subject.start(&others).state().unwrap();
    subject.stand_in.counts();
    assert!(backend.set_state(state).is_err());
    assert_eq!(subject.stand_in.counts(), Counts::default());
}

/// A transposed gradient is made contiguous, and one in the memory of its parameter is copied.
#[test]
fn gradients_may_be_views() {
    let (subject, params) = (pretrained(), params(&[&[6, 4], &[24]]));
    let mut backend = subject.start(&params);
    let mut reference = Reference::new(&subject, &params);
    let transposed = tensor(&[4, 6], 1, 0).t().unwrap();
    let of_itself = |params: &Params| Some(params.tensors()[1].clone());
    let grads = |params: &Params| Grads::new(vec![Some(transposed.clone()), of_itself(params)]);
    subject
        .train(&mut *backend, &params, &grads(&params))
        .unwrap();
    reference.step(&grads(&reference.params));
    let difference = reference.difference(&*backend, &params);
    assert!(difference < 2e-6, "{difference:e}");
}

fn drop_in<O: Optimizer>(optimizer: O, non_finite: NonFinite) -> (DropIn<O>, Var) {
    let var = Var::from_tensor(&tensor(&[5, 3], 0, 0)).unwrap();
    let config = DropInConfig {
        non_finite,
        ..DropInConfig::new(optimizer)
    };
    let named = [("w".to_owned(), var.clone())];
    (DropIn::with_names(named, config).unwrap(), var)
}

/// Takes a step on factor·|w − 1|².
fn descend<O: Optimizer>(drop_in: &mut DropIn<O>, var: &Var, factor: f64) -> Result<(), Error> {
    let loss = ((var.as_tensor() - 1.0)?.sqr()?.sum_all()? * factor)?;
    drop_in.try_step(&loss.backward()?)
}

#[test]
fn a_drop_in_skips_without_waiting() {
    let stand_in = {
        let subject = pretrained();
        let stand_in = subject.stand_in.clone();
        let (mut skipping, var) = drop_in(subject, NonFinite::Skip);
        assert_eq!(skipping.path(), "cuda");
        stand_in.counts();
        for factor in [1.0, f64::NAN, 1.0, f64::INFINITY, 1.0] {
            descend(&mut skipping, &var, factor).unwrap();
        }
        let counts = stand_in.counts();
        assert!(counts.reads.is_empty() && counts.writes.is_empty());
        assert_eq!(skipping.skipped_steps().unwrap(), 2);
        assert_eq!(skipping.state().unwrap().step, 3);

        let (mut on_cpu, same) = drop_in(lopt_star::Star::pretrained(), NonFinite::Skip);
        (0..3).for_each(|_| descend(&mut on_cpu, &same, 1.0).unwrap());
        let difference = difference(&flat([var.as_tensor()]), &flat([same.as_tensor()]));
        assert!(difference < 2e-6, "{difference:e}");
        stand_in
    };
    assert_eq!(stand_in.counts().freed, 3);
}

/// The schedule goes on where it was, also with steps that the device skipped.
#[test]
fn schedules_survive_skipped_steps_and_resume() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let var = Var::from_tensor(&tensor(&[5, 3], 0, 0)).unwrap();
    let steps = Arc::new(Mutex::new(vec![]));
    let scheduled = || {
        let seen = steps.clone();
        let schedule = Schedule::own(move |step| {
            seen.lock().unwrap().push(step);
            1.0
        });
        let config = DropInConfig {
            non_finite: NonFinite::Skip,
            schedule,
            ..DropInConfig::new(pretrained())
        };
        DropIn::with_names([("w".to_owned(), var.clone())], config).unwrap()
    };
    let mut first = scheduled();
    for factor in [1.0, f64::NAN, 1.0] {
        descend(&mut first, &var, factor).unwrap();
    }
    first.save_state(&path).unwrap();
    let mut second = scheduled();
    second.load_state(&path).unwrap();
    descend(&mut second, &var, 1.0).unwrap();
    second.save_state(&path).unwrap();
    let mut third = scheduled();
    third.load_state(&path).unwrap();
    descend(&mut third, &var, 1.0).unwrap();
    assert_eq!(*steps.lock().unwrap(), [0, 1, 2, 3, 4]);
}

/// From the CPU kernels to the device and back, through files.
#[test]
fn states_move_between_devices() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let (mut whole, expected) = drop_in(lopt_star::Star::pretrained(), NonFinite::Refuse);
    (0..9).for_each(|_| descend(&mut whole, &expected, 1.0).unwrap());

    let (mut first, w) = drop_in(lopt_star::Star::pretrained(), NonFinite::Refuse);
    (0..3).for_each(|_| descend(&mut first, &w, 1.0).unwrap());
    first.save_state(&path).unwrap();

    let (mut second, var) = drop_in(pretrained(), NonFinite::Skip);
    descend(&mut second, &var, -3.0).unwrap();
    var.set(w.as_tensor()).unwrap();
    second.load_state(&path).unwrap();
    descend(&mut second, &var, f64::NAN).unwrap();
    (0..3).for_each(|_| descend(&mut second, &var, 1.0).unwrap());
    second.save_state(&path).unwrap();

    let (mut third, w) = drop_in(lopt_star::Star::pretrained(), NonFinite::Refuse);
    w.set(var.as_tensor()).unwrap();
    third.load_state(&path).unwrap();
    assert_eq!(third.state().unwrap().step, 6);
    (0..3).for_each(|_| descend(&mut third, &w, 1.0).unwrap());
    let difference = difference(&flat([w.as_tensor()]), &flat([expected.as_tensor()]));
    assert!(difference < 5e-6, "{difference:e}");
}

#[test]
fn optimizers_without_kernels_say_why() {
    for hidden in [vec![8], vec![4, 8], vec![5, 5], vec![]] {
        let mut rng = lopt_core::Streams::new(0).stream(lopt_core::Purpose::ThetaInit, 0, 0, 0);
        let config = lopt_star::Config {
            hidden,
            ..lopt_star::Config::default()
        };
        let star = lopt_star::Star::init(config, 1.0, &mut rng).unwrap();
        let reason = star.cuda_kernels().unwrap_err();
        assert!(reason.contains("hidden layers"), "{reason}");
    }
}

/// Kernels that would write to memory outside of the slots.
#[test]
fn kernels_of_another_optimizer_are_refused() {
    let params = few();
    for (optimizer, kernels) in [
        (pretrained(), subject::blackbox_of_the_paper()),
        (pretrained(), adam("adam", None)),
        (adam("adam", None).into(), subject::pretrained()),
        (
            adam("adam", None).into(),
            adam("adam with a scale", subject::scale(None)),
        ),
        (
            subject::blackbox_of_the_paper().into(),
            changed("star", |config| config.online_scale = None),
        ),
    ] {
        let (device, same) = (
            optimizer.stand_in.clone(),
            optimizer.optimizer.kind() == "blackbox",
        );
        let result = OnDevice::new(device, &*optimizer.optimizer, kernels.kernels, &params);
        assert_eq!(result.is_ok(), same);
    }
}
