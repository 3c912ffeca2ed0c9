use std::{
    path::{Path, PathBuf},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use lopt_core::{LearnedOptimizer, Optimizer, Theta, Workers};
use lopt_tasks::TaskFamily;
use serde_json::{Value, json};

use crate::{
    Alone, Checkpoint, Comm, Configuration, Error, Estimate, GradientEstimator, HeldOut,
    HeldOutScore, OuterOptimizer, Provenance, Result, RunDir, TrainerConfig, config::to_toml,
    outer::norm, run_dir::restore,
};

/// What an [`Observer`] is told after each outer step.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Outer steps taken.
    pub outer_step: u64,
    /// Outer steps of the whole run.
    pub outer_steps: u64,
    /// The meta-loss of this step.
    pub meta_loss: f64,
    /// Inner steps since the run started, both halves counted.
    pub inner_steps: u64,
    /// The held-out score, after the steps that have one.
    pub held_out: Option<HeldOutScore>,
    /// The best held-out score and its outer step.
    pub best: Option<(u64, HeldOutScore)>,
}

/// Follows a run.
pub trait Observer {
    /// Called after each outer step.
    fn on_step(&mut self, progress: &Progress);
}

/// Nobody watches.
impl Observer for () {
    fn on_step(&mut self, _: &Progress) {}
}

/// The outer loop of one run, for any task family and any learned optimizer.
///
/// It estimates the meta-gradient, follows it with the outer optimizer, keeps the best θ by
/// held-out training, and writes metrics and checkpoints to a run directory.
/// [`RunConfig::start`](crate::RunConfig::start) makes one from a TOML file.
///
/// Several ranks each have one and call the same functions; rank 0 keeps the run directory.
/// An error on one of them leaves the others waiting: the caller ends them all.
pub struct Trainer {
    config: TrainerConfig,
    /// The whole configuration, for the provenance of θ.
    description: Value,
    path: PathBuf,
    /// On rank 0.
    run: Option<RunDir>,
    comm: Rc<dyn Comm>,
    provenance: Provenance,
    optimizer: Arc<dyn LearnedOptimizer>,
    outer: OuterOptimizer,
    estimator: Box<dyn GradientEstimator>,
    held_out: HeldOut,
    inner_path: String,
    best: Option<(u64, HeldOutScore)>,
    inner_steps: u64,
}

/// What a run computes with. The default is one process with a thread for each processor.
pub struct Resources {
    /// Threads of this process.
    pub workers: Workers,
    /// The processes that take part.
    pub comm: Rc<dyn Comm>,
    /// This program.
    pub provenance: Provenance,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            workers: Workers::new(None),
            comm: Rc::new(Alone),
            provenance: Provenance::default(),
        }
    }
}

/// A run directory that was opened to be resumed. On ranks other than 0 it holds what rank 0 has
/// read.
pub struct SavedRun {
    path: PathBuf,
    run: Option<RunDir>,
    text: String,
}

impl SavedRun {
    /// Opens and locks a run directory on rank 0, which sends the configuration to the others.
    ///
    /// # Errors
    /// Returns an error if the directory holds no run or is in use.
    pub fn open(path: &Path, comm: &dyn Comm) -> Result<Self> {
        let (run, text) = match comm.rank() {
            0 => RunDir::open(path).map(|(run, text)| (Some(run), text))?,
            _ => (None, String::new()),
        };
        let text = comm.broadcast(text.into_bytes())?;
        Ok(Self {
            path: path.to_owned(),
            run,
            text: String::from_utf8_lossy(&text).into_owned(),
        })
    }

    /// Its `config.toml`.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Trainer {
    /// Starts a run in a new directory.
    ///
    /// # Errors
    /// Returns an error if a value of the configuration is out of range, there are more ranks than
    /// tasks, or the directory is not empty or cannot be written.
    pub fn start(
        family: Arc<dyn TaskFamily>,
        optimizer: Box<dyn LearnedOptimizer>,
        config: &impl Configuration,
        path: &Path,
        resources: Resources,
    ) -> Result<Self> {
        let mut trainer = Self::assemble(family, optimizer, config, path, resources)?;
        if trainer.comm.rank() == 0 {
            let mut run = RunDir::create(path, &to_toml(config)?, &trainer.provenance)?;
            run.open_metrics(0)?;
            trainer.run = Some(run);
        }
        trainer.save_checkpoint()?;
        Ok(trainer)
    }

    /// Resumes a run from its newest good checkpoint, with the family, the optimizer and the
    /// configuration that it was started with. The provenance of its θ remains that of the program
    /// that started it.
    ///
    /// # Errors
    /// Returns an error if the checkpoints are damaged, or belong to another configuration.
    pub fn resume(
        family: Arc<dyn TaskFamily>,
        optimizer: Box<dyn LearnedOptimizer>,
        config: &impl Configuration,
        saved: SavedRun,
        mut resources: Resources,
    ) -> Result<Self> {
        let SavedRun { path, run, .. } = saved;
        if let Some(run) = &run {
            resources.provenance = run.provenance()?;
        }
        let mut trainer = Self::assemble(family, optimizer, config, &path, resources)?;
        trainer.run = run;
        trainer.take_checkpoint()?;
        Ok(trainer)
    }

    /// Rank 0 reads the newest good checkpoint, the others have it from there.
    fn take_checkpoint(&mut self) -> Result<()> {
        let optimizer = self.optimizer.clone();
        let (outer, estimator) = (&mut self.outer, &mut *self.estimator);
        let resumed = match &mut self.run {
            Some(run) => {
                let resumed = run.resume(&*optimizer, outer, estimator)?;
                run.open_metrics(resumed.as_ref().map_or(0, |(r, _)| r.outer_step))?;
                let (resumed, bytes) = resumed.unzip();
                self.comm.broadcast(bytes.unwrap_or_default())?;
                resumed
            }
            None => match &*self.comm.broadcast(vec![])? {
                [] => None,
                bytes => Some(restore(bytes, &self.path, &*optimizer, outer, estimator)?),
            },
        };
        if let Some(resumed) = resumed {
            self.optimizer = optimizer.with_values(resumed.theta)?.into();
            self.best = resumed.best;
            self.inner_steps = resumed.inner_steps;
        }
        Ok(())
    }

    fn assemble(
        family: Arc<dyn TaskFamily>,
        optimizer: Box<dyn LearnedOptimizer>,
        described: &impl Configuration,
        path: &Path,
        resources: Resources,
    ) -> Result<Self> {
        let Resources {
            workers,
            comm,
            provenance,
        } = resources;
        let config = described.trainer().clone();
        config.check()?;
        let (ranks, tasks) = (comm.size(), config.estimator.tasks());
        if ranks as u64 > tasks {
            return Err(Error::Config(format!(
                "{ranks} ranks for {tasks} tasks: each rank needs one; set estimator.tasks to                  {ranks} or more"
            )));
        }
        let seed = config.seed;
        let estimator =
            config
                .estimator
                .start(seed, family.clone(), workers, &*optimizer, &*comm)?;
        let description =
            serde_json::to_value(described).map_err(|e| Error::Config(e.to_string()))?;
        let n = optimizer.theta().values().len();
        Ok(Self {
            outer: OuterOptimizer::new(config.outer.clone(), n),
            inner_path: estimator.path(),
            estimator,
            held_out: HeldOut::new(config.held_out.clone(), seed, family, workers),
            optimizer: optimizer.into(),
            config,
            description,
            path: path.to_owned(),
            run: None,
            comm,
            provenance,
            best: None,
            inner_steps: 0,
        })
    }

    /// What the trainer follows.
    pub fn config(&self) -> &TrainerConfig {
        &self.config
    }

    /// The run directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which program started the run.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// How inner steps are taken, such as "native loss, avx512 update".
    pub fn inner_path(&self) -> &str {
        &self.inner_path
    }

    /// Outer steps taken.
    pub fn outer_step(&self) -> u64 {
        self.outer.step
    }

    /// The best held-out score so far and its outer step.
    pub fn best(&self) -> Option<(u64, HeldOutScore)> {
        self.best
    }

    /// Takes outer steps until the run is over or `stop` is set on any rank; either way a
    /// checkpoint holds the last one. Returns whether the run is over.
    ///
    /// # Errors
    /// Those of the tasks, or if the run directory cannot be written.
    pub fn run(&mut self, stop: &AtomicBool, observer: &mut dyn Observer) -> Result<bool> {
        let steps = self.config.outer.steps;
        while self.outer.step < steps {
            let mut stops = [i64::from(stop.load(Ordering::Relaxed))];
            self.comm.sum(&mut stops)?;
            if stops != [0] {
                self.save_checkpoint()?;
                return Ok(false);
            }
            let progress = self.outer_step_once()?;
            let step = self.outer.step;
            if step.is_multiple_of(self.config.checkpoint.every) || step == steps {
                self.save_checkpoint()?;
            }
            observer.on_step(&progress);
        }
        if let Some(run) = &self.run {
            run.save_last(&self.theta())?;
        }
        Ok(true)
    }

    fn outer_step_once(&mut self) -> Result<Progress> {
        let started = Instant::now();
        let learning_rate = self.outer.learning_rate();
        let Estimate {
            gradient,
            meta_loss,
            inner_steps,
        } = self
            .estimator
            .estimate(&*self.optimizer, self.outer.step, &*self.comm)?;
        let gradient_norm = norm(&gradient);
        let theta = self.outer.update(self.optimizer.theta().values(), gradient);
        if !theta.iter().all(|w| w.is_finite()) {
            return Err(Error::Diverged {
                outer_step: self.outer.step,
            });
        }
        let theta_norm = norm(&theta.iter().map(|&w| f64::from(w)).collect::<Vec<_>>());
        self.optimizer = self.optimizer.with_values(theta)?.into();
        self.inner_steps += inner_steps;
        let held_out = self.judge()?;
        if let Some(run) = &mut self.run {
            run.log(&json!({
                "outer_step": self.outer.step,
                "meta_loss": meta_loss,
                "gradient_norm": gradient_norm,
                "theta_norm": theta_norm,
                "learning_rate": learning_rate,
                "inner_steps": self.inner_steps,
                "held_out": held_out,
                "seconds": started.elapsed().as_secs_f64(),
            }))?;
        }
        Ok(Progress {
            outer_step: self.outer.step,
            outer_steps: self.config.outer.steps,
            meta_loss,
            inner_steps: self.inner_steps,
            held_out,
            best: self.best,
        })
    }

    /// The held-out score, where the schedule asks for one; the best θ is kept.
    fn judge(&mut self) -> Result<Option<HeldOutScore>> {
        let step = self.outer.step;
        if !step.is_multiple_of(self.config.held_out.every) && step != self.config.outer.steps {
            return Ok(None);
        }
        let optimizer: Arc<dyn Optimizer> = self.optimizer.clone();
        let score = self.held_out.score(&optimizer, &*self.comm)?;
        if self
            .best
            .is_none_or(|(_, best)| score.mean_loss < best.mean_loss)
        {
            self.best = Some((step, score));
            if let Some(run) = &self.run {
                run.save_best(&self.theta())?;
            }
        }
        Ok(Some(score))
    }

    /// θ with where it comes from.
    fn theta(&self) -> Theta {
        let provenance = json!({
            "version": self.provenance.version,
            "commit": self.provenance.commit,
            "outer_step": self.outer.step,
            "inner_steps": self.inner_steps,
            "held_out_best": self.best,
            "configuration": self.description,
        });
        self.optimizer.theta().clone().with_provenance(provenance)
    }

    fn save_checkpoint(&self) -> Result<()> {
        let unrolls = self.estimator.snapshot()?.gathered(&*self.comm)?;
        let (Some(run), Some(unrolls)) = (&self.run, unrolls) else {
            return Ok(());
        };
        let checkpoint = Checkpoint {
            optimizer: &*self.optimizer,
            outer: &self.outer,
            unrolls,
            best: self.best,
            inner_steps: self.inner_steps,
        };
        run.save_checkpoint(checkpoint, self.config.checkpoint.keep)
    }
}
