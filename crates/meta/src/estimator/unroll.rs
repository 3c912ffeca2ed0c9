//! Unrolls of the inner training: their random streams and their progress.

use std::sync::Arc;

use lopt_core::{Params, Purpose, Rng, Streams};
use lopt_tasks::{Task, TaskFamily, Together};
use serde::{Deserialize, Serialize};

use crate::{Horizon, Result};

/// The randomness and the tasks of a run.
pub struct Source {
    /// The run's random streams.
    pub streams: Streams,
    /// The family that tasks are drawn from.
    pub family: Arc<dyn TaskFamily>,
    /// The distribution of the lengths of unrolls.
    pub horizon: Horizon,
    /// The networks of all pairs, if they are trained together, and the index of the first pair.
    pub(super) together: Option<(Together, u64)>,
}

impl Source {
    /// The networks of all pairs, if they are trained together, and the index of the first pair.
    pub(super) fn together(&self) -> Option<(&Together, u64)> {
        self.together.as_ref().map(|(all, first)| (all, *first))
    }
}

/// One unroll from its reset to its horizon, and its progress.
#[derive(Clone)]
pub struct Episode {
    /// The index of the unroll; there is one for each task of the estimator.
    pub index: u64,
    /// How many times the unroll was reset before.
    pub episode: u64,
    /// Inner steps since the reset.
    pub inner_step: u64,
    /// The number of inner steps after which the unroll is reset.
    pub horizon: u64,
    /// The task.
    pub task: Arc<dyn Task>,
}

/// An [`Episode`] in a checkpoint.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counters<S> {
    pub episode: u64,
    inner_step: u64,
    horizon: u64,
    /// Of one network, or of both halves of a pair.
    pub optimizer_steps: S,
}

impl Episode {
    /// Episode `episode` of unroll `index`, before its first step, and the initial parameters.
    ///
    /// # Errors
    /// Returns an error if the parameters cannot be initialized.
    pub fn start(index: u64, episode: u64, source: &Source) -> Result<(Self, Params)> {
        let stream = |purpose| source.streams.stream(purpose, index, episode, 0);
        let task = source.family.sample(&mut stream(Purpose::TaskSample));
        let params = task.init(&mut stream(Purpose::ParamsInit))?;
        let horizon = source.horizon.sample(&mut stream(Purpose::Horizon));
        let start = Self {
            index,
            episode,
            inner_step: 0,
            horizon,
            task,
        };
        Ok((start, params))
    }

    /// Whether the horizon is reached.
    pub fn is_over(&self) -> bool {
        self.inner_step >= self.horizon
    }

    /// Continues as if i/N of the horizon had passed for the i-th of N = `tasks` unrolls, so that
    /// resets are spread over time.
    pub fn stagger(&mut self, tasks: u64) {
        let over = u128::from(self.horizon) * u128::from(self.index) / u128::from(tasks);
        self.inner_step = over as u64;
    }

    /// The generator of the minibatch `ahead` inner steps from now.
    pub fn batch_rng(&self, source: &Source, ahead: u64) -> Rng {
        let (purpose, step) = (Purpose::InnerBatch, self.inner_step + ahead);
        source
            .streams
            .stream(purpose, self.index, self.episode, step)
    }

    pub(super) fn counters<S>(&self, optimizer_steps: S) -> Counters<S> {
        Counters {
            episode: self.episode,
            inner_step: self.inner_step,
            horizon: self.horizon,
            optimizer_steps,
        }
    }

    pub(super) fn restore<S>(&mut self, counters: &Counters<S>) {
        self.inner_step = counters.inner_step;
        self.horizon = counters.horizon;
    }
}
