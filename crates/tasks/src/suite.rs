//! Suites of tasks to evaluate optimizers on: the task of meta-training, and others that differ
//! from it in one property each.

use lopt_datasets::{DatasetName, Source};
use serde::{Deserialize, Serialize};

use crate::{
    Activation, ConvNetConfig, DataConfig, Initializer, LayerNormMlpConfig, LstmConfig, MlpConfig,
    ModelConfig, ModelTaskConfig, ResNetConfig, TaskConfig, TransformerConfig,
};

/// A list of tasks.
///
/// ```
/// use lopt_tasks::suite::{IN_DISTRIBUTION, Suite};
///
/// let entries = Suite::Quick.entries();
/// assert_eq!(entries[0].group, IN_DISTRIBUTION);
/// assert_eq!(entries[0].task.network(), "mlp-32-relu");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suite {
    /// Around the task of the preset `quick`: 8×8 images, one hidden layer of 32, 500 steps.
    Quick,
    /// Around the task of the preset `paper`: 28×28 images, two hidden layers of 128, 2000 steps.
    Full,
    /// Networks other than plain MLPs, on embedded data and CIFAR-10, 500 steps.
    BeyondMlps,
}

/// One task of a suite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    /// The property that differs from meta-training, or [`IN_DISTRIBUTION`].
    pub group: String,
    /// The value of that property, such as `width 128`.
    pub name: String,
    /// The task.
    pub task: TaskConfig,
    /// Inner steps.
    pub horizon: u64,
}

/// The group of the task of meta-training.
pub const IN_DISTRIBUTION: &str = "in-distribution";

impl Suite {
    /// Every suite.
    pub const ALL: [Suite; 3] = [Suite::Quick, Suite::Full, Suite::BeyondMlps];

    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Suite::Quick => "quick",
            Suite::Full => "full",
            Suite::BeyondMlps => "beyond-mlps",
        }
    }

    /// The task of meta-training and its horizon. [`Suite::BeyondMlps`] has that of
    /// [`Suite::Quick`].
    pub fn base(self) -> (MlpConfig, u64) {
        let (source, image_size, hidden, horizon) = match self {
            Suite::Quick | Suite::BeyondMlps => (Source::Embedded, 8, vec![32], 500),
            Suite::Full => (Source::Full, 28, vec![128, 128], 2000),
        };
        let task = MlpConfig {
            dataset: DatasetName::FashionMnist,
            source,
            image_size,
            hidden,
            activation: Activation::Relu,
            initializer: Initializer::He,
            batch_size: 128,
        };
        (task, horizon)
    }

    /// All tasks of the suite.
    pub fn entries(self) -> Vec<Entry> {
        match self {
            Suite::Quick => self.around_base(&QUICK),
            Suite::Full => self.around_base(&FULL),
            Suite::BeyondMlps => beyond_mlps(),
        }
    }

    /// The base task and its variants.
    fn around_base(self, others: &Others) -> Vec<Entry> {
        let (base, horizon) = self.base();
        let mut suite = Builder {
            base,
            horizon,
            entries: vec![],
        };
        suite.add(IN_DISTRIBUTION, "as meta-trained", |_| {});
        let base_width = suite.base.hidden[0];
        let base_depth = suite.base.hidden.len();
        for &width in others.widths {
            suite.add("width", &format!("width {width}"), |task| {
                task.hidden = vec![width; base_depth]
            });
        }
        for &depth in others.depths {
            suite.add("depth", &format!("{depth} hidden layers"), |task| {
                task.hidden = vec![base_width; depth];
            });
        }
        let base_activation = suite.base.activation;
        let activations = others.activations.iter().copied();
        for activation in activations.filter(|&other| other != base_activation) {
            suite.add("nonlinearity", activation.name(), |task| {
                task.activation = activation
            });
        }
        suite.add("dataset", "mnist", |task| task.dataset = DatasetName::Mnist);
        suite.add("dataset", "cifar10", |task| {
            task.dataset = DatasetName::Cifar10;
            task.source = Source::Full;
        });
        for &size in others.image_sizes {
            suite.add("image-size", &format!("{size}×{size}"), |task| {
                task.image_size = size
            });
        }
        for &batch in others.batch_sizes {
            suite.add("batch-size", &format!("batch {batch}"), |task| {
                task.batch_size = batch
            });
        }
        for &factor in others.horizons {
            suite.add("horizon", &format!("{factor}× horizon"), |_| {});
            if let Some(entry) = suite.entries.last_mut() {
                entry.horizon = factor * horizon;
            }
        }
        suite.entries
    }
}

/// Values that replace the base's, one at a time.
struct Others {
    widths: &'static [usize],
    depths: &'static [usize],
    /// The base's own is skipped.
    activations: &'static [Activation],
    image_sizes: &'static [usize],
    batch_sizes: &'static [usize],
    /// Multiples of the base's.
    horizons: &'static [u64],
}

const QUICK: Others = Others {
    widths: &[8, 128, 512],
    depths: &[0, 2, 4],
    activations: &[
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::Gelu,
        Activation::Sin,
    ],
    image_sizes: &[14, 28],
    batch_sizes: &[16, 512],
    horizons: &[3, 10, 100],
};

const FULL: Others = Others {
    widths: &[16, 32, 512, 1024],
    depths: &[0, 1, 3, 4],
    activations: &Activation::ALL,
    image_sizes: &[8, 14, 16],
    batch_sizes: &[16, 512],
    horizons: &[3, 10, 100],
};

struct Builder {
    base: MlpConfig,
    horizon: u64,
    entries: Vec<Entry>,
}

impl Builder {
    /// Adds the base task with one change.
    fn add(&mut self, group: &str, name: &str, change: impl FnOnce(&mut MlpConfig)) {
        let mut task = self.base.clone();
        change(&mut task);
        self.entries.push(Entry {
            group: group.to_owned(),
            name: name.to_owned(),
            task: TaskConfig::Mlp(task),
            horizon: self.horizon,
        });
    }
}

/// One task for each architecture, small enough for two cores.
fn beyond_mlps() -> Vec<Entry> {
    let images = |dataset, source, image_size| DataConfig::Images {
        dataset,
        source,
        image_size,
    };
    let fashion = images(DatasetName::FashionMnist, Source::Embedded, 8);
    let cifar = images(DatasetName::Cifar10, Source::Full, 16);
    let text = DataConfig::Text { length: 32 };
    let layer_norm = ModelConfig::LayerNormMlp(LayerNormMlpConfig {
        hidden: vec![32, 32],
    });
    let conv_net = ModelConfig::ConvNet(ConvNetConfig {
        channels: vec![8, 16, 16],
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
    });
    let entry = |name: &str, data: &DataConfig, model: ModelConfig, batch_size| Entry {
        group: "architecture".to_owned(),
        name: name.to_owned(),
        task: TaskConfig::Model(ModelTaskConfig {
            data: data.clone(),
            model,
            batch_size,
        }),
        horizon: 500,
    };
    vec![
        entry("layer-norm MLP", &fashion, layer_norm, 128),
        entry("conv net", &cifar, conv_net, 32),
        entry("ResNet", &cifar, res_net, 32),
        entry("LSTM", &text, lstm, 16),
        entry("transformer", &text, transformer, 16),
    ]
}
