//! What all estimators have in common: workers, ranks and checkpoints.

use std::{collections::BTreeMap, ops::Range, path::Path, sync::Arc};

use candle_core::Tensor;
use lopt_core::{
    Error as CoreError, LearnedOptimizer, Purpose, Result as CoreResult, Streams, Workers, normal,
};
use lopt_tasks::{MlpTask, NewFleet, TaskFamily, Together};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Estimate, GradientEstimator, Settings,
    snapshot::{NamedTensors, Saved, Snapshot},
    together::{Contribution, mean_over_ranks},
    unroll::Source,
};
use crate::{Comm, Result, share};

/// What one task contributes to the meta-gradient. [`Driver`] turns it into a
/// [`GradientEstimator`].
pub trait Estimator: Send + Sync {
    /// The name in checkpoints of a task's state between truncations, such as "pair"; `None` if
    /// there is no such state.
    const KEPT: Option<&'static str>;

    /// Whether a task is an antithetic pair of networks, which a GPU may train together with those of
    /// all other tasks; see [`Estimator::advance_all`].
    const IN_PAIRS: bool = false;

    /// The state of a task between truncations.
    type Unroll: Send;

    /// The part of the state that is not a tensor.
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

    /// Advances all tasks of this rank by one truncation. By default, advances each on its own, on the
    /// threads of `workers`.
    ///
    /// # Errors
    /// As [`Estimator::advance`].
    fn advance_all(
        &self,
        tasks: Vec<(&mut Self::Unroll, OuterStep)>,
        workers: Workers,
    ) -> Result<Vec<Contribution>> {
        advance_each(self, tasks, workers)
    }

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

/// Advances each task by itself.
pub(super) fn advance_each<E: Estimator + ?Sized>(
    estimator: &E,
    tasks: Vec<(&mut E::Unroll, OuterStep)>,
    workers: Workers,
) -> Result<Vec<Contribution>> {
    let own = workers.map(tasks, |(unroll, at)| estimator.advance(unroll, &at));
    own.into_iter().collect()
}

/// The networks of these tasks, if they are trained together, and the run's randomness and tasks.
pub(super) fn together<'a, U>(tasks: &[(U, OuterStep<'a>)]) -> Option<(&'a Source, &'a Together)> {
    let source = tasks.first()?.1.source;
    Some((source, source.together()?.0))
}

/// The context in which a task is advanced.
pub struct OuterStep<'a> {
    /// The index of the task.
    pub index: u64,
    /// The number of the outer step.
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

/// Runs an [`Estimator`]: advances this rank's share of the tasks in parallel, takes the mean over
/// all ranks, and saves and restores the state between truncations.
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
        let together = |task: &_, networks| Together::on_gpu(task, optimizer, networks, 2);
        Self::with(estimator, seed, family, workers, optimizer, comm, together)
    }

    /// [`Driver::new`], with the networks of all pairs of this rank in a fleet that `new` creates.
    ///
    /// # Errors
    /// As [`Driver::new`], or if `new` creates none.
    pub fn with_fleet(
        estimator: E,
        seed: u64,
        family: Arc<dyn TaskFamily>,
        optimizer: &dyn LearnedOptimizer,
        comm: &dyn Comm,
        new: NewFleet,
    ) -> Result<Self> {
        let workers = Workers::ONE;
        let together = |task: &_, networks| Together::by(task, networks, 2, new);
        let driver = Self::with(estimator, seed, family, workers, optimizer, comm, together)?;
        match driver.source.together {
            Some(_) => Ok(driver),
            None => {
                let problem = "these tasks cannot be trained together".to_owned();
                Err(CoreError::Mismatch(problem).into())
            }
        }
    }

    /// The driver, with the networks of all pairs in what `together` returns for so many networks of a
    /// task.
    fn with(
        estimator: E,
        seed: u64,
        family: Arc<dyn TaskFamily>,
        workers: Workers,
        optimizer: &dyn LearnedOptimizer,
        comm: &dyn Comm,
        together: impl FnOnce(&Arc<MlpTask>, usize) -> CoreResult<Option<Together>>,
    ) -> Result<Self> {
        let settings = estimator.settings();
        let share = share(comm, settings.tasks);
        let together = match family.single_mlp() {
            Some(task) if E::IN_PAIRS => together(&task, 2 * share.clone().count())?,
            _ => None,
        };
        let source = Source {
            streams: Streams::new(seed),
            family,
            horizon: settings.horizon,
            together: together.map(|all| (all, share.start)),
        };
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
    /// As [`GradientEstimator::estimate`], or if there are more or fewer perturbations than tasks.
    pub fn estimate_with(
        &mut self,
        optimizer: &dyn LearnedOptimizer,
        outer_step: u64,
        perturbations: &[Vec<f32>],
        comm: &dyn Comm,
    ) -> Result<Estimate> {
        let (count, tasks) = (perturbations.len(), self.unrolls.len());
        if count != tasks {
            let problem = format!("{count} perturbations for {tasks} tasks of this rank");
            return Err(CoreError::Mismatch(problem).into());
        }
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
        let tasks = self.share.clone().zip(&mut self.unrolls).zip(given);
        let tasks = tasks.map(|((index, unroll), given)| {
            let at = OuterStep {
                index,
                outer_step,
                optimizer,
                source,
                given,
            };
            (unroll, at)
        });
        let own = estimator.advance_all(tasks.collect(), self.workers)?;
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

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use lopt_core::{Params, Rng};
    use lopt_star::Star;
    use lopt_tasks::{Batch, Split, Task};

    use super::*;
    use crate::{Alone, Horizon};

    /// Adds its index to a number in each truncation.
    struct Counting;

    impl Estimator for Counting {
        const KEPT: Option<&'static str> = Some("number");
        type Unroll = f64;
        type Counters = u64;

        fn settings(&self) -> Settings {
            Settings {
                tasks: 8,
                horizon: Horizon::Constant { steps: 1 },
                truncation: None,
                sigma: None,
                sign: None,
            }
        }

        fn path(&self, _: &Source, _: &dyn LearnedOptimizer) -> Result<String> {
            Ok("none".to_owned())
        }

        fn start(&self, _: u64, _: &Source, _: &dyn LearnedOptimizer) -> Result<f64> {
            Ok(0.5)
        }

        fn advance(&self, number: &mut f64, at: &OuterStep) -> Result<Contribution> {
            *number += at.index as f64;
            Ok(Contribution {
                gradient: vec![0.0; at.optimizer.theta().values().len()],
                meta_loss: *number,
                inner_steps: at.index,
            })
        }

        fn save(&self, number: &f64) -> Result<(u64, NamedTensors)> {
            let tensor = Tensor::new(*number, &Device::Cpu)?;
            Ok((*number as u64, vec![("x".to_owned(), tensor)]))
        }

        fn restore(
            &self,
            _: u64,
            floor: u64,
            saved: &mut Saved,
            _: &Source,
            _: &dyn LearnedOptimizer,
        ) -> Result<f64> {
            let number = saved.take("x", |x| x.rank() == 0)?.to_scalar::<f64>()?;
            assert_eq!(floor, number as u64);
            Ok(number)
        }
    }

    struct Nothing;

    impl Task for Nothing {
        fn init(&self, _: &mut Rng) -> lopt_core::Result<Params> {
            Params::new([])
        }

        fn batch(&self, _: Split, _: &mut Rng) -> lopt_core::Result<Batch> {
            Ok(vec![])
        }

        fn loss(&self, _: &Params, _: &Batch) -> lopt_core::Result<Tensor> {
            Ok(Tensor::new(0f32, &Device::Cpu)?)
        }
    }

    /// One of three ranks, by itself.
    struct OfThree(usize);

    impl Comm for OfThree {
        fn rank(&self) -> usize {
            self.0
        }

        fn size(&self) -> usize {
            3
        }

        fn sum(&self, _: &mut [i64]) -> Result<()> {
            Ok(())
        }

        fn gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>> {
            Ok(vec![bytes])
        }

        fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
            Ok(bytes)
        }
    }

    fn driver(comm: &dyn Comm) -> Driver<Counting> {
        let family = Arc::new(Arc::new(Nothing));
        let star = Star::untrained();
        Driver::new(Counting, 0, family, Workers::new(None), &star, comm).unwrap()
    }

    /// Every rank takes its own tasks out of the checkpoint of a single process.
    #[test]
    fn ranks_restore_their_share() {
        let (star, path) = (Star::untrained(), Path::new("here"));
        let mut alone = driver(&Alone);
        for outer_step in 0..2 {
            alone.estimate(&star, outer_step, &Alone).unwrap();
        }
        let estimate = alone.estimate(&star, 2, &Alone).unwrap();
        assert_eq!((estimate.meta_loss, estimate.inner_steps), (11.0, 28));
        let Snapshot {
            description,
            tensors,
        } = alone.snapshot().unwrap();
        assert_eq!(tensors[7].0, "number7/x");
        let (mut numbers, mut names) = (vec![], vec![]);
        for rank in 0..3 {
            let mut tensors = tensors.iter().cloned().collect();
            let mut of_rank = driver(&OfThree(rank));
            let description = Value::Array(description.clone());
            of_rank
                .restore(&description, &mut tensors, &star, path)
                .unwrap();
            numbers.extend(of_rank.unrolls.iter().copied());
            let saved = of_rank.snapshot().unwrap().tensors;
            names.extend(saved.into_iter().map(|(name, _)| name));
        }
        assert_eq!(numbers, alone.unrolls);
        assert_eq!(
            names,
            tensors
                .into_iter()
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn what_a_checkpoint_lacks_is_named() {
        let (star, path) = (Star::untrained(), Path::new("here"));
        let mut driver = driver(&Alone);
        let snapshot = driver.snapshot().unwrap();
        let description = Value::Array(snapshot.description);
        let mut tensors: BTreeMap<_, _> = snapshot.tensors.into_iter().collect();
        tensors.remove("number3/x");
        let error = driver.restore(&description, &mut tensors, &star, path);
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("here") && error.contains("`number3/x`"),
            "{error}"
        );
        let error = driver.restore(&Value::Array(vec![]), &mut tensors, &star, path);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("holds 0 unrolls"), "{error}");
    }
}
