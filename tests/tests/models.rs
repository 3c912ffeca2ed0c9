//! Models other than MLPs.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use lopt_core::{Params, Purpose, Rng, Streams};
use lopt_datasets::{DatasetName, Source};
use lopt_star::Star;
use lopt_tasks::{
    Activation, Batch, ConvNetConfig, DataConfig, DataStore, EmbeddingBagConfig, Feed,
    FeedForwardConfig, GruConfig, LayerNormMlpConfig, LstmConfig, MlpMixerConfig, ModelConfig,
    ModelTask, ModelTaskConfig, Network, Padding, ResNetConfig, Split, Task, TransformerConfig,
    VanillaLstmConfig, suite::Suite,
};
use lopt_tests::flat;

fn rng(seed: u64) -> Rng {
    Streams::new(seed).stream(Purpose::ParamsInit, 0, 0, 0)
}

fn images(image_size: usize) -> DataConfig {
    DataConfig::Images {
        dataset: DatasetName::FashionMnist,
        source: Source::Embedded,
        image_size,
    }
}

fn text(length: usize) -> DataConfig {
    DataConfig::Text { length }
}

/// One of each kind and of each knob; of images as many times larger.
fn all(times: usize) -> Vec<(DataConfig, ModelConfig)> {
    vec![
        (
            images(6),
            ModelConfig::LayerNormMlp(LayerNormMlpConfig {
                hidden: vec![7 * times, 5 * times],
            }),
        ),
        (
            images(6),
            ModelConfig::ConvNet(ConvNetConfig {
                channels: vec![3 * times, 4 * times],
                filter: 3,
                padding: Padding::Same,
            }),
        ),
        (
            images(6),
            ModelConfig::ResNet(ResNetConfig {
                channels: vec![3 * times, 4 * times],
            }),
        ),
        (
            images(6),
            ModelConfig::ConvNet(ConvNetConfig {
                channels: vec![3 * times, 4 * times],
                filter: 2,
                padding: Padding::Valid,
            }),
        ),
        (
            images(6),
            ModelConfig::FeedForward(FeedForwardConfig {
                hidden: vec![7 * times, 5 * times],
                activation: Activation::Tanh,
            }),
        ),
        (
            images(6),
            ModelConfig::MlpMixer(MlpMixerConfig {
                patch: 3,
                width: 5 * times,
                layers: 2,
            }),
        ),
        (
            text(5),
            ModelConfig::Gru(GruConfig {
                embedding: 4,
                hidden: 6,
            }),
        ),
        (
            text(5),
            ModelConfig::VanillaLstm(VanillaLstmConfig {
                embedding: 4,
                hidden: 6,
            }),
        ),
        (
            text(5),
            ModelConfig::EmbeddingBag(EmbeddingBagConfig { embedding: 4 }),
        ),
        (
            text(5),
            ModelConfig::Transformer(TransformerConfig {
                width: 8,
                heads: 2,
                layers: 1,
                tied_embeddings: true,
            }),
        ),
        (
            text(5),
            ModelConfig::Lstm(LstmConfig {
                embedding: 4,
                hidden: 6,
            }),
        ),
        (
            text(5),
            ModelConfig::Transformer(TransformerConfig {
                width: 8,
                heads: 2,
                layers: 2,
                tied_embeddings: false,
            }),
        ),
    ]
}

/// Networks with the squared error as the loss.
fn with_real_targets() -> Vec<(DataConfig, ModelConfig)> {
    let model = |hidden: &[usize]| {
        ModelConfig::FeedForward(FeedForwardConfig {
            hidden: hidden.to_vec(),
            activation: Activation::Tanh,
        })
    };
    let digits = DataConfig::Autoencoding {
        dataset: DatasetName::Mnist,
        source: Source::Embedded,
        image_size: 7,
    };
    let table = DataConfig::Tabular {
        seed: 3,
        classes: None,
    };
    vec![(digits, model(&[24])), (table, model(&[16]))]
}

fn task(data: DataConfig, model: ModelConfig, batch_size: usize) -> lopt_tasks::Result<ModelTask> {
    let config = ModelTaskConfig {
        data,
        model,
        batch_size,
    };
    ModelTask::new(config, &mut DataStore::default(), &Device::Cpu)
}

/// In f64, where differences are accurate enough.
fn in_f64(task: &ModelTask) -> (Params, Batch) {
    let params = task.init(&mut rng(0)).unwrap();
    // Biases of 0 would hide errors in their use, and lie on the kink of ReLU for black pixels.
    let shifted = params.tensors().iter().map(|p| {
        let noise = Tensor::from_vec(
            (0..p.elem_count())
                .map(|i| 0.05 * (1.0 + i as f64).sin())
                .collect(),
            p.shape(),
            &Device::Cpu,
        );
        (p.to_dtype(DType::F64).unwrap() + noise.unwrap()).unwrap()
    });
    let params = params.with_tensors(shifted.collect()).unwrap();
    let mut batch = task.batch(Split::Train, &mut rng(1)).unwrap();
    for tensor in &mut batch {
        if tensor.dtype() == DType::F32 {
            *tensor = tensor.to_dtype(DType::F64).unwrap();
        }
    }
    (params, batch)
}

/// Autodiff against finite differences along each parameter tensor.
#[test]
fn gradients_match_finite_differences() {
    for (data, model) in all(1).into_iter().chain(with_real_targets()) {
        let name = model.kind().name();
        let task = task(data, model, 3).unwrap();
        let (params, batch) = in_f64(&task);
        let (_, grads) = task.loss_and_grad(&params, &batch).unwrap();
        let loss =
            |params: &Params| -> f64 { task.loss(params, &batch).unwrap().to_scalar().unwrap() };
        for index in 0..params.len() {
            let grad = flat(grads.tensors()[index].as_ref().unwrap());
            let moved = |step: f64| {
                let mut tensors = params.tensors().to_vec();
                let direction: Vec<f64> = (0..grad.len()).map(|i| (0.7 * i as f64).cos()).collect();
                let shape = tensors[index].shape().clone();
                let direction = Tensor::from_vec(direction, shape, &Device::Cpu).unwrap();
                tensors[index] = (&tensors[index] + (direction * step).unwrap()).unwrap();
                loss(&params.with_tensors(tensors).unwrap())
            };
            let h = 1e-6;
            let difference = (moved(h) - moved(-h)) / (2.0 * h);
            let along: f64 = grad
                .iter()
                .enumerate()
                .map(|(i, g)| g * (0.7 * i as f64).cos())
                .sum();
            let error = (difference - along).abs();
            let what = &params.names()[index];
            assert!(
                error <= 1e-6 * (1.0 + along.abs()),
                "{name} {what}: {along} {difference}"
            );
        }
    }
}

/// Trains with the fused step of STAR, untuned. At the start all classes are about equally likely.
#[test]
fn models_learn() {
    for (data, model) in all(3) {
        let name = model.kind().name();
        let classes: f32 = if matches!(data, DataConfig::Text { .. }) {
            256.0
        } else {
            10.0
        };
        let task: Arc<dyn Task> = Arc::new(task(data, model, 16).unwrap());
        let params = task.init(&mut rng(0)).unwrap();
        let mut network =
            Network::start(task.clone(), params, Arc::new(Star::pretrained())).unwrap();
        assert!(
            network.path().starts_with("candle autodiff"),
            "{}",
            network.path()
        );
        assert!(!network.path().contains("candle ops"), "{}", network.path());
        let mut feed = Feed::default();
        let mut losses = vec![];
        for t in 0..300 {
            network.draw(Split::Train, &mut rng(t), &mut feed).unwrap();
            losses.push(network.step(&mut feed).unwrap().loss);
        }
        let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
        let (first, last) = (losses[0], mean(&losses[280..]));
        assert!((first - classes.ln()).abs() < 1.5, "{name}: {first}");
        assert!(last < 0.93 * first, "{name}: {first} {last}");
        let test = task.test(&network.params().unwrap()).unwrap().unwrap();
        assert!((test.loss - last).abs() < 0.7, "{name}: {test:?} {last}");
        assert!(test.accuracy > 1.5 / classes, "{name}: {test:?}");
    }
}

/// Adam explains a good part of the variance, on the test set too, and the normalized loss is what
/// is left of it.
#[test]
fn networks_with_real_targets_learn() {
    for (data, model) in with_real_targets() {
        let task: Arc<dyn Task> = Arc::new(task(data, model, 32).unwrap());
        let params = task.init(&mut rng(0)).unwrap();
        let adam = Arc::new(lopt_adam::Adam::new(1e-2));
        let mut network = Network::start(task.clone(), params, adam).unwrap();
        let mut feed = Feed::default();
        let mut losses = vec![];
        for t in 0..400 {
            network.draw(Split::Train, &mut rng(t), &mut feed).unwrap();
            losses.push(task.normalize(network.step(&mut feed).unwrap().loss));
        }
        let name = task.name();
        let last = losses[380..].iter().sum::<f32>() / 20.0;
        assert!(
            losses[0] > 0.8 && last < 0.5,
            "{name}: {} {last}",
            losses[0]
        );
        let test = task.test(&network.params().unwrap()).unwrap().unwrap();
        let left = task.normalize(test.loss);
        assert!(
            (test.accuracy - (1.0 - left)).abs() < 1e-4,
            "{name}: {test:?}"
        );
        assert!((left - last).abs() < 0.2, "{name}: {left} {last}");
    }
}

/// No model sees the byte that it predicts: a change in a window does not affect earlier positions.
#[test]
fn language_models_are_causal() {
    let of_text = |data: &DataConfig| matches!(data, DataConfig::Text { .. });
    for (_, model) in all(1).into_iter().filter(|(data, _)| of_text(data)) {
        let task = task(text(6), model, 1).unwrap();
        let (params, batch) = in_f64(&task);
        // The loss at one position: the other labels cost the same in both windows.
        let loss_of = |tokens: &[u32], labels: &[u32]| -> f64 {
            let tokens = Tensor::new(tokens, &Device::Cpu)
                .unwrap()
                .unsqueeze(0)
                .unwrap();
            let labels = Tensor::new(labels, &Device::Cpu).unwrap();
            task.loss(&params, &vec![tokens, labels])
                .unwrap()
                .to_scalar()
                .unwrap()
        };
        let tokens: Vec<u32> = batch[0].flatten_all().unwrap().to_vec1().unwrap();
        let mut changed = tokens.clone();
        changed[3] = (changed[3] + 1) % 256;
        // The sum over positions is linear in one-hot labels, so that the difference between two
        // labels at a position depends on that position only.
        let at = |tokens: &[u32], position: usize| {
            let labels = vec![0u32; 6];
            let mut other = labels.clone();
            other[position] = 99;
            loss_of(tokens, &labels) - loss_of(tokens, &other)
        };
        for position in 0..6 {
            let same = (at(&tokens, position) - at(&changed, position)).abs() < 1e-12;
            assert_eq!(same, position < 3, "position {position}");
        }
    }
}

#[test]
fn invalid_configurations_are_reported() {
    let conv = |channels: &[usize]| {
        ModelConfig::ConvNet(ConvNetConfig {
            channels: channels.to_vec(),
            filter: 3,
            padding: Padding::Same,
        })
    };
    let transformer = |width, heads| {
        ModelConfig::Transformer(TransformerConfig {
            width,
            heads,
            layers: 1,
            tied_embeddings: false,
        })
    };
    let valid = |filter| {
        ModelConfig::ConvNet(ConvNetConfig {
            channels: vec![4, 4, 4],
            filter,
            padding: Padding::Valid,
        })
    };
    let mixer = |patch| {
        ModelConfig::MlpMixer(MlpMixerConfig {
            patch,
            width: 4,
            layers: 1,
        })
    };
    let table = |classes| DataConfig::Tabular {
        seed: 0,
        classes: Some(classes),
    };
    for (data, model, batch, words) in [
        (text(5), conv(&[4]), 4, "reads images"),
        (images(8), transformer(8, 2), 4, "reads text"),
        (images(8), conv(&[]), 4, "`channels` is empty"),
        (
            images(8),
            conv(&[4, 0]),
            4,
            "conv-net: `channels` is [4, 0]",
        ),
        (
            text(5),
            transformer(9, 2),
            4,
            "transformer: `width` 9 cannot be divided among 2",
        ),
        (text(5), transformer(8, 0), 4, "`heads` is 0"),
        (text(0), transformer(8, 2), 4, "`length` is 0"),
        (text(1 << 40), transformer(8, 2), 4, "`length` is"),
        (images(99), conv(&[4]), 4, "image size 99"),
        (
            images(8),
            valid(4),
            4,
            "`filter` is 4, but the images of layer 2 have 1×1",
        ),
        (images(8), valid(0), 4, "`filter` is 0"),
        (images(8), mixer(3), 4, "patches of 3×3"),
        (text(5), mixer(3), 4, "mlp-mixer: this model reads images"),
        (table(3), transformer(8, 2), 4, "but the data are a table"),
        (table(3), conv(&[4]), 4, "but the data are a table"),
        (table(1), conv(&[4]), 4, "`classes` is 1"),
        (images(8), conv(&[4]), 0, "`batch-size` is 0"),
    ] {
        let error = task(data, model, batch).err().unwrap().to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// Every task of the suite loads, unless its data are missing.
#[test]
fn the_suite_loads() {
    let entries = Suite::BeyondMlps.entries();
    let mut names: Vec<String> = entries.iter().map(|entry| entry.task.network()).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "conv-net",
            "layer-norm-mlp",
            "lstm",
            "res-net",
            "transformer"
        ]
    );
    for entry in entries {
        let text = serde_json::to_string(&entry).unwrap();
        assert_eq!(
            serde_json::from_str::<lopt_tasks::suite::Entry>(&text).unwrap(),
            entry
        );
        match entry
            .task
            .load(&mut DataStore::new(Some("/none".as_ref())), &Device::Cpu)
        {
            Ok(loaded) => {
                assert!(loaded.examples[0] > loaded.examples[1]);
                let params = loaded.task.init(&mut rng(0)).unwrap();
                assert!(
                    (2_000..80_000).contains(&params.numel()),
                    "{}",
                    params.numel()
                );
            }
            Err(error) => assert!(error.is_missing_data(), "{error}"),
        }
    }
}
