use lopt_datasets::{
    DatasetName::{self, Cifar10, FashionMnist, Mnist},
    Source,
};

use super::{Entry, feed_forward, images, mlp, mlp_entry, model_entry};
use crate::{
    Activation, ConvNetConfig, DataConfig, LayerNormMlpConfig, MlpConfig, ModelConfig, Padding,
    ResNetConfig, TransformerConfig, VanillaLstmConfig,
};

const STEPS: u64 = 500;

pub(super) fn entries() -> Vec<Entry> {
    let own = tanh(mlp(FashionMnist, 8, &[24]));
    let mut all = vec![
        mlp_entry("mlp", "like meta-training", STEPS, own.clone()),
        mlp_entry("mlp", "width 96", STEPS, mlp(Mnist, 14, &[96, 96])),
        mlp_entry(
            "mlp",
            "3 hidden layers",
            STEPS,
            mlp(FashionMnist, 10, &[48; 3]),
        ),
    ];
    all.extend(models());
    all.push(lstm());
    all.push(autoencoder());
    all.push(mlp_entry("horizon", "MLP, 5,000 steps", 5000, own.clone()));
    all.extend(larger());
    all.extend(long(own));
    all
}

fn tanh(task: MlpConfig) -> MlpConfig {
    MlpConfig {
        activation: Activation::Tanh,
        ..task
    }
}

/// A ReLU MLP on all images of a data set.
fn full(dataset: DatasetName, image_size: usize, hidden: &[usize]) -> MlpConfig {
    MlpConfig {
        source: Source::Full,
        ..mlp(dataset, image_size, hidden)
    }
}

/// MLPs of the size that people train, beyond that of meta-training.
fn larger() -> [Entry; 6] {
    let entry = |name, task| mlp_entry("larger", name, 2000, task);
    let fashion = |image_size, hidden| full(FashionMnist, image_size, hidden);
    [
        entry("linear, 24×24", fashion(24, &[])),
        entry("width 24, 24×24", fashion(24, &[24; 2])),
        entry("width 128, 20×20", fashion(20, &[128; 2])),
        entry("width 512, 20×20", fashion(20, &[512; 2])),
        entry("3 hidden layers, 24×24", fashion(24, &[96; 3])),
        entry("CIFAR-10, 16×16", full(Cifar10, 16, &[128; 2])),
    ]
}

/// Up to 40 times as many steps as `own` takes otherwise; some of these networks can memorize their
/// data.
fn long(own: MlpConfig) -> [Entry; 5] {
    let entry = |name, steps, task| mlp_entry("long", name, steps, task);
    [
        entry(
            "Fashion-MNIST, 20×20",
            12_000,
            mlp(FashionMnist, 20, &[96; 2]),
        ),
        entry("MNIST, 12×12", 12_000, tanh(mlp(Mnist, 12, &[64; 2]))),
        entry(
            "full Fashion-MNIST, 24×24",
            20_000,
            full(FashionMnist, 24, &[64; 2]),
        ),
        entry("Fashion-MNIST, 8×8", 20_000, own),
        entry("CIFAR-10, 12×12", 20_000, full(Cifar10, 12, &[128; 2])),
    ]
}

fn models() -> [Entry; 5] {
    let entry =
        |name, data, model, batch| model_entry("architecture", name, STEPS, data, model, batch);
    let feed_forward = feed_forward(&[48, 48]);
    let layer_norm = ModelConfig::LayerNormMlp(LayerNormMlpConfig {
        hidden: vec![40, 40],
    });
    let conv_net = ModelConfig::ConvNet(ConvNetConfig {
        channels: vec![12, 24],
        filter: 3,
        padding: Padding::Same,
    });
    let res_net = ModelConfig::ResNet(ResNetConfig {
        channels: vec![6, 12],
    });
    let transformer = ModelConfig::Transformer(TransformerConfig {
        width: 24,
        heads: 2,
        layers: 1,
        tied_embeddings: false,
    });
    let table = DataConfig::Tabular {
        seed: 11,
        classes: Some(10),
    };
    let embedded = |dataset, image_size| images(dataset, Source::Embedded, image_size);
    let characters = DataConfig::Characters { length: 16 };
    [
        entry("MLP on a table", table, feed_forward, 64),
        entry("layer-norm MLP", embedded(Mnist, 12), layer_norm, 64),
        entry("conv net", embedded(FashionMnist, 14), conv_net, 32),
        entry("ResNet", embedded(Mnist, 10), res_net, 32),
        entry("transformer", characters, transformer, 16),
    ]
}

/// Its gradients are small and some of its pixels rarely lit: an earlier θ lost all that it had
/// learned after a thousand steps, as on the autoencoder of the suite `held-out`.
fn autoencoder() -> Entry {
    let data = DataConfig::Autoencoding {
        dataset: FashionMnist,
        source: Source::Embedded,
        image_size: 20,
    };
    let model = feed_forward(&[96, 24, 96]);
    model_entry("horizon", "autoencoder, 3,000 steps", 3000, data, model, 48)
}

/// The network of candle-nn's own layers, on which another θ undid its progress: its loss rose from
/// 1.43 after 600 steps to 1.97 after 1,400.
fn lstm() -> Entry {
    let model = ModelConfig::VanillaLstm(VanillaLstmConfig {
        embedding: 32,
        hidden: 64,
    });
    let data = DataConfig::Characters { length: 32 };
    model_entry(
        "horizon",
        "vanilla LSTM, 2,000 steps",
        2000,
        data,
        model,
        32,
    )
}
