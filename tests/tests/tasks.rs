//! MLP tasks: their gradients, their native form, and training on real images.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use lopt_adam::Adam;
use lopt_core::{Optimizer, Params, Purpose, Rng, Streams};
use lopt_datasets::{DatasetName, Source};
use lopt_star::Star;
use lopt_tasks::{
    Activation, DataStore, Feed, Initializer, MlpConfig, MlpFamily, MlpFamilyConfig, MlpTask,
    NativeBatch, Network, Reparametrize, Reparametrized, Split, Task, TaskConfig, TaskFamily,
    Workspace, suite,
};
use lopt_tests::{flat, relative_error};

fn config() -> MlpConfig {
    MlpConfig {
        dataset: DatasetName::FashionMnist,
        source: Source::Embedded,
        image_size: 8,
        hidden: vec![12],
        activation: Activation::Relu,
        initializer: Initializer::He,
        batch_size: 32,
        input_scale: 1.0,
        label_noise: 0.0,
    }
}

fn task(change: impl FnOnce(&mut MlpConfig)) -> MlpTask {
    let mut config = config();
    change(&mut config);
    MlpTask::new(config, &mut DataStore::default(), &Device::Cpu).unwrap()
}

fn rng(a: u64) -> Rng {
    Streams::new(5).stream(Purpose::Evaluation, a, 0, 0)
}

/// A central difference of the loss along the gradient, over the whole parameter vector in f32,
/// equals the squared norm of the gradient, for every activation and depth.
#[test]
fn gradients_agree_with_differences() {
    for activation in Activation::ALL {
        for hidden in [vec![], vec![12], vec![9, 7], vec![5, 5, 5, 5]] {
            let task = task(|c| {
                c.activation = activation;
                c.hidden = hidden.clone();
            });
            let params = task.init(&mut rng(0)).unwrap();
            let batch = task.batch(Split::Train, &mut rng(1)).unwrap();
            let (loss, grads) = task.loss_and_grad(&params, &batch).unwrap();
            let plain = task
                .loss(&params, &batch)
                .unwrap()
                .to_scalar::<f32>()
                .unwrap();
            assert!((loss - plain).abs() < 1e-6);
            let norm2: f64 = grads
                .tensors()
                .iter()
                .flatten()
                .flat_map(flat)
                .map(|g| g * g)
                .sum();
            let moved = |h: f64| {
                let moved = params.tensors().iter().zip(grads.tensors());
                let moved = moved.map(|(p, g)| (p + (g.as_ref().unwrap() * h).unwrap()).unwrap());
                let moved: Params = params.with_tensors(moved.collect()).unwrap();
                f64::from(
                    task.loss(&moved, &batch)
                        .unwrap()
                        .to_scalar::<f32>()
                        .unwrap(),
                )
            };
            // A small step, because ReLU has kinks.
            let h = 5e-4 / norm2.sqrt();
            let difference = (moved(h) - moved(-h)) / (2.0 * h);
            let error = (difference / norm2 - 1.0).abs();
            assert!(
                error < 2e-2,
                "{activation:?} {hidden:?}: {difference} {norm2}"
            );
        }
    }
}

/// The native loss and gradient match candle's autodiff within 1e-5 of the largest entry, for
/// every activation and depth and for layers of various widths.
#[test]
fn the_native_form_matches_the_candle_op_path() {
    for activation in Activation::ALL {
        for hidden in [vec![], vec![1], vec![33], vec![40, 16], vec![5, 6, 7, 8]] {
            let task = task(|c| {
                c.activation = activation;
                c.hidden = hidden.clone();
            });
            let params = task.init(&mut rng(0)).unwrap();
            // Biases of 0 would hide errors in their use.
            let shifted = params.tensors().iter().map(|p| (p + 0.03).unwrap());
            let params = params.with_tensors(shifted.collect()).unwrap();
            let batch = task.batch(Split::Train, &mut rng(1)).unwrap();
            let (expected, grads) = task.loss_and_grad(&params, &batch).unwrap();

            let native = Arc::new(task).native().unwrap();
            let mut native_batch = NativeBatch::default();
            native.batch(Split::Train, &mut rng(1), &mut native_batch);
            assert_eq!(
                flat(&batch[0]),
                native_batch
                    .inputs
                    .iter()
                    .map(|&x| x.into())
                    .collect::<Vec<f64>>()
            );
            let flat_params: Vec<f32> = params
                .tensors()
                .iter()
                .flat_map(flat)
                .map(|x| x as f32)
                .collect();
            let mut ours = vec![f32::NAN; flat_params.len()];
            let mut workspace = Workspace::default();
            let loss = native.loss_and_grad(&flat_params, &native_batch, &mut ours, &mut workspace);
            let what = format!("{activation:?} {hidden:?}");
            assert!(
                (loss - expected).abs() <= 1e-5 * expected,
                "{what}: {loss} {expected}"
            );
            let mut rest = &ours[..];
            for ((name, p), grad) in params.iter().zip(grads.tensors()) {
                let (ours, after) = rest.split_at(p.elem_count());
                rest = after;
                let ours = Tensor::from_slice(ours, p.shape(), &Device::Cpu).unwrap();
                let error = relative_error(&ours, grad.as_ref().unwrap());
                assert!(error <= 1e-5, "{what} {name}: {error:e}");
            }
            assert!(rest.is_empty());
        }
    }
}

/// With φ = c·φ' tensor by tensor, the loss is unchanged, gradients and Hessian-vector products
/// follow the chain rule, and the native form agrees.
#[test]
fn reparametrised_tasks_are_the_same_function() {
    let task: Arc<dyn Task> = Arc::new(task(|c| c.activation = Activation::Tanh));
    let factors = vec![0.5f32, 3.0, 0.01, 20.0];
    let other = Arc::new(Reparametrized::new(task.clone(), factors.clone()));
    let params = task.init(&mut rng(0)).unwrap();
    let scaled = |tensors: &[Tensor], power: i32| -> Vec<Tensor> {
        let pairs = tensors.iter().zip(&factors);
        let scale = |(t, c): (&Tensor, &f32)| (t * f64::from(c.powi(power))).unwrap();
        pairs.map(scale).collect()
    };
    let start = other.init(&mut rng(0)).unwrap();
    for (ours, expected) in start.tensors().iter().zip(scaled(params.tensors(), -1)) {
        assert!(relative_error(ours, &expected) <= 1e-6);
    }
    let batch = other.batch(Split::Train, &mut rng(1)).unwrap();
    let (expected, grads) = task.loss_and_grad(&params, &batch).unwrap();
    let (loss, ours) = other.loss_and_grad(&start, &batch).unwrap();
    assert!((loss - expected).abs() <= 1e-5 * expected);
    let grads: Vec<Tensor> = grads.tensors().iter().flatten().cloned().collect();
    let close = |ours: &[Tensor], expected: &[Tensor]| {
        assert_eq!(ours.len(), expected.len());
        for (ours, expected) in ours.iter().zip(expected) {
            assert!(relative_error(ours, expected) <= 1e-4);
        }
    };
    let ours: Vec<Tensor> = ours.tensors().iter().flatten().cloned().collect();
    close(&ours, &scaled(&grads, 1));

    let v: Vec<Tensor> = params
        .tensors()
        .iter()
        .map(|p| (p + 0.1).unwrap())
        .collect();
    let expected = task
        .hessian_vector(&params, &batch, &scaled(&v, 1))
        .unwrap();
    let product = other.hessian_vector(&start, &batch, &v).unwrap();
    close(&product, &scaled(&expected, 1));
    assert_eq!(other.test(&start).unwrap().unwrap().accuracy, {
        task.test(&params).unwrap().unwrap().accuracy
    });

    let native = other.native().unwrap();
    let mut native_batch = NativeBatch::default();
    native.batch(Split::Train, &mut rng(1), &mut native_batch);
    let flattened = |tensors: &[Tensor]| -> Vec<f32> {
        let values = tensors.iter().flat_map(flat);
        values.map(|x| x as f32).collect()
    };
    let mut natively = vec![f32::NAN; flattened(&ours).len()];
    let loss = native.loss_and_grad(
        &flattened(start.tensors()),
        &native_batch,
        &mut natively,
        &mut Workspace::default(),
    );
    assert!((loss - task.loss_and_grad(&params, &batch).unwrap().0).abs() <= 1e-5 * loss);
    let tensor = |values: &[f32]| Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap();
    assert!(relative_error(&tensor(&natively), &tensor(&flattened(&ours))) <= 1e-5);
}

/// Native training and training through tensors give the same losses.
#[test]
fn native_training_matches_training_through_tensors() {
    /// The same task without its native form.
    struct Plain(MlpTask);
    impl Task for Plain {
        fn init(&self, rng: &mut Rng) -> lopt_core::Result<Params> {
            self.0.init(rng)
        }
        fn batch(&self, split: Split, rng: &mut Rng) -> lopt_core::Result<Vec<Tensor>> {
            Task::batch(&self.0, split, rng)
        }
        fn loss(&self, params: &Params, batch: &Vec<Tensor>) -> lopt_core::Result<Tensor> {
            self.0.loss(params, batch)
        }
    }
    let run = |task: Arc<dyn Task>| {
        let params = task.init(&mut rng(0)).unwrap();
        let mut network = Network::start(task, params, Arc::new(Star::untrained())).unwrap();
        let mut feed = Feed::default();
        let step = |t| {
            network
                .draw(Split::Train, &mut rng(10 + t), &mut feed)
                .unwrap();
            network.step(&mut feed).unwrap().loss
        };
        let losses: Vec<f32> = (0..100u64).map(step).collect();
        (network.path(), losses)
    };
    let native = run(Arc::new(task(|_| {})));
    let plain = run(Arc::new(Plain(task(|_| {}))));
    assert!(
        native.0.starts_with("native") && plain.0.starts_with("candle"),
        "{} {}",
        native.0,
        plain.0
    );
    for (a, b) in native.1.iter().zip(&plain.1) {
        assert!((a - b).abs() < 1e-3 * b, "{a} {b}");
    }
}

#[test]
fn batches_and_initial_parameters_depend_only_on_the_stream() {
    let task = task(|_| {});
    let bits = |t: &Tensor| flat(&t.to_dtype(DType::F64).unwrap());
    let batch = |a| {
        task.batch(Split::Train, &mut rng(a))
            .unwrap()
            .iter()
            .map(bits)
            .collect::<Vec<_>>()
    };
    assert_eq!(batch(3), batch(3));
    assert_ne!(batch(3), batch(4));
    let start = |a| {
        task.init(&mut rng(a))
            .unwrap()
            .tensors()
            .iter()
            .map(bits)
            .collect::<Vec<_>>()
    };
    assert_eq!(start(3), start(3));
    assert_ne!(start(3), start(4));
}

#[test]
fn every_data_set_and_size_makes_a_task() {
    for dataset in [DatasetName::FashionMnist, DatasetName::Mnist] {
        for image_size in [8, 14, 16, 28] {
            let task = task(|c| {
                c.dataset = dataset;
                c.image_size = image_size;
            });
            let batch = task.batch(Split::Test, &mut rng(0)).unwrap();
            assert_eq!(batch[0].dims(), [32, image_size * image_size]);
            let pixels = flat(&batch[0]);
            assert!(pixels.iter().all(|p| (0.0..=1.0).contains(p)));
            let mean = pixels.iter().sum::<f64>() / pixels.len() as f64;
            assert!(
                (0.05..0.6).contains(&mean),
                "{dataset} {image_size}: {mean}"
            );
        }
    }
}

/// Only the training labels change, to the same labels every time.
#[test]
fn label_noise() {
    let noisy = |noise| {
        task(|c| {
            c.batch_size = 4000;
            c.label_noise = noise;
        })
    };
    let batch = |task: &MlpTask, split| {
        let batch = task.batch(split, &mut rng(0)).unwrap();
        (flat(&batch[0]), flat(&batch[1]))
    };
    let (plain, with) = (noisy(0.0), noisy(0.4));
    assert_eq!(batch(&plain, Split::Test), batch(&with, Split::Test));
    let (pixels, labels) = batch(&plain, Split::Train);
    let (same, changed) = batch(&with, Split::Train);
    assert_eq!(pixels, same);
    assert_eq!(changed, batch(&noisy(0.4), Split::Train).1);
    // A tenth of the new labels is the old one. Four standard deviations are 0.03.
    let different = labels.iter().zip(&changed).filter(|(a, b)| a != b).count();
    assert!(
        (different as f64 / 4000.0 - 0.36).abs() < 0.03,
        "{different}"
    );
}

#[test]
fn the_input_scale_multiplies_pixels() {
    for (size, scale) in [(8, 100.0), (28, 0.01)] {
        let pixels = |scale| {
            let task = task(|c| {
                c.image_size = size;
                c.input_scale = scale;
            });
            flat(&task.batch(Split::Test, &mut rng(0)).unwrap()[0])
        };
        for (plain, scaled) in pixels(1.0).iter().zip(pixels(scale)) {
            let expected = plain * f64::from(scale);
            assert!(
                (scaled - expected).abs() <= 1e-6 * expected.abs(),
                "{scaled}"
            );
        }
    }
}

/// Files of earlier versions have no such keys, and are written again as they were.
#[test]
fn defaults_are_not_written() {
    let text = serde_json::to_string(&config()).unwrap();
    assert!(text.ends_with(r#""batch-size":32}"#), "{text}");
    assert_eq!(serde_json::from_str::<MlpConfig>(&text).unwrap(), config());
    let changed = MlpConfig {
        input_scale: 0.01,
        label_noise: 0.4,
        ..config()
    };
    let text = serde_json::to_string(&changed).unwrap();
    assert!(
        text.ends_with(r#""input-scale":0.01,"label-noise":0.4}"#),
        "{text}"
    );
    assert_eq!(serde_json::from_str::<MlpConfig>(&text).unwrap(), changed);
}

/// 300 steps of Adam on 8×8 Fashion-MNIST.
#[test]
fn adam_learns_fashion_mnist() {
    let task = task(|c| c.hidden = vec![32]);
    let adam = Adam::new(1e-2);
    let mut params = task.init(&mut rng(0)).unwrap();
    let mut state = adam.init(&params).unwrap();
    let before = task.test(&params).unwrap().unwrap();
    for t in 0..300 {
        let batch = task.batch(Split::Train, &mut rng(10 + t)).unwrap();
        let (_, grads) = task.loss_and_grad(&params, &batch).unwrap();
        adam.step(&mut state, &mut params, &grads).unwrap();
    }
    let after = task.test(&params).unwrap().unwrap();
    assert!(
        before.accuracy < 0.3 && after.accuracy > 0.72,
        "{before:?} {after:?}"
    );
    assert!(after.loss < 0.75, "{after:?}");
}

#[test]
fn the_meta_loss_is_bounded() {
    let task = task(|_| {});
    let ceiling = 1.5 * 10f32.ln();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
        assert_eq!(task.normalize(bad), ceiling);
    }
    assert_eq!(task.normalize(1.0), 1.0);
    assert_eq!(task.normalize(-1.0), 0.0);
}

#[test]
fn invalid_configurations_are_reported() {
    let mut store = DataStore::default();
    for (change, words) in [
        ((|c| c.batch_size = 0) as fn(&mut MlpConfig), "batch-size"),
        (|c| c.hidden = vec![4, 0], "`hidden` is [4, 0]"),
        (|c| c.image_size = 29, "image size 29"),
        (|c| c.image_size = 0, "image size 0"),
        (|c| c.dataset = DatasetName::Cifar10, "cifar10"),
        (|c| c.input_scale = 0.0, "`input-scale` is 0"),
        (|c| c.input_scale = f32::INFINITY, "`input-scale` is inf"),
        (|c| c.label_noise = 1.5, "`label-noise` is 1.5"),
        (|c| c.label_noise = f32::NAN, "`label-noise` is NaN"),
    ] {
        let mut config = config();
        change(&mut config);
        let error = MlpTask::new(config, &mut store, &Device::Cpu)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_family_samples_all_its_tasks() {
    let config = MlpFamilyConfig {
        dataset: vec![DatasetName::FashionMnist, DatasetName::Mnist],
        source: Source::Embedded,
        image_size: vec![8],
        hidden: vec![vec![4], vec![8, 8]],
        activation: vec![Activation::Relu, Activation::Tanh],
        initializer: vec![Initializer::He],
        batch_size: vec![16],
        reparametrize: None,
    };
    let family = MlpFamily::new(&config, &mut DataStore::default(), &Device::Cpu).unwrap();
    assert_eq!(family.tasks().len(), 8);
    let mut names: Vec<String> = (0..200)
        .map(|i| family.sample(&mut rng(i)).name())
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 8, "{names:?}");
    let empty = MlpFamilyConfig {
        hidden: vec![],
        ..config.clone()
    };
    let reparametrized = |range| MlpFamilyConfig {
        reparametrize: Some(Reparametrize::PerTensor(range)),
        ..config.clone()
    };
    let plain = family;
    let family =
        |config: &MlpFamilyConfig| MlpFamily::new(config, &mut DataStore::default(), &Device::Cpu);
    let start = |family: &MlpFamily, seed| {
        let task = family.sample(&mut rng(seed));
        let tensors = task.init(&mut rng(0)).unwrap();
        flat(tensors.get("layer0/weight").unwrap())
    };
    let with = family(&reparametrized([0.1, 10.0])).unwrap();
    assert_ne!(start(&with, 0), start(&plain, 0));
    let error = family(&reparametrized([2.0, 1.0]))
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("[low, high]"), "{error}");
    let error = family(&empty).err().unwrap().to_string();
    assert!(error.contains("`hidden` is empty"), "{error}");
}

/// Each entry of a suite differs from the meta-training task only in what its group names.
#[test]
fn suites_change_one_thing_at_a_time() {
    for size in [suite::Suite::Quick, suite::Suite::Full] {
        let (base, horizon) = size.base();
        let entries = size.entries();
        for entry in &entries {
            let TaskConfig::Mlp(task) = &entry.task else {
                panic!("{} is not an MLP", entry.name);
            };
            let mut differs = vec![];
            let mut note = |name: &'static str, other: bool| differs.extend(other.then_some(name));
            note(
                "width",
                task.hidden.len() == base.hidden.len() && task.hidden != base.hidden,
            );
            note("depth", task.hidden.len() != base.hidden.len());
            note("nonlinearity", task.activation != base.activation);
            note("dataset", task.dataset != base.dataset);
            note("image-size", task.image_size != base.image_size);
            note("batch-size", task.batch_size != base.batch_size);
            note("horizon", entry.horizon != horizon);
            let expected = if entry.group == suite::IN_DISTRIBUTION {
                vec![]
            } else {
                vec![&*entry.group]
            };
            assert_eq!(differs, expected, "{}: {}", entry.group, entry.name);
        }
        let groups = [
            "in-distribution",
            "width",
            "depth",
            "nonlinearity",
            "dataset",
            "image-size",
            "batch-size",
            "horizon",
        ];
        for group in groups {
            assert!(entries.iter().any(|entry| entry.group == group), "{group}");
        }
        assert!(entries.iter().any(|entry| entry.horizon >= 10 * horizon));
    }
}
