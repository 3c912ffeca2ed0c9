use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use candle_core::Device;
use lopt_core::{LearnedOptimizer, Optimizer, Workers};
use lopt_eval::{
    Baseline, Contender, ContenderResult, Curve, Evaluation, Outcome, Settings, SpeedUp, Tuning,
    evaluate, train_all,
};
use lopt_meta::{
    Observer, Preset, Progress, Provenance, Resources, RunConfig, TrainerConfig, registry,
};
use lopt_tasks::{
    DataStore, MlpTask, Task,
    suite::{Entry, Suite},
};

use crate::{Error, Result, curves::metrics};

/// New networks for each task and optimizer in an evaluation.
pub(crate) const EVALUATION_SEEDS: u64 = 3;

/// Meta-trainings and evaluations, shared by all [claims](crate::claims) that need them.
///
/// They are kept in [`Lab::out`]: what is finished is not computed again, and what was interrupted
/// is resumed.
pub struct Lab<'a> {
    /// Folder of the meta-trainings and evaluations.
    pub out: PathBuf,
    /// Meta-training seeds 0, 1, … of each optimizer.
    pub seeds: u64,
    /// Outer steps of each meta-training. [default: depends on the claim]
    pub outer_steps: Option<u64>,
    /// Whether the optimizers have an online scale, or are those of the paper.
    pub online_scale: bool,
    /// The version and commit of this program.
    pub provenance: Provenance,
    /// The threads to use.
    pub workers: Workers,
    /// The device to compute on.
    pub device: Device,
    /// The data sets.
    pub store: DataStore,
    /// Set by the caller to stop with [`Error::Stopped`] as soon as the state is saved.
    pub stop: Arc<AtomicBool>,
    /// Called with the progress.
    pub observer: &'a (dyn Fn(Event) + Sync),
}

/// The progress of a [`Lab`].
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A meta-training starts or resumes.
    MetaTraining {
        /// The name of the optimizer.
        variant: &'a str,
        /// The meta-training seed.
        seed: u64,
        /// Outer steps taken before.
        outer_step: u64,
        /// Outer steps of the whole meta-training.
        outer_steps: u64,
    },
    /// A meta-training took an outer step.
    OuterStep(&'a Progress),
    /// A meta-training ended or was stopped.
    MetaTrained,
    /// An evaluation progressed.
    Evaluation(lopt_eval::Event<'a>),
}

/// An optimizer to meta-train: the preset `quick` with other settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The name in tables and figures.
    pub name: &'static str,
    /// Overrides of the preset, as for [`RunConfig::parse`].
    pub overrides: &'static [&'static str],
}

/// A finished meta-training.
#[derive(Clone)]
pub struct Run {
    /// What was meta-trained.
    pub variant: &'static Variant,
    /// The meta-training seed.
    pub seed: u64,
    /// The optimizer with the best θ by held-out loss.
    pub optimizer: Arc<dyn LearnedOptimizer>,
    /// Outer steps and mean held-out training losses.
    pub held_out: Vec<(u64, f64)>,
}

/// The evaluation of meta-trained optimizers on one task.
pub(crate) struct Evaluated {
    pub entry: Entry,
    /// Tuned Adam.
    pub adam: ContenderResult,
    pub results: Vec<RunResult>,
}

/// The result of one meta-trained optimizer on a task.
pub(crate) struct RunResult {
    pub variant: &'static Variant,
    pub result: ContenderResult,
}

impl Lab<'_> {
    /// One run per seed, meta-trained for `outer_steps` (unless [`Lab::outer_steps`] is set) if it
    /// is not finished yet, with ten evaluations on held-out networks.
    pub(crate) fn runs(&mut self, variant: &'static Variant, outer_steps: u64) -> Result<Vec<Run>> {
        if self.seeds == 0 {
            let problem = "0 meta-training seeds; use at least 1".to_owned();
            return Err(Error::Settings(problem));
        }
        let steps = self.outer_steps.unwrap_or(outer_steps);
        (0..self.seeds)
            .map(|seed| self.run(variant, steps, seed))
            .collect()
    }

    fn run(&mut self, variant: &'static Variant, outer_steps: u64, seed: u64) -> Result<Run> {
        let mut overrides: Vec<String> =
            variant.overrides.iter().map(|o| (*o).to_owned()).collect();
        overrides.push(format!("seed={seed}"));
        overrides.push(format!("outer.steps={outer_steps}"));
        let every = (outer_steps / 10).max(1);
        overrides.push(format!("held-out.every={every}"));
        let mut config = RunConfig::parse(Preset::Quick.text(), "preset quick", None, &overrides)?;
        if !self.online_scale {
            config.optimizer = config.optimizer.without_online_scale();
        }
        let name: String = variant
            .name
            .replace(|c: char| !c.is_alphanumeric() && c != '.', "-");
        let path = self
            .out
            .join("runs")
            .join(format!("{name}-{outer_steps}-seed{seed}"));
        let known = path.join("config.toml");
        if known.exists() && RunConfig::load(&known, None, &[])? != config {
            return Err(Error::OtherConfiguration { path });
        }
        if !path.join("theta.safetensors").exists() {
            self.meta_train(&path, config, variant)?;
        }
        Ok(Run {
            variant,
            seed,
            held_out: held_out(&path, [every, outer_steps], outer_steps)?,
            optimizer: registry::load(&path.join("best.safetensors"))?.into(),
        })
    }

    /// Starts or resumes a run.
    fn meta_train(&mut self, path: &Path, config: RunConfig, variant: &Variant) -> Result<()> {
        let resources = Resources {
            workers: self.workers,
            provenance: self.provenance.clone(),
            ..Resources::default()
        };
        let (store, device) = (&mut self.store, &self.device);
        let trainer = match path.join("config.toml").exists() {
            true => {
                RunConfig::resume(path, None, store, device, resources).map(|(_, trainer)| trainer)
            }
            false => config.start(path, store, device, resources),
        };
        let mut trainer = trainer.map_err(|source| Error::MetaTraining {
            path: path.to_owned(),
            source,
        })?;
        // Before it takes hours.
        let TrainerConfig {
            held_out: settings,
            outer,
            ..
        } = trainer.config();
        held_out(path, [settings.every, outer.steps], trainer.outer_step())?;
        (self.observer)(Event::MetaTraining {
            variant: variant.name,
            seed: trainer.config().seed,
            outer_step: trainer.outer_step(),
            outer_steps: trainer.config().outer.steps,
        });
        let over = trainer.run(&self.stop, &mut Steps(self.observer))?;
        (self.observer)(Event::MetaTrained);
        match over {
            true => Ok(()),
            false => Err(Error::Stopped),
        }
    }

    /// Trains the task of the preset for `steps` steps: `curves[optimizer][evaluation seed]`.
    pub(crate) fn train(
        &mut self,
        optimizers: &[Arc<dyn Optimizer>],
        steps: u64,
    ) -> Result<Vec<Vec<Curve>>> {
        let (task, _) = Suite::Quick.base();
        let task: Arc<dyn Task> = Arc::new(MlpTask::new(task, &mut self.store, &self.device)?);
        let (seeds, workers) = (EVALUATION_SEEDS, self.workers);
        let curves = train_all(&task, optimizers, steps, seeds, workers, &self.stop);
        Ok(curves?)
    }

    /// Calls [`Lab::train`] with the optimizers of these runs.
    pub(crate) fn train_by(&mut self, runs: &[Run], steps: u64) -> Result<Vec<Vec<Curve>>> {
        let optimizers = runs.iter().map(|run| run.optimizer.clone() as _);
        self.train(&optimizers.collect::<Vec<_>>(), steps)
    }

    /// Trains the tasks of a suite, or of some of its groups, with the optimizers of these runs and
    /// with Adam at its whole grid. Tasks without data are left out.
    pub(crate) fn evaluate(
        &mut self,
        suite: Suite,
        groups: &[&str],
        seeds: u64,
        runs: &[Run],
    ) -> Result<Vec<Evaluated>> {
        let contenders: Vec<Contender> = runs
            .iter()
            .map(|run| {
                let name = format!("{} {}", run.variant.name, run.seed);
                Contender::learned(&name, run.optimizer.clone())
            })
            .collect();
        let program = program(&self.provenance, &self.device);
        let mut settings = Settings::new(suite, seeds, program, &contenders);
        settings.groups = groups.iter().map(|group| (*group).to_owned()).collect();
        // The claims are about tuned Adam, and their speed-ups are capped.
        settings.tuned = vec![Tuning::new(Baseline::Adam)];
        settings.adam_horizons = SpeedUp::CAP as u64;
        let out = self.out.join("evaluations").join(settings.folder_name());
        let evaluation = Evaluation {
            settings: &settings,
            contenders: &contenders,
            device: &self.device,
            workers: self.workers,
            out: &out,
            reuse: None,
            stop: &self.stop,
        };
        let reports = evaluate(evaluation, &mut self.store, &|event| {
            (self.observer)(Event::Evaluation(event));
        })?;
        let evaluated = reports.into_iter().filter_map(|report| {
            let adam = report.outcome.result(Baseline::Adam.name())?.clone();
            let Outcome::Done { results, .. } = report.outcome else {
                return None;
            };
            // In the order of the contenders, then Adam.
            let results = runs.iter().zip(results).map(|(run, result)| RunResult {
                variant: run.variant,
                result,
            });
            Some(Evaluated {
                entry: report.entry,
                adam,
                results: results.collect(),
            })
        });
        Ok(evaluated.collect())
    }
}

/// The mean held-out losses of a meta-training after its first `taken` outer steps. There must be one
/// after each `every` steps and after the last of all `steps`: the claims compare seeds and optimizers
/// point by point.
fn held_out(path: &Path, [every, steps]: [u64; 2], taken: u64) -> Result<Vec<(u64, f64)>> {
    let evaluated = metrics(path)?.into_iter();
    let losses = evaluated.filter_map(|m| Some((m.outer_step, m.held_out?.mean_loss)));
    let losses: Vec<_> = losses.filter(|(step, _)| *step <= taken).collect();
    let expected = |step: &u64| step.is_multiple_of(every) || *step == steps;
    match losses
        .iter()
        .map(|(step, _)| *step)
        .eq((1..=taken).filter(expected))
    {
        true => Ok(losses),
        false => Err(Error::MissingMetrics {
            path: path.to_owned(),
        }),
    }
}

/// Version and commit of a program, its CPU kernels and the device, for [`Settings::program`].
pub fn program(provenance: &Provenance, device: &Device) -> String {
    let Provenance {
        version,
        commit,
        kernels,
    } = provenance;
    let device = match device.is_cpu() {
        true => "cpu",
        false => "cuda",
    };
    format!("{version} {commit}, {kernels}, {device}")
}

/// Inner steps of the preset's unrolls.
pub(crate) fn horizon() -> u64 {
    Suite::Quick.base().1
}

/// Forwards the progress of a meta-training.
struct Steps<'a>(&'a (dyn Fn(Event) + Sync));

impl Observer for Steps<'_> {
    fn on_step(&mut self, progress: &Progress) {
        (self.0)(Event::OuterStep(progress));
    }
}
