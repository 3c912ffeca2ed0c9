use std::{
    path::{Path, PathBuf},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use lopt_core::{LearnedOptimizer, Optimizer, Theta, Workers, file};
use lopt_tasks::{DataChecksums, TaskFamily};
use serde_json::{Value, json};

use crate::{
    Alone, Checkpoint, Comm, Configuration, Error, Estimate, GradientEstimator, HeldOut,
    HeldOutScore, Origin, OuterOptimizer, Provenance, Result, RunDir, TrainerConfig,
    config::{overrides, to_toml},
    outer::norm,
    run_dir::restore,
};

/// The progress of a run after an outer step.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The number of outer steps taken.
    pub outer_step: u64,
    /// The number of outer steps of the run.
    pub outer_steps: u64,
    /// The meta-loss of this step.
    pub meta_loss: f64,
    /// The number of inner steps since the start of the run, over both halves of antithetic pairs.
    pub inner_steps: u64,
    /// The held-out score, if this step was evaluated.
    pub held_out: Option<HeldOutScore>,
    /// The best held-out score and its outer step.
    pub best: Option<(u64, HeldOutScore)>,
}

/// Observes the progress of a run.
pub trait Observer {
    /// Called after each outer step.
    fn on_step(&mut self, progress: &Progress);
}

/// Ignores the progress.
impl Observer for () {
    fn on_step(&mut self, _: &Progress) {}
}

/// The outer loop of one run, for any task family and any learned optimizer.
///
/// An outer step estimates the meta-gradient g = ∇L(θ) of the meta-loss L with a
/// [`GradientEstimator`] and updates θ with the [`OuterOptimizer`]. The trainer keeps the θ with
/// the best held-out score and writes metrics and checkpoints to a [`RunDir`].
/// [`RunConfig::start`](crate::RunConfig::start) creates a trainer from a TOML configuration.
///
/// With several ranks, each has a trainer and calls the same functions; rank 0 writes the run
/// directory. If a rank returns an error, the others wait for it, so the caller must end them all.
///
/// Call [`lopt_core::one_candle_thread`] at the start of `main`. Otherwise the threads of the trainer
/// wait for one another in candle's own thread pool, and a run can take four times as long.
///
/// ```
/// use std::sync::atomic::AtomicBool;
///
/// use candle_core::Device;
/// use lopt_meta::{Preset, Resources, RunConfig};
/// use lopt_tasks::DataStore;
///
/// let small = ["outer.steps=1", "estimator.tasks=1", "held-out.unrolls=1", "held-out.horizon=10"];
/// let small = small.map(String::from);
/// let config = RunConfig::parse(Preset::Quick.text(), "the preset", None, &small)?;
/// let directory = tempfile::tempdir()?;
/// let mut store = DataStore::default();
/// let resources = Resources::default();
/// let mut trainer = config.start(directory.path(), &mut store, &Device::Cpu, resources)?;
/// let complete = trainer.run(&AtomicBool::new(false), &mut ())?;
/// assert!(complete && directory.path().join("theta.safetensors").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Trainer {
    config: TrainerConfig,
    /// The complete configuration, for the provenance of θ.
    description: Value,
    /// Identifies the run in its checkpoints.
    identity: String,
    path: PathBuf,
    /// The run directory, on rank 0 only.
    run: Option<RunDir>,
    comm: Rc<dyn Comm>,
    origin: Origin,
    optimizer: Arc<dyn LearnedOptimizer>,
    outer: OuterOptimizer,
    estimator: Box<dyn GradientEstimator>,
    held_out: HeldOut,
    inner_path: String,
    best: Option<(u64, HeldOutScore)>,
    inner_steps: u64,
}

/// The resources of a run. The default is one process with one thread for each processor.
pub struct Resources {
    /// The threads of this process.
    pub workers: Workers,
    /// The processes of the run.
    pub comm: Rc<dyn Comm>,
    /// This program.
    pub provenance: Provenance,
    /// The checksums of the full data sets that the tasks use. A run can only be resumed with the same
    /// data.
    pub data: DataChecksums,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            workers: Workers::new(None),
            comm: Rc::new(Alone),
            provenance: Provenance::default(),
            data: DataChecksums::default(),
        }
    }
}

/// A run directory opened to resume its run. Ranks other than 0 receive the configuration from rank
/// 0.
pub struct SavedRun {
    path: PathBuf,
    run: Option<RunDir>,
    text: String,
    /// Whether the text differs from the file.
    changed: bool,
}

impl SavedRun {
    /// Opens and locks a run directory on rank 0, which sends the configuration to the other ranks.
    ///
    /// # Errors
    /// Returns an error if the directory is not a run directory or is in use.
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
            changed: false,
        })
    }

    /// The content of its `config.toml`.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Sets `outer.steps`, the number of outer steps of the run. [`Trainer::resume`] also writes it to
    /// the `config.toml`. The outer learning rate continues on the schedule of a run of this length.
    ///
    /// # Errors
    /// Returns an error if the configuration is not valid TOML.
    pub fn set_outer_steps(&mut self, steps: u64) -> Result<()> {
        let problem = |e: &dyn std::fmt::Display| Error::Config(format!("config.toml: {e}"));
        let mut table: toml::Table = self.text.parse().map_err(|e| problem(&e))?;
        overrides::apply(&mut table, &format!("outer.steps={steps}"))?;
        self.text = toml::to_string_pretty(&table).map_err(|e| problem(&e))?;
        self.changed = true;
        Ok(())
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
        agree(&*resources.comm, &resources.data, &resources.data)?;
        let mut trainer = Self::assemble(family, optimizer, config, path, resources)?;
        if trainer.comm.rank() == 0 {
            let mut run = RunDir::create(path, &trainer.origin)?;
            run.open_metrics(0)?;
            trainer.run = Some(run);
        }
        trainer.save_checkpoint()?;
        if let Some(run) = &trainer.run {
            run.save_config(&to_toml(config)?)?;
        }
        Ok(trainer)
    }

    /// Resumes a run from its newest valid checkpoint, with the task family, optimizer and
    /// configuration that it was started with. The provenance of θ remains that of the program that
    /// started the run.
    ///
    /// # Errors
    /// Returns an error if all checkpoints are damaged or belong to another configuration, or if more
    /// outer steps were taken than are now configured.
    pub fn resume(
        family: Arc<dyn TaskFamily>,
        optimizer: Box<dyn LearnedOptimizer>,
        config: &impl Configuration,
        saved: SavedRun,
        mut resources: Resources,
    ) -> Result<Self> {
        let SavedRun {
            path,
            run,
            text,
            changed,
        } = saved;
        if TrainerConfig::of_toml(&text)? != *config.trainer() {
            let problem = "the run in it was started with another configuration".to_owned();
            return Err(Error::RunDir { path, problem });
        }
        let origin = run.as_ref().map(RunDir::origin).transpose()?;
        let data = origin.as_ref().map(|origin| origin.data.clone());
        agree(&*resources.comm, &data.unwrap_or_default(), &resources.data)?;
        if let Some(origin) = origin {
            resources.provenance = origin.provenance;
        }
        let mut trainer = Self::assemble(family, optimizer, config, &path, resources)?;
        trainer.run = run;
        trainer.take_checkpoint()?;
        let (taken, steps) = (trainer.outer.step, trainer.config.outer.steps);
        if taken > steps {
            return Err(Error::Config(format!(
                "`outer.steps` is {steps}, but the run has already taken {taken} outer steps"
            )));
        }
        trainer.check_best()?;
        if let Some(run) = &trainer.run {
            if taken < steps {
                run.remove_last()?;
            }
            if changed {
                run.save_config(&text)?;
            }
        }
        Ok(trainer)
    }

    /// Restores the newest valid checkpoint, which rank 0 reads and sends to the other ranks.
    fn take_checkpoint(&mut self) -> Result<()> {
        let optimizer = self.optimizer.clone();
        let (outer, estimator) = (&mut self.outer, &mut *self.estimator);
        let resumed = match &mut self.run {
            Some(run) => {
                let (resumed, bytes) = run.resume(&self.identity, &*optimizer, outer, estimator)?;
                run.open_metrics(resumed.outer_step)?;
                self.comm.broadcast(bytes)?;
                resumed
            }
            None => {
                let bytes = self.comm.broadcast(vec![])?;
                let (path, run) = (&self.path, &self.identity);
                restore(&bytes, path, run, &*optimizer, outer, estimator)?
            }
        };
        self.optimizer = optimizer.with_values(resumed.theta)?.into();
        self.best = resumed.best;
        self.inner_steps = resumed.inner_steps;
        Ok(())
    }

    /// Forgets the best θ if its file is lost, or if it is that of a later outer step which this run
    /// will not take, because its configuration was another.
    fn check_best(&mut self) -> Result<()> {
        let Some(run) = &self.run else {
            return Ok(());
        };
        let path = run.best_path();
        let lost = match (path.exists(), Theta::load(&path)) {
            (false, _) if self.best.is_none() => return Ok(()),
            (false, _) => "is missing",
            (true, Err(_)) => "is damaged and was removed",
            (true, Ok(theta)) if self.is_abandoned(theta.provenance()) => {
                "was of an outer step that this run does not take, and was removed"
            }
            (true, Ok(_)) => return Ok(()),
        };
        run.remove_best()?;
        tracing::warn!("best.safetensors {lost}; the best θ of the outer steps from here is saved");
        self.best = None;
        Ok(())
    }

    /// Whether the best θ with this provenance is neither that of the checkpoint nor of a later step
    /// with the same configuration, which will be taken again.
    fn is_abandoned(&self, provenance: &Value) -> bool {
        let of_checkpoint = self
            .best
            .is_some_and(|(step, _)| provenance["outer_step"] == step);
        let theirs = without_checkpoint(&provenance["configuration"]);
        !of_checkpoint && theirs != without_checkpoint(&self.description)
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
            data,
        } = resources;
        let config = described.trainer().clone();
        config.check()?;
        let (ranks, tasks) = (comm.size(), config.estimator.tasks());
        if ranks as u64 > tasks {
            return Err(Error::Config(format!(
                "{ranks} ranks for {tasks} tasks: each rank needs one; set estimator.tasks to \
                 {ranks} or more"
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
            identity: identity(&description, &data)?,
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
            origin: Origin { provenance, data },
            best: None,
            inner_steps: 0,
        })
    }

    /// The configuration of the trainer.
    pub fn config(&self) -> &TrainerConfig {
        &self.config
    }

    /// The run directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The program that started the run.
    pub fn provenance(&self) -> &Provenance {
        &self.origin.provenance
    }

    /// The implementation of inner steps, such as "native loss, avx512 update".
    pub fn inner_path(&self) -> &str {
        &self.inner_path
    }

    /// The number of outer steps taken.
    pub fn outer_step(&self) -> u64 {
        self.outer.step
    }

    /// The best held-out score so far and its outer step.
    pub fn best(&self) -> Option<(u64, HeldOutScore)> {
        self.best
    }

    /// Takes outer steps until the run is complete or `stop` is set on any rank, and writes a
    /// checkpoint of the last step in either case. Returns whether the run is complete.
    ///
    /// # Errors
    /// Returns an error if a task fails, θ is no longer finite, another rank cannot be reached, or
    /// the run directory cannot be written.
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
            // Also after a kill between the last checkpoint and the removal of older ones.
            run.remove_old_checkpoints(self.config.checkpoint.keep)?;
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

    /// Returns the held-out score if this step is to be evaluated, and saves θ if it is the best.
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

    /// Returns θ with its provenance.
    fn theta(&self) -> Theta {
        let provenance = json!({
            "version": self.origin.provenance.version,
            "commit": self.origin.provenance.commit,
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
            run: &self.identity,
            optimizer: &*self.optimizer,
            outer: &self.outer,
            unrolls,
            best: self.best,
            inner_steps: self.inner_steps,
        };
        run.save_checkpoint(checkpoint, self.config.checkpoint.keep)
    }
}

/// A configuration without the section `checkpoint`, which changes no result.
fn without_checkpoint(description: &Value) -> Value {
    let mut description = description.clone();
    if let Some(sections) = description.as_object_mut() {
        sections.remove("checkpoint");
    }
    description
}

/// A digest of the full data sets and of the configuration without what may change: the number of
/// outer steps and the section `checkpoint`.
fn identity(description: &Value, data: &DataChecksums) -> Result<String> {
    let mut fixed = without_checkpoint(description);
    if let Some(sections) = fixed.as_object_mut() {
        if let Some(outer) = sections.get_mut("outer").and_then(Value::as_object_mut) {
            outer.remove("steps");
        }
        if !data.is_empty() {
            let data = serde_json::to_value(data).map_err(|e| Error::Config(e.to_string()))?;
            sections.insert("data".to_owned(), data);
        }
    }
    Ok(file::sha256(fixed.to_string())[..32].to_owned())
}

/// Checks that the data sets of each rank are those of before; those of rank 0 count.
fn agree(comm: &dyn Comm, before: &DataChecksums, now: &DataChecksums) -> Result<()> {
    let json = serde_json::to_vec(before).map_err(|e| Error::Config(e.to_string()))?;
    let before = comm.broadcast(json)?;
    let mut before: DataChecksums =
        serde_json::from_slice(&before).map_err(|e| Error::Ranks(e.to_string()))?;
    Ok(before.add(now)?)
}
