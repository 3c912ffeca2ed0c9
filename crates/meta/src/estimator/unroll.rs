//! Truncated unrolls of the inner training, in antithetic pairs.

use std::sync::Arc;

use lopt_core::{Optimizer, Params, Purpose, Rng, Streams};
use lopt_tasks::{Feed, Network, Split, Task, TaskFamily};

use crate::{Horizon, Result};

/// What one inner step yields.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepRecord {
    /// Normalised training losses on the minibatch before the update, of the halves
    /// trained with θ + ξ and θ − ξ; 0 in a masked step.
    pub losses: [f32; 2],
    /// The step ended the unroll: what follows belongs to the next one.
    pub done: bool,
    /// The step only reset the networks; its loss does not count.
    pub masked: bool,
}

/// Where the randomness and the tasks of unrolls come from.
#[derive(Clone)]
pub struct Source {
    /// The run's random streams.
    pub streams: Streams,
    /// What to train on.
    pub family: Arc<dyn TaskFamily>,
    /// How long to train.
    pub horizon: Horizon,
}

/// What an unroll starts with.
pub struct Start {
    /// What is trained on.
    pub task: Arc<dyn Task>,
    /// Where training starts.
    pub params: Params,
    /// At how many inner steps it ends.
    pub horizon: u64,
}

impl Source {
    /// The start of episode `episode` of unroll `index`.
    ///
    /// # Errors
    /// Those of the task.
    pub fn start(&self, index: u64, episode: u64) -> Result<Start> {
        let stream = |purpose| self.streams.stream(purpose, index, episode, 0);
        let task = self.family.sample(&mut stream(Purpose::TaskSample));
        Ok(Start {
            params: task.init(&mut stream(Purpose::ParamsInit))?,
            task,
            horizon: self.horizon.sample(&mut stream(Purpose::Horizon)),
        })
    }

    /// The generator of an inner step's minibatch.
    pub fn batch_rng(&self, index: u64, episode: u64, inner_step: u64) -> Rng {
        let purpose = Purpose::InnerBatch;
        self.streams.stream(purpose, index, episode, inner_step)
    }
}

/// How many inner steps count as over at the start of a run, for unroll `index` of `tasks`:
/// the i-th of N begins as if i/N of its horizon were over, so that resets are spread in
/// time.
pub fn staggered(horizon: u64, index: u64, tasks: u64) -> u64 {
    (u128::from(horizon) * u128::from(index) / u128::from(tasks)) as u64
}

/// Two networks that see the same task, start, data and resets, one trained with θ + ξ
/// and one with θ − ξ.
pub struct Unroll {
    /// Which of the run's unrolls this is.
    pub index: u64,
    /// How many times it was reset.
    pub episode: u64,
    /// Inner steps since the reset.
    pub inner_step: u64,
    /// At how many inner steps it is reset.
    pub horizon: u64,
    /// The halves of θ + ξ and θ − ξ.
    pub halves: [Network; 2],
    task: Arc<dyn Task>,
    feed: Feed,
}

impl Unroll {
    /// The start of episode `episode`.
    ///
    /// # Errors
    /// Those of the task.
    pub fn start(
        index: u64,
        episode: u64,
        source: &Source,
        optimizers: [Arc<dyn Optimizer>; 2],
    ) -> Result<Self> {
        let Start {
            task,
            params,
            horizon,
        } = source.start(index, episode)?;
        let [plus, minus] =
            optimizers.map(|optimizer| Network::start(task.clone(), params.clone(), optimizer));
        Ok(Self {
            index,
            episode,
            inner_step: 0,
            horizon,
            halves: [plus?, minus?],
            task,
            feed: Feed::default(),
        })
    }

    /// Goes on with other θ ± ξ.
    ///
    /// # Errors
    /// If they are of another kind of optimizer.
    pub fn set_optimizers(&mut self, optimizers: [Arc<dyn Optimizer>; 2]) -> Result<()> {
        for (half, optimizer) in self.halves.iter_mut().zip(optimizers) {
            half.set_optimizer(optimizer)?;
        }
        Ok(())
    }

    /// One inner step of both halves, or the reset that follows the last one.
    ///
    /// A step whose gradient cannot be used changes nothing: the network stays where it
    /// diverged. Its loss counts as it is, which is at the upper bound if it is not finite.
    ///
    /// # Errors
    /// Those of the task.
    pub fn step(&mut self, source: &Source) -> Result<StepRecord> {
        if self.inner_step >= self.horizon {
            let optimizers = self.halves.each_ref().map(|half| half.optimizer().clone());
            let feed = std::mem::take(&mut self.feed);
            *self = Self::start(self.index, self.episode + 1, source, optimizers)?;
            self.feed = feed;
            return Ok(StepRecord {
                losses: [0.0; 2],
                done: false,
                masked: true,
            });
        }
        let mut rng = source.batch_rng(self.index, self.episode, self.inner_step);
        self.halves[0].draw(Split::Train, &mut rng, &mut self.feed)?;
        let mut losses = [0.0; 2];
        for (half, loss) in self.halves.iter_mut().zip(&mut losses) {
            *loss = self.task.normalize(half.step(&mut self.feed)?.loss);
        }
        self.inner_step += 1;
        Ok(StepRecord {
            losses,
            done: self.inner_step >= self.horizon,
            masked: false,
        })
    }

    /// `length` inner steps.
    ///
    /// # Errors
    /// Those of the task.
    pub fn truncation(&mut self, source: &Source, length: usize) -> Result<Vec<StepRecord>> {
        (0..length).map(|_| self.step(source)).collect()
    }
}
