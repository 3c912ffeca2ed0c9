//! Inner steps of MLP tasks on each path.

use std::{fmt, sync::Arc};

use candle_core::{Device, Tensor};
use lopt_core::{LearnedOptimizer, Params, Purpose, Result, Rng, Streams};
use lopt_datasets::{DatasetName, Source};
use lopt_per_param::{Evaluation, Learned, Rule};
use lopt_star::Config;
use lopt_tasks::{
    Activation, Batch, DataStore, Feed, Initializer, MlpConfig, MlpTask, Network, Split, Task,
};
use serde::{Deserialize, Serialize};

use crate::updates::star;

/// The networks to measure, smallest first.
pub const NETWORKS: [NetworkSize; 4] = [
    NetworkSize::new(8, &[32]),
    NetworkSize::new(14, &[32]),
    NetworkSize::new(28, &[32]),
    NetworkSize::new(28, &[128, 128]),
];

/// An MLP on square images of one channel.
#[derive(Clone, Copy, Debug)]
pub struct NetworkSize {
    /// Height and width of the images.
    pub image_size: usize,
    /// Widths of the hidden layers.
    pub hidden: &'static [usize],
}

impl NetworkSize {
    /// Creates a size.
    pub const fn new(image_size: usize, hidden: &'static [usize]) -> Self {
        Self { image_size, hidden }
    }

    /// Widths of all layers, for example 784, 32, 10.
    pub fn sizes(self) -> Vec<usize> {
        let input = self.image_size * self.image_size;
        let hidden = self.hidden.iter().copied();
        std::iter::once(input).chain(hidden).chain([10]).collect()
    }
}

/// Writes the widths of all layers, as in `784-32-10`.
impl fmt::Display for NetworkSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes: Vec<String> = self.sizes().iter().map(ToString::to_string).collect();
        f.pad(&sizes.join("-"))
    }
}

/// How an inner step is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Gradients and update in the kernels.
    Native,
    /// Gradients by candle's autodiff, update in the kernels.
    Autodiff,
    /// Gradients by candle's autodiff, update in candle ops.
    Ops,
}

impl Path {
    /// All paths, fastest first.
    pub const ALL: [Path; 3] = [Path::Native, Path::Autodiff, Path::Ops];

    /// A ReLU MLP on embedded Fashion-MNIST with batch size 128, and a random STAR.
    ///
    /// # Panics
    /// Panics if the embedded data are corrupt.
    pub fn task_and_star(self, size: NetworkSize) -> (Arc<dyn Task>, Box<dyn LearnedOptimizer>) {
        let config = MlpConfig {
            dataset: DatasetName::FashionMnist,
            source: Source::Embedded,
            image_size: size.image_size,
            hidden: size.hidden.to_vec(),
            activation: Activation::Relu,
            initializer: Initializer::He,
            batch_size: 128,
            input_scale: 1.0,
            label_noise: 0.0,
        };
        let task = MlpTask::new(config, &mut DataStore::default(), &Device::Cpu);
        let task = task.expect("embedded data");
        match self {
            Path::Native => (Arc::new(task), Box::new(star())),
            Path::Autodiff => (Arc::new(WithoutNative(task)), Box::new(star())),
            Path::Ops => (Arc::new(WithoutNative(task)), Box::new(without_formula())),
        }
    }
}

/// A network in training.
pub struct Training {
    network: Network,
    feed: Feed,
    rng: Rng,
}

impl Training {
    /// Starts a training run.
    ///
    /// # Panics
    /// Panics if the task or the optimizer fails.
    pub fn new(path: Path, size: NetworkSize) -> Self {
        let (task, optimizer) = path.task_and_star(size);
        let mut rng = Streams::new(0).stream(Purpose::Evaluation, 0, 0, 0);
        let params = task.init(&mut rng).expect("parameters");
        let optimizer: Arc<dyn LearnedOptimizer> = optimizer.into();
        Self {
            network: Network::start(task, params, optimizer).expect("a network"),
            feed: Feed::default(),
            rng,
        }
    }

    /// See [`Network::path`].
    pub fn path(&self) -> String {
        self.network.path()
    }

    /// Draws a minibatch and takes an inner step.
    ///
    /// # Panics
    /// Panics if the task or the optimizer fails.
    pub fn step(&mut self) {
        let drawn = self
            .network
            .draw(Split::Train, &mut self.rng, &mut self.feed);
        drawn.expect("a batch");
        self.network.step(&mut self.feed).expect("a step");
    }
}

/// A task without a native loss: its gradients come from candle's autodiff.
struct WithoutNative(MlpTask);

impl Task for WithoutNative {
    fn init(&self, rng: &mut Rng) -> Result<Params> {
        self.0.init(rng)
    }

    fn batch(&self, split: Split, rng: &mut Rng) -> Result<Batch> {
        Task::batch(&self.0, split, rng)
    }

    fn loss(&self, params: &Params, batch: &Batch) -> Result<Tensor> {
        self.0.loss(params, batch)
    }

    fn normalize(&self, loss: f32) -> f32 {
        self.0.normalize(loss)
    }
}

fn without_formula() -> Learned<WithoutFormula> {
    Learned::new(star().theta().clone()).expect("the same configuration")
}

/// STAR without a formula for the kernels: it runs in candle ops.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct WithoutFormula(Config);

impl Rule for WithoutFormula {
    const KIND: &'static str = Config::KIND;

    fn hidden(&self) -> &[usize] {
        self.0.hidden()
    }

    fn heads(&self) -> usize {
        self.0.heads()
    }

    fn seen_step(&self, t: u64) -> u64 {
        self.0.seen_step(t)
    }

    fn step(&self, evaluation: &Evaluation) -> Result<Tensor> {
        self.0.step(evaluation)
    }
}
