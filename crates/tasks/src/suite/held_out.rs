use lopt_datasets::{
    DatasetName::{Cifar10, FashionMnist, Mnist},
    Source,
};

use super::{Entry, feed_forward, images, mlp, mlp_entry, model_entry};
use crate::{
    Activation, ConvNetConfig, DataConfig, EmbeddingBagConfig, GruConfig, Initializer, MlpConfig,
    MlpMixerConfig, ModelConfig, Padding, TransformerConfig,
};

const STEPS: u64 = 500;
/// The horizon of the group `horizon`.
const LONG: u64 = 2000;

pub(super) fn entries() -> Vec<Entry> {
    let mut all = mlps();
    all.extend(models());
    for (network, task) in long() {
        all.push(Entry {
            group: "horizon".to_owned(),
            name: format!("{network}, 2,000 steps"),
            horizon: LONG,
            ..task
        });
    }
    all
}

fn mlps() -> Vec<Entry> {
    let entry = |group, name, task| mlp_entry(group, name, STEPS, task);
    let with = |change: fn(&mut MlpConfig)| {
        let mut task = mlp(Mnist, 14, &[48]);
        change(&mut task);
        task
    };
    vec![
        entry("depth", "logistic regression", mlp(FashionMnist, 20, &[])),
        entry("depth", "8 hidden layers", mlp(Mnist, 12, &[32; 8])),
        entry(
            "width",
            "256-16-256",
            mlp(FashionMnist, 16, &[256, 16, 256]),
        ),
        entry("batch-size", "batch 1", with(|task| task.batch_size = 1)),
        entry(
            "batch-size",
            "batch 4096",
            with(|task| task.batch_size = 4096),
        ),
        entry(
            "data",
            "40 % label noise",
            with(|task| task.label_noise = 0.4),
        ),
        entry("data", "input × 100", with(|task| task.input_scale = 100.0)),
        entry("data", "input / 100", with(|task| task.input_scale = 0.01)),
        entry("initializer", "LeCun", initialized(Initializer::Lecun)),
        entry(
            "initializer",
            "orthogonal",
            initialized(Initializer::Orthogonal),
        ),
    ]
}

fn initialized(initializer: Initializer) -> MlpConfig {
    MlpConfig {
        activation: Activation::Tanh,
        initializer,
        ..mlp(FashionMnist, 12, &[64, 64])
    }
}

fn models() -> Vec<Entry> {
    let mixer = ModelConfig::MlpMixer(MlpMixerConfig {
        patch: 8,
        width: 32,
        layers: 2,
    });
    let bag = ModelConfig::EmbeddingBag(EmbeddingBagConfig { embedding: 48 });
    let regression = DataConfig::Tabular {
        seed: 1,
        classes: None,
    };
    let text = DataConfig::Text { length: 8 };
    let photographs = images(Cifar10, Source::Full, 32);
    let entry =
        |group, name, data, model, batch| model_entry(group, name, STEPS, data, model, batch);
    vec![
        autoencoder(),
        entry(
            "loss",
            "regression",
            regression,
            feed_forward(&[64, 64]),
            128,
        ),
        entry("architecture", "MLP-Mixer", photographs, mixer, 16),
        conv_net(),
        gru(),
        transformer(),
        entry("architecture", "bag of embeddings", text, bag, 64),
    ]
}

fn long() -> [(&'static str, Entry); 5] {
    let task = mlp(Mnist, 14, &[64, 64]);
    [
        ("MLP", mlp_entry("", "", LONG, task)),
        ("autoencoder", autoencoder()),
        ("conv net", conv_net()),
        ("GRU", gru()),
        ("transformer", transformer()),
    ]
}

fn autoencoder() -> Entry {
    let data = DataConfig::Autoencoding {
        dataset: Mnist,
        source: Source::Full,
        image_size: 28,
    };
    let model = feed_forward(&[128, 32, 128]);
    model_entry("loss", "autoencoder", STEPS, data, model, 64)
}

fn conv_net() -> Entry {
    let model = ModelConfig::ConvNet(ConvNetConfig {
        channels: vec![8, 16],
        filter: 5,
        padding: Padding::Valid,
    });
    let data = images(Cifar10, Source::Full, 20);
    model_entry(
        "architecture",
        "conv net, 5×5, no padding",
        STEPS,
        data,
        model,
        32,
    )
}

fn gru() -> Entry {
    let model = ModelConfig::Gru(GruConfig {
        embedding: 24,
        hidden: 48,
    });
    let data = DataConfig::Text { length: 24 };
    model_entry("architecture", "GRU", STEPS, data, model, 16)
}

fn transformer() -> Entry {
    let model = ModelConfig::Transformer(TransformerConfig {
        width: 40,
        heads: 4,
        layers: 2,
        tied_embeddings: true,
    });
    let data = DataConfig::Text { length: 24 };
    model_entry(
        "architecture",
        "transformer, tied embeddings",
        STEPS,
        data,
        model,
        8,
    )
}
