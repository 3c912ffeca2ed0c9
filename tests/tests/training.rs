//! What training loops need, for every optimizer: clipping, decay, groups, schedules, accumulation,
//! loss scales, variables of any float type, and one file with all of it.

use candle_core::{DType, Device, Tensor, Var, backprop::GradStore};
use candle_nn::Optimizer as _;
use lopt_adam::Adam;
use lopt_core::{
    Clip, DropIn, DropInConfig, Group, LearnedOptimizer, LossScale, NonFinite, Optimizer, Purpose,
    Schedule, Streams, normal,
};
use lopt_star::Star;
use lopt_tests::relative_error;

use crate::contract::all;

type Boxed = Box<dyn Optimizer>;

/// The makers of all optimizers, by name: each test needs several of each.
fn each(test: impl Fn(&str, &dyn Fn() -> Boxed)) {
    let count = all().len();
    for index in 0..count {
        let make = || all().swap_remove(index).1;
        test(&all()[index].0, &make);
    }
}

const SHAPES: [(&str, &[usize]); 3] = [("b", &[3]), ("w", &[5, 3]), ("z", &[2, 2, 4])];

fn random(shape: &[usize], seed: u64, dtype: DType) -> Tensor {
    let mut rng = Streams::new(seed).stream(Purpose::InnerBatch, 0, 0, 0);
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|_| normal(&mut rng)).collect();
    let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
    tensor.to_dtype(dtype).unwrap()
}

/// A network of three variables.
struct Model {
    vars: Vec<Var>,
}

impl Model {
    fn new(dtype: DType) -> Self {
        let var = |(seed, (_, shape)): (u64, &(&str, &[usize]))| {
            Var::from_tensor(&random(shape, seed, dtype)).unwrap()
        };
        Self {
            vars: (0..).zip(&SHAPES).map(var).collect(),
        }
    }

    fn optimizer<O: Optimizer>(&self, config: DropInConfig<O>) -> DropIn<O> {
        self.try_optimizer(config).unwrap()
    }

    fn try_optimizer<O: Optimizer>(&self, config: DropInConfig<O>) -> lopt_core::Result<DropIn<O>> {
        let names = SHAPES.iter().map(|(name, _)| (*name).to_owned());
        DropIn::with_names(names.zip(self.vars.iter().cloned()), config)
    }

    /// A loss whose gradients are those of `step`, times a factor.
    fn loss(&self, step: u64, factor: f64) -> Tensor {
        let terms = self.vars.iter().enumerate().map(|(index, var)| {
            let grad = self.gradient(step, index);
            ((var.as_tensor() * &grad).unwrap() * factor)
                .unwrap()
                .sum_all()
                .unwrap()
        });
        terms.reduce(|a, b| (a + b).unwrap()).unwrap()
    }

    /// Rounded, so that f16 and sums represent it exactly.
    fn gradient(&self, step: u64, index: usize) -> Tensor {
        let var = &self.vars[index];
        let exact = random(var.dims(), 100 + 10 * step + index as u64, DType::F64);
        let rounded = ((exact * 64.0).unwrap().round().unwrap() / 64.0).unwrap();
        rounded.to_dtype(var.dtype()).unwrap()
    }

    fn grads(&self, step: u64, factor: f64) -> GradStore {
        self.loss(step, factor).backward().unwrap()
    }

    fn values(&self) -> Vec<Vec<f64>> {
        let values = |var: &Var| {
            let flat = var.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
            flat.to_vec1().unwrap()
        };
        self.vars.iter().map(values).collect()
    }

    fn assert_near(&self, other: &Model, most: f64, what: &str) {
        for (a, b) in self.vars.iter().zip(&other.vars) {
            let error = relative_error(a.as_tensor(), b.as_tensor());
            assert!(error <= most, "{what}: {error:e}");
        }
    }
}

const TYPES: [DType; 2] = [DType::F32, DType::F64];

#[test]
fn gradients_are_clipped_by_their_norm_or_by_value() {
    each(|name, make| {
        for dtype in TYPES {
            let (clipped, plain) = (Model::new(dtype), Model::new(dtype));
            let squares = (0..SHAPES.len()).map(|index| {
                let grad = plain.gradient(0, index).to_dtype(DType::F64).unwrap();
                grad.sqr()
                    .unwrap()
                    .sum_all()
                    .unwrap()
                    .to_scalar::<f64>()
                    .unwrap()
            });
            let norm = squares.sum::<f64>().sqrt();
            let mut with_clip = clipped.optimizer(DropInConfig {
                clip: Some(Clip::GlobalNorm(norm / 4.0)),
                ..DropInConfig::new(make())
            });
            let mut without = plain.optimizer(DropInConfig::new(make()));
            with_clip.step(&clipped.grads(0, 1.0)).unwrap();
            without.step(&plain.grads(0, 0.25)).unwrap();
            clipped.assert_near(&plain, 1e-6, name);
            // Within the limit nothing changes.
            with_clip.step(&clipped.grads(0, 0.125)).unwrap();
            without.step(&plain.grads(0, 0.125)).unwrap();
            clipped.assert_near(&plain, 1e-6, name);
        }
    });
    // The first step of SGD is the gradient.
    let model = Model::new(DType::F32);
    let before = model.values();
    let mut sgd = model.optimizer(DropInConfig {
        clip: Some(Clip::Value(0.25)),
        ..DropInConfig::new(lopt_baselines::Sgd::new(1.0))
    });
    sgd.step(&model.grads(0, 1.0)).unwrap();
    for (index, (before, after)) in before.iter().zip(model.values()).enumerate() {
        let grad = model.gradient(0, index).flatten_all().unwrap();
        let grad = grad.to_vec1::<f32>().unwrap();
        for ((before, after), g) in before.iter().zip(after).zip(grad) {
            let limited = f64::from(g.clamp(-0.25, 0.25));
            assert!((before - after - limited).abs() < 1e-6);
        }
    }
}

/// Half of the gradients, twice, is one step with the mean.
#[test]
fn gradients_are_accumulated() {
    each(|name, make| {
        for dtype in TYPES {
            let (parts, whole) = (Model::new(dtype), Model::new(dtype));
            let mut accumulating = parts.optimizer(DropInConfig {
                accumulate: 2,
                ..DropInConfig::new(make())
            });
            let mut plain = whole.optimizer(DropInConfig::new(make()));
            for step in 0..3 {
                let before = parts.values();
                accumulating.step(&parts.grads(step, 0.5)).unwrap();
                assert_eq!(parts.values(), before, "{name}");
                accumulating.step(&parts.grads(step, 1.5)).unwrap();
                plain.step(&whole.grads(step, 1.0)).unwrap();
            }
            assert_eq!(parts.values(), whole.values(), "{name}");
        }
    });
}

/// The steps of a group are multiplied, and its parameters decay; the others do not notice.
#[test]
fn groups_have_their_own_factor_and_decay() {
    each(|name, make| {
        for dtype in TYPES {
            let (grouped, plain) = (Model::new(dtype), Model::new(dtype));
            let before = plain.values();
            let mut of_groups = grouped.optimizer(DropInConfig {
                weight_decay: 0.25,
                groups: vec![
                    Group::new("half", |name, _| name == "w")
                        .factor(0.5)
                        .weight_decay(0.0),
                    Group::new("vectors", |_, shape| shape.len() <= 1).weight_decay(0.0),
                ],
                ..DropInConfig::new(make())
            });
            let mut without = plain.optimizer(DropInConfig::new(make()));
            let rate = without.learning_rate();
            of_groups.step(&grouped.grads(0, 1.0)).unwrap();
            without.step(&plain.grads(0, 1.0)).unwrap();
            let (found, plain) = (grouped.values(), plain.values());
            assert_eq!(found[0], plain[0], "{name}: no decay of vectors");
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * (1.0 + b.abs());
            for (index, &before) in before[1].iter().enumerate() {
                let half = before + 0.5 * (plain[1][index] - before);
                assert!(near(found[1][index], half), "{name}");
            }
            // The step of STAR and the like does not depend on the value of the parameter much.
            for (index, &before) in before[2].iter().enumerate() {
                let step = found[2][index] - (1.0 - 0.25 * rate) * before;
                let plain = plain[2][index] - before;
                let most = 0.3 * plain.abs() + 1e-6;
                assert!((step - plain).abs() <= most, "{name}: {step} {plain}");
            }
            assert!(of_groups.set_factor("none", 0.0).is_err());
            of_groups.set_factor("half", 0.0).unwrap();
            let w = grouped.values()[1].clone();
            of_groups.step(&grouped.grads(1, 1.0)).unwrap();
            assert_eq!(grouped.values()[1], w, "{name}");
        }
    });
}

#[test]
fn adam_with_decay_is_candles_adamw() {
    let (ours, theirs) = (Model::new(DType::F32), Model::new(DType::F32));
    let mut adam = ours.optimizer(DropInConfig {
        weight_decay: 0.1,
        ..DropInConfig::new(Adam::new(0.01))
    });
    let params = candle_nn::ParamsAdamW {
        lr: 0.01,
        weight_decay: 0.1,
        ..candle_nn::ParamsAdamW::default()
    };
    let mut adamw = candle_nn::AdamW::new(theirs.vars.clone(), params).unwrap();
    for step in 0..50 {
        adam.step(&ours.grads(step, 1.0)).unwrap();
        adamw.step(&theirs.grads(step, 1.0)).unwrap();
    }
    ours.assert_near(&theirs, 1e-6, "AdamW");
}

/// The figures in the documentation of `state_bytes`.
#[test]
fn the_state_has_the_documented_size() {
    fn bytes<O: Optimizer>(optimizer: O, shape: &[usize]) -> usize {
        let var = Var::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let named = [("w".to_owned(), var)];
        let drop_in = DropIn::with_names(named, DropInConfig::new(optimizer)).unwrap();
        drop_in.state_bytes().unwrap()
    }
    let n = 30 * 20;
    let scale = 4 * n + 96 + 104;
    let shape = [30, 20];
    let matrix = 16 * n + 12 * (30 + 20);
    assert_eq!(bytes(Star::pretrained(), &shape), matrix + scale);
    assert_eq!(bytes(lopt_star::paper(), &shape), matrix);
    assert_eq!(bytes(lopt_blackbox::paper(), &[n]), 28 * n);
    let high = 16 * n + 12 * (n / 10 + n / 6);
    assert_eq!(bytes(lopt_star::paper(), &[2, 10, 5, 6]), high);
    assert_eq!(bytes(Adam::new(0.1), &shape), 8 * n);
    assert_eq!(bytes(lopt_baselines::Sgd::new(0.1), &shape), 4 * n);
}

#[test]
fn frozen_variables_have_no_state() {
    let model = Model::new(DType::F32);
    let before = model.values();
    let mut some = model.optimizer(DropInConfig {
        groups: vec![Group::new("all but w", |name, _| name != "w").frozen()],
        ..DropInConfig::new(Adam::new(0.1))
    });
    some.step(&model.grads(0, 1.0)).unwrap();
    let after = model.values();
    assert_eq!((&after[0], &after[2]), (&before[0], &before[2]));
    assert_ne!(after[1], before[1]);
    assert_eq!(some.state_bytes().unwrap(), 2 * 4 * 15);
}

/// A group that would silently do nothing.
#[test]
fn groups_that_cannot_be_meant_are_refused() {
    let model = Model::new(DType::F32);
    let error = |groups: Vec<Group>| {
        let config = DropInConfig {
            groups,
            ..DropInConfig::new(Adam::new(0.1))
        };
        model.try_optimizer(config).unwrap_err().to_string()
    };
    let backbone = || Group::new("backbone", |name, _| name.starts_with("backbone.")).frozen();
    let message = error(vec![backbone()]);
    assert!(
        message.contains("`backbone`") && message.contains("from_var_map"),
        "{message}"
    );
    // The first group takes all.
    let message = error(vec![
        Group::new("all", |_, _| true),
        Group::new("w", |_, _| true).frozen(),
    ]);
    assert!(message.contains("the groups before it"), "{message}");
    let twice = || Group::new("vectors", |_, shape| shape.len() <= 1);
    let message = error(vec![twice(), twice().factor(0.1)]);
    assert!(
        message.contains("two groups are named `vectors`"),
        "{message}"
    );

    let mut frozen = model.optimizer(DropInConfig {
        groups: vec![Group::new("all but w", |name, _| name != "w").frozen()],
        ..DropInConfig::new(Adam::new(0.1))
    });
    let message = frozen.set_factor("all but w", 0.5).unwrap_err().to_string();
    assert!(message.contains("is frozen"), "{message}");
}

/// A schedule is a learning rate that is set before each step.
#[test]
fn schedules_set_the_rate_of_each_step() {
    let halves = |step: u64| 1.0 / (1.0 + step as f64);
    each(|name, make| {
        let (scheduled, by_hand) = (Model::new(DType::F32), Model::new(DType::F32));
        let mut with_schedule = scheduled.optimizer(DropInConfig {
            schedule: Schedule::own(halves),
            ..DropInConfig::new(make())
        });
        let mut without = by_hand.optimizer(DropInConfig::new(make()));
        let rate = without.learning_rate();
        for step in 0..4 {
            without.set_learning_rate(rate * halves(step));
            with_schedule.step(&scheduled.grads(step, 1.0)).unwrap();
            without.step(&by_hand.grads(step, 1.0)).unwrap();
        }
        assert_eq!(scheduled.values(), by_hand.values(), "{name}");
        assert_eq!(with_schedule.learning_rate(), rate, "{name}");
    });
}

#[test]
fn a_loss_scale_changes_nothing_but_skips_what_overflows() {
    each(|name, make| {
        let (scaled, plain) = (Model::new(DType::F32), Model::new(DType::F32));
        let mut with_scale = scaled.optimizer(DropInConfig {
            loss_scale: Some(LossScale {
                initial: 1024.0,
                growth_interval: 2,
            }),
            ..DropInConfig::new(make())
        });
        let mut without = plain.optimizer(DropInConfig::new(make()));
        for (step, scale) in [(0, 1024.0), (1, 1024.0), (2, 2048.0)] {
            assert_eq!(with_scale.loss_scale(), scale, "{name}");
            with_scale.backward_step(&scaled.loss(step, 1.0)).unwrap();
            without.backward_step(&plain.loss(step, 1.0)).unwrap();
        }
        assert_eq!(scaled.values(), plain.values(), "{name}");
        with_scale
            .backward_step(&scaled.loss(3, f64::INFINITY))
            .unwrap();
        assert_eq!(scaled.values(), plain.values(), "{name}");
        assert_eq!(
            (with_scale.loss_scale(), with_scale.skipped_steps().unwrap()),
            (1024.0, 1),
            "{name}"
        );
    });
}

/// Variables in half precision are their f32 copy, rounded, so that small steps are not lost.
#[test]
fn variables_in_half_precision_follow_their_copy() {
    each(|name, make| {
        for dtype in [DType::F16, DType::BF16] {
            let (half, full) = (Model::new(dtype), Model::new(DType::F32));
            for (half, full) in half.vars.iter().zip(&full.vars) {
                full.set(&half.to_dtype(DType::F32).unwrap()).unwrap();
            }
            let mut of_half = half.optimizer(DropInConfig::new(make()));
            let mut of_full = full.optimizer(DropInConfig::new(make()));
            for step in 0..20 {
                let coarse = half.grads(step, 1.0);
                of_half.step(&coarse).unwrap();
                // The same gradients.
                let mut store = full.grads(step, 1.0);
                for (half, full) in half.vars.iter().zip(&full.vars) {
                    let grad = coarse.get(half).unwrap().to_dtype(DType::F32).unwrap();
                    store.insert(full, grad);
                }
                of_full.step(&store).unwrap();
            }
            for (half, full) in half.vars.iter().zip(&full.vars) {
                let rounded = full.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap();
                let half = half.to_dtype(DType::F32).unwrap();
                assert_eq!(relative_error(&half, &rounded), 0.0, "{name}");
            }
            let copies = 4 * SHAPES
                .iter()
                .map(|(_, s)| s.iter().product::<usize>())
                .sum::<usize>();
            let bytes = (
                of_half.state_bytes().unwrap(),
                of_full.state_bytes().unwrap(),
            );
            assert_eq!(bytes.0, bytes.1 + copies, "{name}");
        }
    });
}

#[test]
fn variables_of_several_types_are_trained_in_f64() {
    each(|name, make| {
        let (mixed, full) = (Model::new(DType::F64), Model::new(DType::F64));
        let single = full.vars[1].to_dtype(DType::F32).unwrap();
        full.vars[1]
            .set(&single.to_dtype(DType::F64).unwrap())
            .unwrap();
        let mixed = Model {
            vars: vec![
                mixed.vars[0].clone(),
                Var::from_tensor(&single).unwrap(),
                mixed.vars[2].clone(),
            ],
        };
        let mut of_mixed = mixed.optimizer(DropInConfig::new(make()));
        let mut of_full = full.optimizer(DropInConfig::new(make()));
        let part = |model: &Model, index: usize, step| {
            let var = &model.vars[index];
            (var.as_tensor() * model.gradient(step, index))
                .unwrap()
                .sum_all()
                .unwrap()
        };
        for step in 0..5 {
            let mut store = part(&mixed, 0, step).backward().unwrap();
            for index in 1..3 {
                let of_one = part(&mixed, index, step).backward().unwrap();
                let var = &mixed.vars[index];
                store.insert(var, of_one.get(var).unwrap().clone());
            }
            of_mixed.step(&store).unwrap();
            of_full.step(&full.grads(step, 1.0)).unwrap();
        }
        let rounded = full.vars[1].to_dtype(DType::F32).unwrap();
        assert_eq!(
            relative_error(mixed.vars[1].as_tensor(), &rounded),
            0.0,
            "{name}"
        );
        assert_eq!(mixed.values()[0], full.values()[0], "{name}");
    });
}

/// Saved in the middle of an accumulation, a training continues with the same bits.
#[test]
fn one_file_has_all_of_the_training() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    each(|name, make| {
        for dtype in [DType::F32, DType::BF16, DType::F64] {
            let model = Model::new(dtype);
            let config = || DropInConfig {
                accumulate: 3,
                clip: Some(Clip::GlobalNorm(1.0)),
                schedule: Schedule::Linear {
                    warm_up: 2,
                    steps: 6,
                    end: 0.1,
                },
                weight_decay: 0.01,
                groups: vec![Group::new("w", |name, _| name == "w").factor(0.5)],
                loss_scale: Some(LossScale {
                    initial: 8.0,
                    growth_interval: 2,
                }),
                ..DropInConfig::new(make())
            };
            let mut first = model.optimizer(config());
            first.set_factor("w", 0.25).unwrap();
            let steps = |optimizer: &mut DropIn<Boxed>, model: &Model, steps| {
                for step in steps {
                    optimizer.backward_step(&model.loss(step, 1.0)).unwrap();
                }
            };
            steps(&mut first, &model, 0..10);
            first.save_state(&path).unwrap();
            let resumed = Model::new(dtype);
            for (var, saved) in resumed.vars.iter().zip(&model.vars) {
                var.set(saved).unwrap();
            }
            let mut second = resumed.optimizer(config());
            second.load_state(&path).unwrap();
            assert_eq!(second.loss_scale(), first.loss_scale());
            steps(&mut first, &model, 10..20);
            steps(&mut second, &resumed, 10..20);
            assert_eq!(model.values(), resumed.values(), "{name}");
            assert_eq!(second.state_bytes().unwrap(), first.state_bytes().unwrap());

            let mut other = resumed.optimizer(DropInConfig {
                groups: vec![],
                ..config()
            });
            let error = other.load_state(&path).unwrap_err().to_string();
            assert!(
                error.contains("with the groups `w`; the optimizer has the groups (none)"),
                "{error}"
            );
        }
    });
    // Another θ is accepted only where it is asked for.
    let model = Model::new(DType::F32);
    let untrained = model.optimizer(DropInConfig::new(Star::untrained()));
    untrained.save_state(&path).unwrap();
    let other = Star::untrained().with_values(vec![0.01; 202]).unwrap();
    let mut other = model.optimizer(DropInConfig::new(other));
    let error = other.load_state(&path).unwrap_err().to_string();
    assert!(error.contains("another θ"), "{error}");
    assert!(error.contains("load_state_of_other_theta"), "{error}");
    other.load_state_of_other_theta(&path).unwrap();
    // Variables of another type, both ways.
    for (saved, loaded) in [(DType::F32, DType::BF16), (DType::BF16, DType::F32)] {
        let (saved, loaded) = (Model::new(saved), Model::new(loaded));
        let adam = || DropInConfig::new(Adam::new(0.1));
        saved.optimizer(adam()).save_state(&path).unwrap();
        let error = loaded.optimizer(adam()).load_state(&path).unwrap_err();
        assert!(error.to_string().contains("had another type"), "{error}");
    }
}

#[test]
fn settings_out_of_range_are_named() {
    let model = Model::new(DType::F32);
    type Spoil = fn(&mut DropInConfig<Adam>);
    let spoiled: [(&str, Spoil); 8] = [
        ("`clip` is 0", |c| c.clip = Some(Clip::Value(0.0))),
        ("`clip` is NaN", |c| {
            c.clip = Some(Clip::GlobalNorm(f64::NAN))
        }),
        ("decay is -1", |c| c.weight_decay = -1.0),
        ("decay is inf", |c| {
            c.groups = vec![Group::new("g", |_, _| true).weight_decay(f64::INFINITY)];
        }),
        ("`g` is NaN", |c| {
            c.groups = vec![Group::new("g", |_, _| true).factor(f64::NAN)]
        }),
        ("`accumulate` is 0", |c| c.accumulate = 0),
        ("factor -1", |c| {
            c.schedule = Schedule::Cosine {
                warm_up: 0,
                steps: 1,
                end: -1.0,
            };
        }),
        ("loss scale starts at 0", |c| {
            c.loss_scale = Some(LossScale {
                initial: 0.0,
                growth_interval: 1,
            });
        }),
    ];
    for (words, spoil) in spoiled {
        let mut config = DropInConfig::new(Adam::default());
        spoil(&mut config);
        let error = DropIn::new(model.vars.clone(), config)
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
    // A schedule that is not finite is refused when its step comes.
    let before = model.values();
    let mut adam = model.optimizer(DropInConfig {
        schedule: Schedule::own(|_| f64::NAN),
        weight_decay: 0.1,
        ..DropInConfig::new(Adam::default())
    });
    let error = adam.step(&model.grads(0, 1.0)).unwrap_err().to_string();
    assert!(error.contains("the learning rate is NaN"), "{error}");
    assert_eq!(model.values(), before);
}

/// Weights that are loaded after the optimizer was created are not lost.
#[test]
fn what_is_written_to_variables_with_a_copy_is_taken_over() {
    let model = Model::new(DType::BF16);
    let mut sgd = model.optimizer(DropInConfig::new(lopt_baselines::Sgd::new(0.0)));
    sgd.step(&model.grads(0, 1.0)).unwrap();
    let loaded = Model::new(DType::BF16);
    for (var, other) in model.vars.iter().zip(&loaded.vars) {
        var.set(&(other.as_tensor() + 1.0).unwrap()).unwrap();
    }
    let before = model.values();
    sgd.step(&model.grads(1, 1.0)).unwrap();
    assert_eq!(model.values(), before);
}

/// Sums of gradients are only continued as they were begun.
#[test]
fn sums_of_another_accumulation_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let model = Model::new(DType::F32);
    let with = |accumulate, loss_scale| {
        model.optimizer(DropInConfig {
            accumulate,
            loss_scale,
            groups: vec![Group::new("w", |name, _| name == "w")],
            ..DropInConfig::new(Adam::default())
        })
    };
    let mut first = with(8, None);
    for step in 0..5 {
        first.step(&model.grads(step, 1.0)).unwrap();
    }
    first.save_state(&path).unwrap();
    with(8, None).load_state(&path).unwrap();
    for mut other in [
        with(4, None),
        with(1, None),
        with(8, Some(LossScale::default())),
    ] {
        let error = other.load_state(&path).unwrap_err().to_string();
        assert!(error.contains("5 of 8 gradients"), "{error}");
    }
    for value in [f64::NAN, -1.0] {
        assert!(first.set_factor("w", value).is_err());
        assert!(first.set_weight_decay("w", value).is_err());
    }
}

/// A refused step changes nothing, whatever would come before it.
#[test]
fn refused_steps_do_not_decay() {
    each(|name, make| {
        let model = Model::new(DType::F32);
        let before = model.values();
        for non_finite in [NonFinite::Refuse, NonFinite::Skip] {
            let mut optimizer = model.optimizer(DropInConfig {
                non_finite,
                weight_decay: 0.1,
                clip: Some(Clip::GlobalNorm(1.0)),
                ..DropInConfig::new(make())
            });
            let stepped = optimizer.step(&model.grads(0, f64::NAN));
            assert_eq!(stepped.is_err(), non_finite == NonFinite::Refuse, "{name}");
            assert_eq!(model.values(), before, "{name}");
        }
    });
}
