//! Suites of tasks to evaluate optimizers on: the task of meta-training, and others that differ
//! from it in one property each.

mod beyond_mlps;
mod held_out;
mod selection;

use lopt_datasets::{DatasetName, Source};
use serde::{Deserialize, Serialize};

use crate::{
    Activation, DataConfig, FeedForwardConfig, Initializer, MlpConfig, ModelConfig,
    ModelTaskConfig, TaskConfig,
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
    /// Tasks that no choice of an optimizer may depend on: other losses, data and architectures, and
    /// settings far from the usual ones.
    HeldOut,
    /// The tasks on which to choose θ and settings; none is a task of another suite.
    Selection,
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

impl Entry {
    /// The name with the group, such as `depth: 4 hidden layers`; the name alone if it contains the
    /// group, such as `width 512`, and for the task of meta-training.
    pub fn title(&self) -> String {
        title(&self.group, &self.name)
    }
}

/// Returns the title of a task of a suite; see [`Entry::title`].
pub fn title(group: &str, name: &str) -> String {
    match group == IN_DISTRIBUTION || name.starts_with(group) {
        true => name.to_owned(),
        false => format!("{group}: {name}"),
    }
}

/// The group of the task of meta-training.
pub const IN_DISTRIBUTION: &str = "in-distribution";

impl Suite {
    /// Every suite.
    pub const ALL: [Suite; 5] = [
        Suite::Quick,
        Suite::Full,
        Suite::BeyondMlps,
        Suite::HeldOut,
        Suite::Selection,
    ];

    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Suite::Quick => "quick",
            Suite::Full => "full",
            Suite::BeyondMlps => "beyond-mlps",
            Suite::HeldOut => "held-out",
            Suite::Selection => "selection",
        }
    }

    /// The task of meta-training and its horizon. Suites that are not around one task have that of
    /// [`Suite::Quick`].
    pub fn base(self) -> (MlpConfig, u64) {
        let (source, image_size, hidden, horizon) = match self {
            Suite::Full => (Source::Full, 28, vec![128, 128], 2000),
            _ => (Source::Embedded, 8, vec![32], 500),
        };
        let task = MlpConfig {
            dataset: DatasetName::FashionMnist,
            source,
            image_size,
            hidden,
            activation: Activation::Relu,
            initializer: Initializer::He,
            batch_size: 128,
            input_scale: 1.0,
            label_noise: 0.0,
        };
        (task, horizon)
    }

    /// All tasks of the suite.
    pub fn entries(self) -> Vec<Entry> {
        match self {
            Suite::Quick => self.around_base(&QUICK),
            Suite::Full => self.around_base(&FULL),
            Suite::BeyondMlps => beyond_mlps::entries(),
            Suite::HeldOut => held_out::entries(),
            Suite::Selection => selection::entries(),
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

fn images(dataset: DatasetName, source: Source, image_size: usize) -> DataConfig {
    DataConfig::Images {
        dataset,
        source,
        image_size,
    }
}

fn feed_forward(hidden: &[usize]) -> ModelConfig {
    ModelConfig::FeedForward(FeedForwardConfig {
        hidden: hidden.to_vec(),
        activation: Activation::Relu,
    })
}

fn model_entry(
    group: &str,
    name: &str,
    horizon: u64,
    data: DataConfig,
    model: ModelConfig,
    batch_size: usize,
) -> Entry {
    Entry {
        group: group.to_owned(),
        name: name.to_owned(),
        task: TaskConfig::Model(ModelTaskConfig {
            data,
            model,
            batch_size,
        }),
        horizon,
    }
}

fn mlp_entry(group: &str, name: &str, horizon: u64, task: MlpConfig) -> Entry {
    Entry {
        group: group.to_owned(),
        name: name.to_owned(),
        task: TaskConfig::Mlp(task),
        horizon,
    }
}

/// A ReLU MLP on embedded images, with batches of 64.
fn mlp(dataset: DatasetName, image_size: usize, hidden: &[usize]) -> MlpConfig {
    MlpConfig {
        dataset,
        source: Source::Embedded,
        image_size,
        hidden: hidden.to_vec(),
        activation: Activation::Relu,
        initializer: Initializer::He,
        batch_size: 64,
        input_scale: 1.0,
        label_noise: 0.0,
    }
}
