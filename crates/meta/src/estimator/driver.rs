//! What all estimators have in common: workers, ranks and checkpoints.

use std::{collections::BTreeMap, ops::Range, path::Path, sync::Arc};

use candle_core::Tensor;
use lopt_core::{Error as CoreError, LearnedOptimizer, Purpose, Streams, Workers, normal};
use lopt_tasks::TaskFamily;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Estimate, GradientEstimator, Settings,
    snapshot::{NamedTensors, Saved, Snapshot},
    together::{Contribution, mean_over_ranks},
    unroll::Source,
};
use crate::{Comm, Result, share};

/// What one task contributes to the meta-gradient. [`Driver`] makes a [`GradientEstimator`] of
/// it.
pub trait Estimator: Send + Sync {
    /// The name in checkpoints of what is kept of a task between truncations, such as "pair";
    /// `None` if nothing is kept.
    const KEPT: Option<&'static str>;

    /// What is kept of a task between truncations.
    type Unroll: Send;

    /// The part of it that is no tensor.
    type Counters: Serialize + DeserializeOwned;

    /// The settings that it shares with other estimators.
    fn settings(&self) -> Settings;

    /// How inner steps are taken, such as "native loss, avx512 update".
    ///
    /// # Errors
    /// Returns an error if a task cannot be started.
    fn path(&self, source: &Source, optimizer: &dyn LearnedOptimizer) -> Result<String>;

    /// Task `index` at the start of a run.
    ///
    /// # Errors
    /// Returns an error if the task cannot be started.
    fn start(
        &self,
        index: u64,
        source: &Source,
        optimizer: &dyn LearnedOptimizer,
    ) -> Result<Self::Unroll>;

    /// Advances a task by one truncation.
    ///
    /// # Errors
    /// Returns an error if the task or the optimizer fails.
    fn advance(&self, unroll: &mut Self::Unroll, at: &OuterStep) -> Result<Contribution>;

    /// The counters and the tensors of a task.
    ///
    /// # Errors
    /// Returns an error if a tensor operation fails.
    fn save(&self, unroll: &Self::Unroll) -> Result<(Self::Counters, NamedTensors)>;

    /// Task `index` as [`Estimator::save`] saved it.
    ///
    /// # Errors
    /// Returns an error if a tensor is missing or has the wrong shape.
    fn restore(
        &self,
        index: u64,
        counters: Self::Counters,
        saved: &mut Saved,
        source: &Source,
        optimizer: &dyn LearnedOptimizer,
    ) -> Result<Self::Unroll>;
}

/// Where a task is advanced.
pub struct OuterStep<'a> {
    /// Which task.
    pub index: u64,
    /// Which outer step.
    pub outer_step: u64,
    /// The optimizer with θ.
    pub optimizer: &'a dyn LearnedOptimizer,
    /// The run's randomness and tasks.
    pub source: &'a Source,
    given: Option<&'a [f32]>,
}

impl OuterStep<'_> {
    /// ξ ~ N(0, σ²), one entry for each meta-parameter.
    pub fn perturbation(&self, sigma: f64) -> Vec<f32> {
        if let Some(given) = self.given {
            return given.to_vec();
        }
        let (purpose, streams) = (Purpose::Perturbation, self.source.streams);
        let mut rng = streams.stream(purpose, self.outer_step, self.index, 0);
        let n = self.optimizer.theta().values().len();
        (0..n).map(|_| sigma as f32 * normal(&mut rng)).collect()
    }
}

/// Runs an [`Estimator`]: advances this rank's share of the tasks in parallel, takes the mean
/// over all ranks, and saves and restores what is kept between truncations.
pub struct Driver<E: Estimator> {
    estimator: E,
    source: Source,
    workers: Workers,
    /// This rank's tasks.
    share: Range<u64>,
    /// One for each of them.
    pub(super) unrolls: Vec<E::Unroll>,
    path: String,
}

impl<E: Estimator> Driver<E> {
    /// The estimator at the start of the run with this seed.
    ///
    /// # Errors
    /// Returns an error if a task cannot be started.
    pub fn new(
        estimator: E,
        seed: u64,
        family: Arc<dyn TaskFamily>,
        workers: Workers,
        optimizer: &dyn LearnedOptimizer,
        comm: &dyn Comm,
    ) -> Result<Self> {
        let settings = estimator.settings();
        let source = Source {
            streams: Streams::new(seed),
            family,
            horizon: settings.horizon,
        };
        let share = share(comm, settings.tasks);
        let start = |index| estimator.start(index, &source, optimizer);
        Ok(Self {
            unrolls: share.clone().map(start).collect::<Result<_>>()?,
            path: estimator.path(&source, optimizer)?,
            estimator,
            source,
            workers,
            share,
        })
    }

    /// [`GradientEstimator::estimate`] with given perturbations, one for each of this rank's
    /// tasks.
    ///
    /// # Errors
    /// As [`GradientEstimator::estimate`].
    pub fn estimate_with(
        &mut self,
        optimizer: &dyn LearnedOptimizer,
        outer_step: u64,
        perturbations: &[Vec<f32>],
        comm: &dyn Comm,
    ) -> Result<Estimate> {
        let given = perturbations.iter().map(|xi| Some(&**xi));
        self.advance(optimizer, outer_step, given, comm)
    }

    fn advance<'a>(
        &mut self,
        optimizer: &'a dyn LearnedOptimizer,
        outer_step: u64,
        given: impl Iterator<Item = Option<&'a [f32]>>,
        comm: &dyn Comm,
    ) -> Result<Estimate> {
        let (estimator, source) = (&self.estimator, &self.source);
        let jobs = self.share.clone().zip(&mut self.unrolls).zip(given);
        let own = self.workers.map(jobs, |((index, unroll), given)| {
            let at = OuterStep {
                index,
                outer_step,
                optimizer,
                source,
                given,
            };
            estimator.advance(unroll, &at)
        });
        let own: Vec<_> = own.into_iter().collect::<Result<_>>()?;
        let n = optimizer.theta().values().len();
        mean_over_ranks(&own, n, estimator.settings().tasks, comm)
    }

    /// The counters of all tasks.
    fn counters(&self, description: &Value, path: &Path) -> Result<Vec<E::Counters>> {
        let counters: Vec<_> = serde_json::from_value(description.clone())
            .map_err(|e| CoreError::file(path, format!("the unrolls' counters: {e}")))?;
        let (found, tasks) = (counters.len() as u64, self.estimator.settings().tasks);
        if found != tasks {
            let problem = format!("holds {found} unrolls, the configuration asks for {tasks}");
            return Err(CoreError::file(path, problem).into());
        }
        Ok(counters)
    }
}

impl<E: Estimator> GradientEstimator for Driver<E> {
    fn path(&self) -> String {
        self.path.clone()
    }

    fn estimate(
        &mut self,
        optimizer: &dyn LearnedOptimizer,
        outer_step: u64,
        comm: &dyn Comm,
    ) -> Result<Estimate> {
        self.advance(optimizer, outer_step, std::iter::repeat(None), comm)
    }

    fn snapshot(&self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        let Some(kept) = E::KEPT else {
            return Ok(snapshot);
        };
        for (index, unroll) in self.share.clone().zip(&self.unrolls) {
            let (counters, tensors) = self.estimator.save(unroll)?;
            let counters = serde_json::to_value(counters);
            let counters = counters.map_err(|e| CoreError::Mismatch(e.to_string()))?;
            snapshot.description.push(counters);
            let named = |(name, tensor)| (format!("{kept}{index}/{name}"), tensor);
            snapshot.tensors.extend(tensors.into_iter().map(named));
        }
        Ok(snapshot)
    }

    fn restore(
        &mut self,
        description: &Value,
        tensors: &mut BTreeMap<String, Tensor>,
        optimizer: &dyn LearnedOptimizer,
        path: &Path,
    ) -> Result<()> {
        let Some(kept) = E::KEPT else {
            return Ok(());
        };
        let mut all = self.counters(description, path)?;
        let first = self.share.start as usize;
        let own = all.drain(first..first + self.unrolls.len());
        let restore = |(index, counters)| {
            let mut saved = Saved::new(tensors, format!("{kept}{index}/"), path);
            let (estimator, source) = (&self.estimator, &self.source);
            estimator.restore(index, counters, &mut saved, source, optimizer)
        };
        self.unrolls = self
            .share
            .clone()
            .zip(own)
            .map(restore)
            .collect::<Result<_>>()?;
        Ok(())
    }
}
