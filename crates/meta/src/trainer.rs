use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use candle_core::Device;
use lopt_core::{LearnedOptimizer, Optimizer, Theta, Workers};
use lopt_tasks::{DataStore, MlpFamily, TaskFamily};
use serde_json::json;

use crate::{
    Checkpoint, Error, Estimate, GradientEstimator, HeldOut, HeldOutScore, OuterOptimizer,
    Provenance, Result, RunConfig, RunDir, outer::norm,
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

/// The outer loop of one run.
pub struct Trainer {
    config: RunConfig,
    run: RunDir,
    provenance: Provenance,
    optimizer: Arc<dyn LearnedOptimizer>,
    outer: OuterOptimizer,
    estimator: Box<dyn GradientEstimator>,
    held_out: HeldOut,
    inner_path: String,
    best: Option<(u64, HeldOutScore)>,
    inner_steps: u64,
}

impl Trainer {
    /// Starts a run in a new directory. Data are loaded and the optimizer is made before
    /// anything is written.
    ///
    /// # Errors
    /// If the configuration or its data cannot be used, or the directory cannot be
    /// written or is not empty.
    pub fn start(
        path: &Path,
        config: RunConfig,
        provenance: Provenance,
        store: &mut DataStore,
        device: &Device,
        workers: Workers,
    ) -> Result<Self> {
        let family: Arc<dyn TaskFamily> = Arc::new(MlpFamily::new(&config.task, store, device)?);
        config.initial_optimizer()?;
        let run = RunDir::create(path, &config, &provenance)?;
        let mut trainer = Self::assemble(run, config, provenance, family, workers)?;
        trainer.run.open_metrics(0)?;
        trainer.save_checkpoint()?;
        Ok(trainer)
    }

    /// Goes on with the run in a directory, from its newest good checkpoint.
    ///
    /// # Errors
    /// If the directory is no run, is in use, or its checkpoints are damaged.
    pub fn resume(
        path: &Path,
        store: &mut DataStore,
        device: &Device,
        workers: Workers,
    ) -> Result<Self> {
        let (run, config) = RunDir::open(path)?;
        let family: Arc<dyn TaskFamily> = Arc::new(MlpFamily::new(&config.task, store, device)?);
        let provenance = run.provenance()?;
        let mut trainer = Self::assemble(run, config, provenance, family, workers)?;
        let resumed = trainer.run.resume(
            &*trainer.optimizer,
            &mut trainer.outer,
            &mut *trainer.estimator,
        )?;
        if let Some(resumed) = resumed {
            trainer.optimizer = trainer.optimizer.with_values(resumed.theta)?.into();
            trainer.best = resumed.best;
            trainer.inner_steps = resumed.inner_steps;
            trainer.run.open_metrics(resumed.outer_step)?;
        } else {
            trainer.run.open_metrics(0)?;
        }
        Ok(trainer)
    }

    fn assemble(
        run: RunDir,
        config: RunConfig,
        provenance: Provenance,
        family: Arc<dyn TaskFamily>,
        workers: Workers,
    ) -> Result<Self> {
        let optimizer: Arc<dyn LearnedOptimizer> = config.initial_optimizer()?.into();
        let n = optimizer.theta().values().len();
        let (seed, of_run) = (config.seed, family.clone());
        let estimator = config.estimator.start(seed, of_run, workers, &*optimizer)?;
        Ok(Self {
            outer: OuterOptimizer::new(config.outer.clone(), n),
            inner_path: estimator.path(),
            estimator,
            held_out: HeldOut::new(config.held_out.clone(), config.seed, family, workers),
            optimizer,
            config,
            run,
            provenance,
            best: None,
            inner_steps: 0,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// The run directory.
    pub fn run_dir(&self) -> &RunDir {
        &self.run
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

    /// Takes outer steps until the run is over or `stop` is set; either way a checkpoint
    /// holds the last one. Returns whether the run is over.
    ///
    /// # Errors
    /// Those of the tasks, or if the run directory cannot be written.
    pub fn run(&mut self, stop: &AtomicBool, observer: &mut dyn Observer) -> Result<bool> {
        let steps = self.config.outer.steps;
        while self.outer.step < steps {
            if stop.load(Ordering::Relaxed) {
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
        self.run.save_last(&self.theta())?;
        Ok(true)
    }

    fn outer_step_once(&mut self) -> Result<Progress> {
        let started = Instant::now();
        let learning_rate = self.outer.learning_rate();
        let Estimate {
            gradient,
            meta_loss,
            inner_steps,
        } = self.estimator.estimate(&*self.optimizer, self.outer.step)?;
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
        self.run.log(&json!({
            "outer_step": self.outer.step,
            "meta_loss": meta_loss,
            "gradient_norm": gradient_norm,
            "theta_norm": theta_norm,
            "learning_rate": learning_rate,
            "inner_steps": self.inner_steps,
            "held_out": held_out,
            "seconds": started.elapsed().as_secs_f64(),
        }))?;
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
        let score = self.held_out.score(&optimizer)?;
        if self
            .best
            .is_none_or(|(_, best)| score.mean_loss < best.mean_loss)
        {
            self.best = Some((step, score));
            self.run.save_best(&self.theta())?;
        }
        Ok(Some(score))
    }

    /// θ with where it comes from.
    fn theta(&self) -> Theta {
        let mut theta = self.optimizer.theta().clone();
        theta.provenance = json!({
            "version": self.provenance.version,
            "commit": self.provenance.commit,
            "outer_step": self.outer.step,
            "inner_steps": self.inner_steps,
            "held_out_best": self.best,
            "configuration": self.config,
        });
        theta
    }

    fn save_checkpoint(&self) -> Result<()> {
        let checkpoint = Checkpoint {
            optimizer: &*self.optimizer,
            outer: &self.outer,
            estimator: &*self.estimator,
            best: self.best,
            inner_steps: self.inner_steps,
        };
        self.run
            .save_checkpoint(&checkpoint, self.config.checkpoint.keep)
    }
}
