use lopt_datasets::{
    DatasetName::{FashionMnist, Mnist},
    Source,
};

use super::{Entry, feed_forward, images, mlp, mlp_entry, model_entry};
use crate::{
    Activation, ConvNetConfig, DataConfig, LayerNormMlpConfig, MlpConfig, ModelConfig, Padding,
    ResNetConfig, TransformerConfig, VanillaLstmConfig,
};

const STEPS: u64 = 500;

pub(super) fn entries() -> Vec<Entry> {
    let own = MlpConfig {
        activation: Activation::Tanh,
        ..mlp(FashionMnist, 8, &[24])
    };
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
    all.push(mlp_entry("horizon", "MLP, 5,000 steps", 5000, own));
    all
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
