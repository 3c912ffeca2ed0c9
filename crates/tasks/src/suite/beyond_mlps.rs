use lopt_datasets::{DatasetName, Source};

use super::{Entry, images, model_entry};
use crate::{
    ConvNetConfig, DataConfig, LayerNormMlpConfig, LstmConfig, ModelConfig, Padding, ResNetConfig,
    TransformerConfig,
};

/// One task for each architecture, small enough for two cores.
pub(super) fn entries() -> Vec<Entry> {
    let fashion = images(DatasetName::FashionMnist, Source::Embedded, 8);
    let cifar = images(DatasetName::Cifar10, Source::Full, 16);
    let text = DataConfig::Text { length: 32 };
    let layer_norm = ModelConfig::LayerNormMlp(LayerNormMlpConfig {
        hidden: vec![32, 32],
    });
    let conv_net = ModelConfig::ConvNet(ConvNetConfig {
        channels: vec![8, 16, 16],
        filter: 3,
        padding: Padding::Same,
    });
    let res_net = ModelConfig::ResNet(ResNetConfig {
        channels: vec![8, 16],
    });
    let lstm = ModelConfig::Lstm(LstmConfig {
        embedding: 32,
        hidden: 64,
    });
    let transformer = ModelConfig::Transformer(TransformerConfig {
        width: 32,
        heads: 4,
        layers: 2,
        tied_embeddings: false,
    });
    let entry = |name: &str, data: &DataConfig, model, batch_size| {
        model_entry("architecture", name, 500, data.clone(), model, batch_size)
    };
    vec![
        entry("layer-norm MLP", &fashion, layer_norm, 128),
        entry("conv net", &cifar, conv_net, 32),
        entry("ResNet", &cifar, res_net, 32),
        entry("LSTM", &text, lstm, 16),
        entry("transformer", &text, transformer, 16),
    ]
}
