//! The contract of every optimizer, tested on one table of all of them.

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::Optimizer as _;
use lopt_adam::Adam;
use lopt_baselines::{AdamW, Sgd};
use lopt_blackbox::Blackbox;
use lopt_core::{
    Backend, DropIn, DropInConfig, Fused, Grads, LearnedOptimizer, NonFinite, Optimizer, Params,
    Purpose, State, StepContext, Streams, normal,
};
use lopt_meta::registry;
use lopt_online_scale::OnlineScale;
use lopt_star::{Config, Magnitude, Nominal, Star};
use lopt_tests::relative_error;

/// STAR with one setting changed and a nonzero last layer.
fn star(change: impl FnOnce(&mut Config)) -> Box<dyn LearnedOptimizer> {
    let mut config = Config::default();
    change(&mut config);
    let mut rng = Streams::new(1).stream(Purpose::ThetaInit, 0, 0, 0);
    Box::new(Star::init(config, 1.0, &mut rng).unwrap())
}

fn blackbox_with_online_scale() -> Box<dyn LearnedOptimizer> {
    let config = lopt_blackbox::Config {
        online_scale: Some(OnlineScale::default()),
        ..lopt_blackbox::Config::default()
    };
    Box::new(Blackbox::untrained().with_config(config).unwrap())
}

pub fn learned() -> Vec<(String, Box<dyn LearnedOptimizer>)> {
    let mut all: Vec<(String, Box<dyn LearnedOptimizer>)> = vec![
        ("blackbox".to_owned(), Box::new(Blackbox::untrained())),
        ("star untrained".to_owned(), Box::new(Star::untrained())),
        ("star".to_owned(), star(|_| {})),
        (
            "star without control".to_owned(),
            star(|c| c.magnitude_control = false),
        ),
        (
            "star without preconditioner".to_owned(),
            star(|c| c.precondition_blackbox = false),
        ),
        (
            "star without blackbox term".to_owned(),
            star(|c| c.blackbox_term = false),
        ),
        (
            "star per tensor".to_owned(),
            star(|c| {
                c.nominal_magnitude = Magnitude::PerTensor;
                c.blackbox_magnitude = Magnitude::PerTensor;
            }),
        ),
        (
            "star with another MLP".to_owned(),
            star(|c| c.hidden = vec![8]),
        ),
        (
            "star with three hidden layers".to_owned(),
            star(|c| c.hidden = vec![8, 4, 6]),
        ),
        (
            "star without a hidden layer".to_owned(),
            star(|c| c.hidden = vec![]),
        ),
        (
            "star with an online scale".to_owned(),
            star(|c| {
                c.online_scale = Some(OnlineScale {
                    gradient_rms: Some(0.01),
                    ..OnlineScale::default()
                })
            }),
        ),
        (
            "blackbox with an online scale".to_owned(),
            blackbox_with_online_scale(),
        ),
        (
            "star with wide layers".to_owned(),
            star(|c| c.hidden = vec![16, 16]),
        ),
    ];
    for kind in registry::LEARNED {
        let mut rng = Streams::new(2).stream(Purpose::ThetaInit, 0, 0, 0);
        let optimizer = kind.init(None, 1.0, &mut rng).unwrap();
        all.push((format!("{} of the registry", kind.name()), optimizer));
    }
    for nominal in [
        Nominal::Off,
        Nominal::Sgd,
        Nominal::Sgdm,
        Nominal::AggMo,
        Nominal::Adam,
    ] {
        all.push((
            format!("star nominal {nominal:?}"),
            star(|c| c.nominal = nominal),
        ));
    }
    all
}

/// Every optimizer with every switch.
pub fn all() -> Vec<(String, Box<dyn Optimizer>)> {
    let online = Adam {
        online_scale: Some(OnlineScale::default()),
        ..Adam::default()
    };
    let mut all: Vec<(String, Box<dyn Optimizer>)> = vec![
        ("adam".to_owned(), Box::new(Adam::default())),
        ("adam with an online scale".to_owned(), Box::new(online)),
        ("adamw".to_owned(), Box::new(AdamW::default())),
        ("sgd".to_owned(), Box::new(Sgd::default())),
    ];
    all.extend(
        learned()
            .into_iter()
            .map(|(name, o)| (name, o as Box<dyn Optimizer>)),
    );
    all
}

const SHAPES: [&[usize]; 9] = [
    &[],
    &[1],
    &[7],
    &[5, 3],
    &[4, 4],
    &[2, 3, 4],
    &[3, 3, 2, 8],
    &[0],
    &[3, 0, 2],
];

pub fn random(shape: &[usize], seed: u64, step: u64, scale: f32) -> Tensor {
    let mut rng = Streams::new(seed).stream(Purpose::Evaluation, step, 0, 0);
    let n = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|_| scale * normal(&mut rng)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn params() -> Params {
    let named = SHAPES.iter().enumerate();
    Params::new(named.map(|(i, shape)| (format!("p{i}"), random(shape, i as u64, 0, 1.0)))).unwrap()
}

fn grads(step: u64, scale: f32) -> Grads {
    let shapes = SHAPES.iter().enumerate();
    Grads::new(
        shapes
            .map(|(i, shape)| Some(random(shape, 100 + i as u64, step, scale)))
            .collect(),
    )
}

fn bits(tensors: &[Tensor]) -> Vec<Vec<u32>> {
    let bits = |t: &Tensor| {
        let values = t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.iter().map(|x| x.to_bits()).collect()
    };
    tensors.iter().map(bits).collect()
}

fn state_bits(state: &State) -> Vec<Vec<u32>> {
    let values = state.all_slots().map(|slot| slot.value.clone());
    bits(&values.collect::<Vec<_>>())
}

/// Gradients of ordinary, zero, huge and tiny magnitude.
const SCALES: [f32; 8] = [1.0, 0.0, 1e6, 1e-12, 1e17, 0.0, 1e-3, 1.0];

fn run(optimizer: &dyn Optimizer, steps: u64) -> (State, Params) {
    let mut params = params();
    let mut state = optimizer.init(&params).unwrap();
    for step in 0..steps {
        let grads = grads(step, SCALES[step as usize % SCALES.len()]);
        optimizer.step(&mut state, &mut params, &grads).unwrap();
    }
    (state, params)
}

#[test]
fn steps_are_finite_for_all_shapes_and_gradient_magnitudes() {
    for (name, optimizer) in all() {
        // Without normalization a huge gradient correctly makes a huge step.
        let (state, params) = run(&*optimizer, 8);
        assert_eq!(state.step, 8, "{name}");
        for (param, tensor) in params.iter() {
            let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(
                values.iter().all(|x| x.is_finite()),
                "{name}: {param} {values:?}"
            );
        }
    }
}

#[test]
fn the_same_input_gives_the_same_bits() {
    for (name, optimizer) in all() {
        let (first, second) = (run(&*optimizer, 5), run(&*optimizer, 5));
        assert_eq!(bits(first.1.tensors()), bits(second.1.tensors()), "{name}");
        assert_eq!(state_bits(&first.0), state_bits(&second.0), "{name}");
    }
}

#[test]
fn a_non_finite_gradient_is_rejected_by_name_and_changes_nothing() {
    for (name, optimizer) in all() {
        let (mut state, mut params) = run(&*optimizer, 2);
        let before = (bits(params.tensors()), state_bits(&state), state.step);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e19] {
            let mut tensors = grads(9, 1.0).tensors().to_vec();
            tensors[3] = Some(Tensor::full(bad, (5, 3), &Device::Cpu).unwrap());
            let error = optimizer
                .step(&mut state, &mut params, &Grads::new(tensors))
                .unwrap_err();
            assert!(
                error.is_bad_gradient() && error.to_string().contains("`p3`"),
                "{name}: {error}"
            );
        }
        let missing = Grads::new(vec![None; 2]);
        assert!(
            optimizer.step(&mut state, &mut params, &missing).is_err(),
            "{name}"
        );
        assert_eq!(
            before,
            (bits(params.tensors()), state_bits(&state), state.step),
            "{name}"
        );
    }
}

#[test]
fn a_parameter_without_gradient_is_unchanged() {
    for (name, optimizer) in all() {
        let mut params = params();
        let mut state = optimizer.init(&params).unwrap();
        let mut tensors = grads(0, 1.0).tensors().to_vec();
        tensors[4] = None;
        let before = (bits(params.tensors()), state_bits(&state));
        optimizer
            .step(&mut state, &mut params, &Grads::new(tensors))
            .unwrap();
        let after = (bits(params.tensors()), state_bits(&state));
        assert_eq!(before.0[4], after.0[4], "{name}");
        assert_ne!(before.0[3], after.0[3], "{name}");
    }
}

#[test]
fn a_loaded_state_continues_identically() {
    let folder = tempfile::tempdir().unwrap();
    for (name, optimizer) in all() {
        let path = folder.path().join("state.safetensors");
        let (mut state, mut params) = run(&*optimizer, 3);
        state.save(&*optimizer, &params, &path).unwrap();
        let mut loaded = optimizer.init(&params).unwrap();
        let rate = loaded.load(&*optimizer, &params, &path).unwrap();
        assert_eq!(rate, optimizer.learning_rate(), "{name}");
        let mut again = params.clone();
        let next = grads(3, 1.0);
        optimizer.step(&mut state, &mut params, &next).unwrap();
        optimizer.step(&mut loaded, &mut again, &next).unwrap();
        assert_eq!(bits(params.tensors()), bits(again.tensors()), "{name}");
        assert_eq!(
            (state.step, state_bits(&state)),
            (loaded.step, state_bits(&loaded)),
            "{name}"
        );
    }
}

#[test]
fn state_of_another_optimizer_or_model_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let (state, params) = run(&Adam::default(), 1);
    let adam = Adam::default();
    state.save(&adam, &params, &path).unwrap();
    let star = Star::untrained();
    let mut other = star.init(&params).unwrap();
    let error = other.load(&star, &params, &path).unwrap_err().to_string();
    assert!(
        error.contains("`adam`") && error.contains("`star`"),
        "{error}"
    );
    let smaller = Params::new([("p1".to_owned(), random(&[1], 0, 0, 1.0))]).unwrap();
    let mut of_smaller = Adam::default().init(&smaller).unwrap();
    let error = of_smaller
        .load(&adam, &smaller, &path)
        .unwrap_err()
        .to_string();
    assert!(error.contains("does not have"), "{error}");
    let larger = Params::new(
        params
            .iter()
            .map(|(n, t)| (n.to_owned(), t.clone()))
            .chain([("q".to_owned(), random(&[2], 0, 0, 1.0))]),
    );
    let larger = larger.unwrap();
    let mut of_larger = Adam::default().init(&larger).unwrap();
    let error = of_larger
        .load(&adam, &larger, &path)
        .unwrap_err()
        .to_string();
    assert!(error.contains("m/q"), "{error}");
}

#[test]
fn state_of_another_theta_is_rejected_and_the_rate_is_restored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let var = Var::new(&[1f32, 2.0], &Device::Cpu).unwrap();
    let make = |optimizer: Star| {
        let config = DropInConfig::new(optimizer);
        DropIn::with_names([("w".to_owned(), var.clone())], config).unwrap()
    };
    let mut saved = make(Star::untrained());
    saved.backward_step(&quadratic(&var)).unwrap();
    saved.set_learning_rate(0.3);
    saved.save_state(&path).unwrap();
    let mut same = make(Star::untrained());
    same.load_state(&path).unwrap();
    assert_eq!(same.learning_rate(), 0.3);
    let mut other = make(Star::pretrained());
    let error = other.load_state(&path).unwrap_err().to_string();
    assert!(error.contains("another θ"), "{error}");
    assert_eq!(other.learning_rate(), 1.0);
}

/// Settings out of range are errors that name them, and nothing changes.
#[test]
fn settings_out_of_range_are_told() {
    for (name, mut optimizer) in all() {
        let (mut state, mut params) = run(&*optimizer, 2);
        let before = (bits(params.tensors()), state_bits(&state));
        for rate in [f64::NAN, f64::INFINITY] {
            optimizer.set_learning_rate(rate);
            let error = optimizer.step(&mut state, &mut params, &grads(2, 1.0));
            let error = error.unwrap_err().to_string();
            assert!(
                error.contains(&format!("the learning rate is {rate}")),
                "{name}: {error}"
            );
            assert_eq!(
                before,
                (bits(params.tensors()), state_bits(&state)),
                "{name}"
            );
        }
    }
    let var = Var::new(&[1f32, 2.0], &Device::Cpu).unwrap();
    type Spoil = fn(&mut Adam);
    let adams: [(&str, Spoil); 8] = [
        ("β₁", |a| a.beta1 = 1.0),
        ("β₂", |a| a.beta2 = f64::NAN),
        ("β₂", |a| a.beta2 = -0.1),
        ("ε", |a| a.epsilon = -1e-8),
        ("lr", |a| a.learning_rate = f64::NAN),
        ("online-scale.initial", |a| {
            let scale = OnlineScale::default();
            a.online_scale = Some(OnlineScale {
                initial: 0.0,
                ..scale
            });
        }),
        ("online-scale.slope-limit", |a| {
            let scale = OnlineScale::default();
            a.online_scale = Some(OnlineScale {
                slope_limit: 1.0,
                ..scale
            });
        }),
        ("online-scale.gradient-rms", |a| {
            let scale = OnlineScale::default();
            a.online_scale = Some(OnlineScale {
                gradient_rms: Some(0.0),
                ..scale
            });
        }),
    ];
    for (name, spoil) in adams {
        let mut optimizer = Adam::default();
        spoil(&mut optimizer);
        let config = DropInConfig::new(optimizer);
        let error = DropIn::new(vec![var.clone()], config)
            .unwrap_err()
            .to_string();
        assert!(error.contains(name), "{error}");
    }
    // What cannot be read again is not written.
    let theta = Star::untrained().theta().clone();
    let count = theta.values().len();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("theta.safetensors");
    let error = theta
        .with_values(vec![f32::NAN; count])
        .unwrap()
        .save(&path);
    assert!(error.unwrap_err().to_string().contains("NaN") && !path.exists());
}

/// One type for all parameters of a learned optimizer, and for each gradient that of its parameter.
#[test]
fn other_types_are_told() {
    let zeros = |dtype| Tensor::zeros(2, dtype, &Device::Cpu).unwrap();
    let mixed = [
        ("a".to_owned(), zeros(DType::F32)),
        ("b".to_owned(), zeros(DType::F64)),
    ];
    let mixed = Params::new(mixed).unwrap();
    let error = Star::untrained().init(&mixed).unwrap_err().to_string();
    assert!(error.contains("`a` has type F32 and `b` F64"), "{error}");
    Adam::default().init(&mixed).unwrap();
    for (name, optimizer) in all() {
        let (mut state, mut params) = run(&*optimizer, 1);
        let right = grads(1, 1.0);
        let wrong = right.tensors().iter().map(|g| {
            let wrong = g.as_ref().map(|g| g.to_dtype(DType::F64));
            wrong.transpose().unwrap()
        });
        let wrong = Grads::new(wrong.collect());
        let error = optimizer
            .step(&mut state, &mut params, &wrong)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("has type F64, but the parameter has F32"),
            "{name}: {error}"
        );
    }
}

/// Adam corrects by its own number of steps, so a late first step is longer than lr.
#[test]
fn a_late_first_gradient_moves_further() {
    let start = || random(&[4], 0, 0, 1.0);
    let mut params = Params::new([("a".to_owned(), start()), ("b".to_owned(), start())]).unwrap();
    let adam = Adam::default();
    let mut state = adam.init(&params).unwrap();
    let g = Tensor::ones(4, DType::F32, &Device::Cpu).unwrap();
    for step in 0..10_001 {
        let late = (step == 10_000).then(|| g.clone());
        let grads = Grads::new(vec![Some(g.clone()), late]);
        adam.step(&mut state, &mut params, &grads).unwrap();
    }
    let moved = (start() - params.get("b").unwrap()).unwrap();
    for x in moved.to_vec1::<f32>().unwrap() {
        // (1 − β₁)/√(1 − β₂) · lr
        assert!((x - 3.162e-3).abs() < 1e-5, "{x}");
    }
}

#[test]
fn the_learning_rate_scales_the_step() {
    for (name, mut optimizer) in all() {
        let step = |optimizer: &dyn Optimizer| {
            let start = params();
            let mut params = start.clone();
            let mut state = optimizer.init(&params).unwrap();
            optimizer
                .step(&mut state, &mut params, &grads(0, 1.0))
                .unwrap();
            let moved = (params.get("p3").unwrap() - start.get("p3").unwrap()).unwrap();
            moved.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let one = step(&*optimizer);
        optimizer.set_learning_rate(100.0 * optimizer.learning_rate());
        for (a, b) in one.iter().zip(step(&*optimizer)) {
            // Both are differences of numbers of magnitude 1.
            assert!(
                (100.0 * a - b).abs() <= 2e-5 + 1e-4 * b.abs(),
                "{name}: {a} {b}"
            );
        }
    }
}

/// ½·|φ − 1|², differentiated by candle.
fn quadratic(var: &Var) -> Tensor {
    (var.as_tensor() - 1.0)
        .unwrap()
        .sqr()
        .unwrap()
        .sum_all()
        .unwrap()
}

#[test]
fn the_drop_in_takes_the_functional_steps_and_reduces_the_loss() {
    fn check<O: Optimizer + Clone>(optimizer: O, goes_down: bool) {
        let start = random(&[5, 3], 0, 0, 1.0);
        let var = Var::from_tensor(&start).unwrap();
        let config = DropInConfig::new(optimizer.clone());
        let mut drop_in = DropIn::new(vec![var.clone()], config).unwrap();
        let mut params = Params::new([("w".to_owned(), start)]).unwrap();
        let mut state = optimizer.init(&params).unwrap();
        let first = quadratic(&var).to_scalar::<f32>().unwrap();
        for _ in 0..200 {
            let store = quadratic(&var).backward().unwrap();
            let grads = Grads::new(vec![store.get(&var).cloned()]);
            optimizer.step(&mut state, &mut params, &grads).unwrap();
            drop_in.step(&store).unwrap();
            // Kernels and candle ops round differently.
            let error = relative_error(var.as_tensor(), &params.tensors()[0]);
            assert!(error < 1e-5, "{}: {error:e}", optimizer.kind());
        }
        let last = quadratic(&var).to_scalar::<f32>().unwrap();
        assert!(
            !goes_down || last < first,
            "{}: {first} → {last}",
            optimizer.kind()
        );
    }
    check(Adam::default(), true);
    check(AdamW::default(), true);
    check(Sgd::default(), true);
    check(Star::untrained(), true);
    // An untrained blackbox need not reduce the loss.
    check(Blackbox::untrained(), false);
}

#[test]
fn the_drop_in_rejects_or_skips_non_finite_gradients() {
    let var = Var::new(&[1f32, 2.0], &Device::Cpu).unwrap();
    let bad = (var.as_tensor() * f64::NAN)
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap();
    let good = quadratic(&var).backward().unwrap();
    let make = |non_finite| {
        let config = DropInConfig {
            non_finite,
            ..DropInConfig::new(Star::untrained())
        };
        DropIn::with_names([("layer.weight".to_owned(), var.clone())], config).unwrap()
    };
    let mut refusing = make(NonFinite::Refuse);
    let error = refusing.step(&bad).unwrap_err().to_string();
    assert!(
        error.contains("`layer.weight`") && error.contains("NaN"),
        "{error}"
    );
    let before = bits(&[var.as_detached_tensor()]);
    let mut skipping = make(NonFinite::Skip);
    skipping.step(&bad).unwrap();
    assert_eq!(
        (skipping.skipped_steps().unwrap(), &before),
        (1, &bits(&[var.as_detached_tensor()]))
    );
    skipping.step(&good).unwrap();
    assert_ne!(before, bits(&[var.as_detached_tensor()]));
}

/// The gradient shares the memory of its parameter.
#[test]
fn views_of_one_tensor_are_trained() {
    let both = random(&[2, 5], 0, 0, 1.0);
    let view = |row: usize| both.narrow(0, row, 1).unwrap();
    let params = Params::new([("w".to_owned(), view(0))]).unwrap();
    let grads = Grads::new(vec![Some(view(1))]);
    let star = Star::untrained();
    let mut fused = Fused::new(&star, &params).unwrap().unwrap();
    let copy = params.with_tensors(vec![view(0).copy().unwrap()]).unwrap();
    let gradient = Grads::new(vec![Some(view(1).copy().unwrap())]);
    let mut own = Fused::new(&star, &copy).unwrap().unwrap();
    let context = StepContext::new(0, 1.0);
    fused.step(&star, &context, &params, &grads).unwrap();
    own.step(&star, &context, &copy, &gradient).unwrap();
    assert_eq!(bits(params.tensors()), bits(copy.tensors()));
}

#[test]
fn the_drop_in_saves_its_state_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let vars = || {
        ["b", "a"].map(|name| {
            (
                name.to_owned(),
                Var::new(&[1f32, 2.0, 3.0], &Device::Cpu).unwrap(),
            )
        })
    };
    let step = |drop_in: &mut DropIn<Star>, vars: &[(String, Var)]| {
        let loss = (quadratic(&vars[0].1) + (quadratic(&vars[1].1) * 3.0).unwrap()).unwrap();
        drop_in.backward_step(&loss).unwrap();
    };
    let first = vars();
    let mut drop_in = DropIn::with_names(first.clone(), DropInConfig::<Star>::default()).unwrap();
    step(&mut drop_in, &first);
    drop_in.save_state(&path).unwrap();

    // The same variables in another order, as a `VarMap` may return them.
    let mut second = first
        .clone()
        .map(|(name, var)| (name, Var::from_tensor(&var).unwrap()));
    second.reverse();
    let mut other = DropIn::with_names(second.clone(), DropInConfig::<Star>::default()).unwrap();
    other.load_state(&path).unwrap();
    step(&mut drop_in, &first);
    second.reverse();
    step(&mut other, &second);
    for ((_, a), (_, b)) in first.iter().zip(&second) {
        assert_eq!(
            bits(&[a.as_detached_tensor()]),
            bits(&[b.as_detached_tensor()])
        );
    }

    let nameless = first.iter().map(|(_, var)| var.clone()).collect();
    let nameless: DropIn<Star> = DropIn::new(nameless, DropInConfig::default()).unwrap();
    let error = nameless.save_state(&path).unwrap_err().to_string();
    assert!(error.contains("names"), "{error}");
}

/// With the nominal term and the preconditioner off, STAR is the blackbox.
#[test]
fn star_switched_off_is_the_blackbox_bit_for_bit() {
    let blackbox = Blackbox::init(
        lopt_blackbox::Config::default(),
        1.0,
        &mut Streams::new(3).stream(Purpose::ThetaInit, 0, 0, 0),
    )
    .unwrap();
    let star = star(|c| {
        c.nominal = Nominal::Off;
        c.precondition_blackbox = false;
    });
    assert_eq!(star.theta().values().len(), 197);
    let star = star
        .with_values(blackbox.theta().values().to_vec())
        .unwrap();
    let (of_star, of_blackbox) = (run(&*star, 8), run(&blackbox, 8));
    assert_eq!(bits(of_star.1.tensors()), bits(of_blackbox.1.tensors()));
    assert_eq!(state_bits(&of_star.0), state_bits(&of_blackbox.0));
}

/// Compares the gradient of the candle-op update with respect to θ with central differences in
/// f64, after three steps, for weights, biases and decay offsets.
#[test]
fn the_update_is_differentiable_in_theta() {
    let cpu = &Device::Cpu;
    for (name, optimizer) in learned() {
        let after_three_steps = |theta: &[Tensor]| {
            let named = [("w", vec![4, 3]), ("b", vec![3])].map(|(name, shape)| {
                (
                    name.to_owned(),
                    random(&shape, 7, 0, 1.0).to_dtype(DType::F64).unwrap(),
                )
            });
            let mut params = Params::new(named).unwrap();
            let mut state = optimizer.init(&params).unwrap();
            for step in 0..3 {
                let grads = [vec![3], vec![4, 3]]
                    .map(|shape| Some(random(&shape, 8, step, 1.0).to_dtype(DType::F64).unwrap()));
                optimizer
                    .update_with(
                        theta,
                        &StepContext::new(step, 1.0),
                        &mut state,
                        &mut params,
                        &Grads::new(grads.into()),
                    )
                    .unwrap();
            }
            let sums = params
                .tensors()
                .iter()
                .map(|p| p.sqr().unwrap().sum_all().unwrap());
            sums.reduce(|a, b| (a + b).unwrap()).unwrap()
        };
        // Biases of exactly 0 would be at the kink of ReLU.
        let mut rng = Streams::new(2).stream(Purpose::ThetaInit, 0, 0, 0);
        let moved = optimizer
            .theta()
            .values()
            .iter()
            .map(|w| w + 0.02 * normal(&mut rng))
            .collect();
        let values = optimizer
            .with_values(moved)
            .unwrap()
            .theta()
            .tensors(DType::F64, cpu)
            .unwrap();
        let vars: Vec<Var> = values
            .iter()
            .map(|t| Var::from_tensor(t).unwrap())
            .collect();
        let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let store = after_three_steps(&tensors).backward().unwrap();
        for (part, (part_name, ..)) in optimizer.theta().layout().parts().enumerate() {
            let shape = values[part].shape();
            let Some(gradient) = store.get(&vars[part]) else {
                continue; // heads that the switches leave without effect
            };
            let gradient = gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            let h = 1e-5;
            let at = |index: usize, shift: f64| {
                let mut part_values = values[part]
                    .flatten_all()
                    .unwrap()
                    .to_vec1::<f64>()
                    .unwrap();
                part_values[index] += shift;
                let mut theta = values.clone();
                theta[part] = Tensor::from_vec(part_values, shape, cpu).unwrap();
                after_three_steps(&theta).to_scalar::<f64>().unwrap()
            };
            for index in [0, gradient.len() - 1] {
                let difference = (at(index, h) - at(index, -h)) / (2.0 * h);
                let error = (gradient[index] - difference).abs();
                // The difference of two f64 of magnitude 10, divided by 2h, is exact to 1e-10.
                let tolerance = 1e-4 * difference.abs() + 1e-9;
                assert!(
                    error <= tolerance,
                    "{name} {part_name}[{index}]: {} {difference}",
                    gradient[index]
                );
            }
        }
    }
}

/// Runs thousands of steps with candle's gradients; no tensor may keep the graph of earlier steps.
/// (A graph of 5,000 chained steps overflows the stack when it is dropped.)
#[test]
fn a_long_training_run_does_not_keep_its_history() {
    for optimizer in [
        Box::new(Adam::default()) as Box<dyn Optimizer>,
        Box::new(AdamW::default()),
        Box::new(Sgd::default()),
        Box::new(Star::untrained()),
        Box::new(Blackbox::untrained()),
    ] {
        let named = [("w0", [3, 4]), ("w1", [4, 2])];
        let named = named.map(|(name, shape)| (name.to_owned(), random(&shape, 0, 0, 1.0)));
        let mut params = Params::new(named).unwrap();
        let mut state = optimizer.init(&params).unwrap();
        let x = random(&[5, 3], 1, 0, 1.0);
        for _ in 0..3 {
            let vars = params.to_vars().unwrap();
            let hidden = x.matmul(&vars[0]).unwrap().relu().unwrap();
            let loss = hidden
                .matmul(&vars[1])
                .unwrap()
                .sqr()
                .unwrap()
                .sum_all()
                .unwrap();
            let grads = Grads::from_store(&vars, &loss.backward().unwrap());
            optimizer.step(&mut state, &mut params, &grads).unwrap();
            let slots = state.slots.iter().flatten().map(|slot| &slot.value);
            for tensor in params.tensors().iter().chain(slots) {
                assert!(!tensor.track_op(), "{}", optimizer.kind());
            }
        }
    }
}
