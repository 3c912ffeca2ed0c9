//! The backend on candle's CUDA tensors, against the CPU kernels: on a GPU, or without one on the
//! stand-in for the driver (`tests/driver/driver.cpp`), which logs all calls.

#[path = "steps/networks.rs"]
mod networks;
#[path = "steps/subject.rs"]
mod subject;

use std::{fs, path::PathBuf, sync::Mutex};

use candle_core::{DType, Device, Tensor, Var};
use lopt_core::{
    Backend, DropIn, DropInConfig, Error, Grads, NonFinite, Optimizer, Params, StepContext,
};
use lopt_cuda_backend::Classifier;
use lopt_star::Star;
use subject::{Reference, adam, all, changed, difference, few, flat, grads, params, pretrained};

/// The tests share one log.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The calls of the driver since the last question; `None` on a GPU.
fn calls() -> Option<Vec<String>> {
    let path = PathBuf::from(std::env::var_os("LOPT_CUDA_LOG")?);
    let text = fs::read_to_string(&path).unwrap_or_default();
    fs::write(&path, "").unwrap();
    Some(text.lines().map(str::to_owned).collect())
}

fn gpu() -> Device {
    Device::new_cuda(0).unwrap()
}

fn on(device: &Device, params: &Params) -> Params {
    let moved = params
        .tensors()
        .iter()
        .map(|p| p.to_device(device).unwrap());
    params.with_tensors(moved.collect()).unwrap()
}

fn grads_on(device: &Device, grads: &Grads) -> Grads {
    let moved = |g: &Tensor| g.to_device(device).unwrap();
    let all = grads.tensors().iter();
    Grads::new(all.map(|g| g.as_ref().map(moved)).collect())
}

/// The backend that the optimizer chooses; the kernels are those that it names.
fn start(subject: &subject::Subject, params: &Params) -> Box<dyn Backend> {
    let chosen = subject.optimizer.backend(params).unwrap();
    let kernels = || Some(subject.kernels.clone());
    let ours = lopt_cuda_backend::backend(&*subject.optimizer, params, kernels);
    assert!(chosen.is_some(), "{}", subject.name);
    ours.unwrap()
        .expect("there are kernels for f32 tensors on a GPU")
}

#[test]
fn steps_are_those_of_the_cpu_kernels() {
    let _one = ONE_AT_A_TIME.lock();
    let device = gpu();
    for subject in all() {
        let params = few();
        let mut reference = Reference::new(&subject, &params);
        let params = on(&device, &params);
        let mut backend = start(&subject, &params);
        assert_eq!(backend.path(), "cuda");
        for step in 0..30 {
            let mut grads = grads(&reference.params, step).tensors().to_vec();
            grads[step as usize % params.len()] = None;
            let grads = Grads::new(grads);
            let on_device = grads_on(&device, &grads);
            subject.train(&mut *backend, &params, &on_device).unwrap();
            reference.step(&grads);
        }
        let difference = reference.difference(&*backend, &params);
        println!("{}: {difference:e}", subject.name);
        // The GPU's exponentials and tangents are not those of the CPU, and steps repeat errors.
        assert!(difference < 1e-4, "{}: {difference:e}", subject.name);
    }
}

/// Networks that are trained together, for about as long as a truncation.
#[test]
fn fleets_take_the_steps_of_the_cpu_kernels() {
    let _one = ONE_AT_A_TIME.lock();
    let device = gpu();
    for subject in [pretrained(), adam("adam", None)] {
        for shape in networks::shapes() {
            let new = |classifier: &Classifier| {
                let (optimizer, kernels) = (&*subject.optimizer, &subject.kernels);
                let fleet = lopt_cuda_backend::fleet(&device, optimizer, kernels, classifier, 4, 2);
                fleet.unwrap().expect("there are kernels for a GPU")
            };
            let difference = networks::trained(&subject, &shape, 40, new);
            println!("fleet, {} {:?}: {difference:e}", subject.name, shape.0);
            assert!(difference < 1e-3, "{}: {difference:e}", subject.name);
        }
    }
}

/// A step is launches alone, and in the end all memory is freed.
#[test]
fn a_step_only_launches() {
    let _one = ONE_AT_A_TIME.lock();
    if calls().is_none() {
        println!("skipped: on a GPU nobody counts");
        return;
    }
    let device = gpu();
    let with_mean = changed("star per tensor", |config| {
        config.nominal_magnitude = lopt_star::Magnitude::PerTensor;
    });
    for (subject, most) in [(pretrained(), 5), (with_mean, 6), (adam("adam", None), 3)] {
        for (count, launches) in [(1, most), (48, most), (400, 2 * most)] {
            let shapes: [&[usize]; 2] = [&[16, 8], &[8]];
            let shapes: Vec<&[usize]> = shapes.into_iter().cycle().take(count).collect();
            let params = params(&shapes);
            let gradients = grads_on(&device, &grads(&params, 0));
            let params = on(&device, &params);
            calls();
            let mut backend = subject.optimizer.backend(&params).unwrap().unwrap();
            let of_kind = |calls: &[String], kind: &str| {
                calls.iter().filter(|call| call.starts_with(kind)).count()
            };
            let at_start = calls().unwrap();
            assert_eq!(of_kind(&at_start, "allocate"), 3);
            assert_eq!(of_kind(&at_start, "launch"), 0);

            subject.train(&mut *backend, &params, &gradients).unwrap();
            let refusing = calls().unwrap();
            assert_eq!(&refusing[refusing.len() - 2..], ["read 4", "synchronize 0"]);

            backend.allow_skipping();
            for _ in 0..2 {
                subject.train(&mut *backend, &params, &gradients).unwrap();
                let skipping = calls().unwrap();
                assert_eq!(skipping, refusing[..refusing.len() - 2]);
                assert_eq!(of_kind(&skipping, "launch"), skipping.len());
                assert!(skipping.len() <= launches, "{count}: {skipping:?}");
            }
            println!("{}, {count} tensors: {}", subject.name, refusing.len() - 2);
            drop(backend);
            assert_eq!(of_kind(&calls().unwrap(), "free"), 3);
        }
    }
}

#[test]
fn theta_and_state_are_replaced() {
    let _one = ONE_AT_A_TIME.lock();
    let (device, subject) = (gpu(), pretrained());
    let on_host = few();
    let params = on(&device, &on_host);
    let mut backend = start(&subject, &params);
    let mut reference = Reference::new(&subject, &on_host);
    let learned = subject.optimizer.as_learned().unwrap();
    let values: Vec<f32> = learned.theta().values().iter().map(|x| x * 1.25).collect();
    for step in 0..6 {
        if step == 2 {
            backend.set_theta(&values).unwrap();
            reference.fused.set_theta(&values).unwrap();
        }
        if step == 4 {
            let state = reference.fused.state().unwrap();
            backend.set_state(state).unwrap();
        }
        let grads = grads(&on_host, step);
        let on_device = grads_on(&device, &grads);
        subject.train(&mut *backend, &params, &on_device).unwrap();
        reference.step(&grads);
    }
    let difference = reference.difference(&*backend, &params);
    assert!(difference < 2e-5, "{difference:e}");
}

#[test]
fn invalid_gradients_are_refused_by_name_or_skipped() {
    let _one = ONE_AT_A_TIME.lock();
    let (device, subject) = (gpu(), pretrained());
    let on_host = few();
    let params = on(&device, &on_host);
    let mut backend = start(&subject, &params);
    let good = grads_on(&device, &grads(&on_host, 0));
    subject.train(&mut *backend, &params, &good).unwrap();
    let before = flat(params.tensors());
    let mut bad = good.tensors().to_vec();
    let values = Tensor::full(f32::NAN, (5, 19, 3), &Device::Cpu).unwrap();
    bad[5] = Some(values.to_device(&device).unwrap());
    let bad = Grads::new(bad);
    let error = subject.train(&mut *backend, &params, &bad).unwrap_err();
    assert!(matches!(&error, Error::BadGradient { param, .. } if param == "p005"));
    assert_eq!(backend.steps(), 1);
    backend.allow_skipping();
    subject.train(&mut *backend, &params, &bad).unwrap();
    assert_eq!(backend.skipped_steps().unwrap(), 1);
    assert_eq!(backend.state().unwrap().step, 1);
    assert_eq!(flat(params.tensors()), before);
}

/// Parameters in the memory of other tensors: the first and the last row of one.
#[test]
fn views_and_other_devices() {
    let _one = ONE_AT_A_TIME.lock();
    let (device, subject) = (gpu(), pretrained());
    let both = subject::tensor(&[3, 40], 0, 0).to_device(&device).unwrap();
    let row = |row| both.narrow(0, row, 1).unwrap();
    let params = Params::new([("w".to_owned(), row(0))]).unwrap();
    let mut backend = start(&subject, &params);
    let before = flat([&row(1), &row(2)]);
    let grads = Grads::new(vec![Some(row(2))]);
    subject.train(&mut *backend, &params, &grads).unwrap();
    assert_eq!(flat([&row(1), &row(2)]), before);
    let context = StepContext::new(1, 1.0);
    let other = on(&gpu(), &on(&Device::Cpu, &params));
    for others in [other, on(&Device::Cpu, &params)] {
        let result = backend.step(&*subject.optimizer, &context, &others, &grads);
        let error = result.unwrap_err().to_string();
        assert!(error.contains("create another optimizer"), "{error}");
    }
}

/// Each gradient is the other parameter. The kernels update both together, and read what was there before.
#[test]
fn gradients_may_be_other_parameters() {
    let _one = ONE_AT_A_TIME.lock();
    let (device, subject) = (gpu(), pretrained());
    let on_host = params(&[&[30, 40], &[30, 40]]);
    let turned = |params: &Params| {
        let [a, b] = params.tensors() else {
            panic!("two parameters")
        };
        Grads::new(vec![Some(b.clone()), Some(a.clone())])
    };
    let step = |grads: &dyn Fn(&Params) -> Grads| {
        let params = on(&device, &on_host);
        let mut backend = start(&subject, &params);
        let grads = grads(&params);
        subject.train(&mut *backend, &params, &grads).unwrap();
        flat(params.tensors())
    };
    let apart = step(&|_| grads_on(&device, &turned(&on_host)));
    assert_eq!(step(&turned), apart);
}

fn drop_in(device: &Device) -> (DropIn<Star>, Var) {
    let values = subject::tensor(&[5, 3], 0, 0);
    let var = Var::from_tensor(&values.to_device(device).unwrap()).unwrap();
    let config = DropInConfig {
        non_finite: NonFinite::Refuse,
        ..DropInConfig::new(Star::pretrained())
    };
    let named = [("w".to_owned(), var.clone())];
    (DropIn::with_names(named, config).unwrap(), var)
}

/// Through files, from the CPU to the GPU and back. The gradient is that of ⟨w, c⟩.
#[test]
fn states_move_between_devices() {
    let _one = ONE_AT_A_TIME.lock();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let device = gpu();
    let backends = [&Device::Cpu, &device, &Device::Cpu];
    let mut values = None;
    let (mut whole, expected) = drop_in(&Device::Cpu);
    for (turn, device) in backends.into_iter().enumerate() {
        let (mut part, var) = drop_in(device);
        assert_eq!(part.path() == "cuda", device.is_cuda());
        if turn > 0 {
            part.load_state(&path).unwrap();
        }
        let params = Params::new([("w".to_owned(), var.as_detached_tensor())]).unwrap();
        if let Some(values) = values.take() {
            let values: Tensor = values;
            var.set(&values.to_device(device).unwrap()).unwrap();
        }
        for step in 0..3 {
            let seed = 10 * turn as u64 + step;
            let c = grads(&params, seed).tensors()[0].clone().unwrap();
            step_along(&mut part, &var, &c.to_device(device).unwrap());
            step_along(&mut whole, &expected, &c);
        }
        part.save_state(&path).unwrap();
        values = Some(var.as_detached_tensor().to_device(&Device::Cpu).unwrap());
    }
    let difference = difference(&flat(&values), &flat([expected.as_tensor()]));
    assert!(difference < 2e-5, "{difference:e}");
}

/// Variables in bf16, whose values candle converts when the drop-in is created.
#[test]
fn variables_of_16_bits() {
    let _one = ONE_AT_A_TIME.lock();
    let device = gpu();
    let [on_device, on_cpu] = [&device, &Device::Cpu].map(|device| {
        let values = subject::tensor(&[17, 33], 0, 0).to_dtype(DType::BF16);
        Var::from_tensor(&values.unwrap().to_device(device).unwrap()).unwrap()
    });
    let drop_in = |var: &Var| {
        let config = DropInConfig {
            non_finite: NonFinite::Skip,
            ..DropInConfig::new(Star::pretrained())
        };
        DropIn::with_names([("w".to_owned(), var.clone())], config).unwrap()
    };
    let (mut ours, mut theirs) = (drop_in(&on_device), drop_in(&on_cpu));
    assert_eq!(ours.path(), "cuda");
    for step in 0..10 {
        let c = subject::tensor(&[17, 33], 1, step).to_dtype(DType::BF16);
        let c = c.unwrap();
        let of_device = c.to_device(&device).unwrap();
        calls();
        step_along(&mut ours, &on_device, &of_device);
        if let Some(calls) = calls() {
            let launches = calls.iter().filter(|call| call.starts_with("launch lopt"));
            assert_eq!((launches.count(), calls.len()), (5, 5), "{calls:?}");
        }
        step_along(&mut theirs, &on_cpu, &c);
    }
    let values = [on_device, on_cpu].map(|var| {
        let values = var.to_device(&Device::Cpu).unwrap().to_dtype(DType::F32);
        flat(&values)
    });
    let difference = difference(&values[0], &values[1]);
    assert!(difference < 8e-3, "{difference:e}");
}

/// Takes a step with the gradient `c`.
fn step_along(drop_in: &mut DropIn<Star>, var: &Var, c: &Tensor) {
    let zero = Tensor::zeros((), DType::F32, &Device::Cpu).unwrap();
    let mut store = zero.backward().unwrap();
    store.insert(var, c.clone());
    drop_in.try_step(&store).unwrap();
}
