//! Meta-trainings and evaluations that the claims share.

use std::{
    path::{Path, PathBuf},
    rc::Rc,
    sync::{Arc, atomic::AtomicBool},
};

use anyhow::{Context, Result, bail};
use candle_core::Device;
use lopt_core::{LearnedOptimizer, Optimizer, Workers};
use lopt_eval::{Contender, Curve, Settings, TaskReport, evaluate, train_all};
use lopt_meta::{Alone, Observer, Preset, Progress, Resources, RunConfig, Trainer};
use lopt_tasks::{DataStore, MlpTask, Task, suite::Suite};

use crate::{
    common::{Compute, learned, program, provenance, stop_flag},
    curves::metrics,
    progress::{Bar, of_evaluation},
};

/// Outer steps of the optimizers of every claim but C6.
pub const OUTER_STEPS: u64 = 2000;

/// Fresh networks for each task and optimizer.
pub const EVALUATION_SEEDS: u64 = 3;

/// An optimizer to meta-train: the preset `quick`, changed.
#[derive(Clone)]
pub struct Variant {
    /// In tables and figures.
    pub name: &'static str,
    pub overrides: &'static [&'static str],
}

/// With the multipliers and the time limit of the preset.
pub const STAR: Variant = Variant {
    name: "STAR",
    overrides: &[],
};

/// As the paper has it.
pub const PAPER_STAR: Variant = Variant {
    name: "STAR, paper's multipliers",
    overrides: &[
        "optimizer.star.time-limit=",
        "optimizer.star.multipliers.nominal-exp=1e-3",
        "optimizer.star.multipliers.blackbox-step=1e-3",
        "optimizer.star.multipliers.blackbox-exp=1e-3",
    ],
};

pub const BLACKBOX: Variant = Variant {
    name: "blackbox",
    overrides: &["optimizer.kind=blackbox", "optimizer.last-layer-scale=1.0"],
};

/// The optimizers of every claim but C6.
pub const VARIANTS: [Variant; 3] = [STAR, PAPER_STAR, BLACKBOX];

/// A finished meta-training.
#[derive(Clone)]
pub struct Run {
    /// With the best θ by held-out training.
    pub optimizer: Arc<dyn LearnedOptimizer>,
    /// Outer steps and mean held-out training losses.
    pub held_out: Vec<(u64, f64)>,
}

pub struct Lab {
    out: PathBuf,
    seeds: u64,
    outer_steps: Option<u64>,
    workers: Workers,
    device: Device,
    store: DataStore,
    stop: Arc<AtomicBool>,
}

/// Whether the error says that somebody asked to stop.
pub fn is_stop(error: &anyhow::Error) -> bool {
    let stopped = error.downcast_ref::<lopt_eval::Error>();
    matches!(stopped, Some(lopt_eval::Error::Stopped))
}

impl Lab {
    pub fn new(
        out: PathBuf,
        seeds: u64,
        outer_steps: Option<u64>,
        compute: &Compute,
    ) -> Result<Self> {
        Ok(Self {
            out,
            seeds,
            outer_steps,
            workers: compute.workers(),
            device: compute.device()?,
            store: compute.store(),
            stop: stop_flag()?,
        })
    }

    pub fn out(&self) -> &Path {
        &self.out
    }

    /// One run for each seed, meta-trained if it is not there yet, for `outer_steps` unless the
    /// command line says how many; evaluated on held-out networks ten times.
    pub fn runs(&mut self, variant: &Variant, outer_steps: u64) -> Result<Vec<Run>> {
        let steps = self.outer_steps.unwrap_or(outer_steps);
        (0..self.seeds)
            .map(|seed| self.run(variant, steps, seed))
            .collect()
    }

    fn run(&mut self, variant: &Variant, outer_steps: u64, seed: u64) -> Result<Run> {
        let mut overrides: Vec<String> =
            variant.overrides.iter().map(|o| (*o).to_owned()).collect();
        overrides.push(format!("seed={seed}"));
        overrides.push(format!("outer.steps={outer_steps}"));
        overrides.push(format!("held-out.every={}", (outer_steps / 10).max(1)));
        let config = RunConfig::parse(Preset::Quick.text(), "preset quick", None, &overrides)?;
        let kind = config.optimizer.kind.name();
        let name: String = variant
            .name
            .replace(|c: char| !c.is_alphanumeric() && c != '.', "-");
        let path = self
            .out
            .join("runs")
            .join(format!("{name}-{outer_steps}-seed{seed}"));
        let known = path.join("config.toml");
        if known.exists() && RunConfig::load(&known, None, &[])? != config {
            bail!(
                "{} is a run of another configuration, perhaps by another version of the program; \
                 remove it, or name another folder by --out",
                path.display()
            );
        }
        if !path.join("theta.safetensors").exists() {
            self.meta_train(&path, config, &format!("{}, seed {seed}", variant.name))?;
        }
        let metrics = metrics(&path)?;
        let evaluated = metrics.iter().filter(|line| !line["held_out"].is_null());
        let held_out = evaluated.map(|line| {
            let step = line["outer_step"].as_u64().unwrap_or(0);
            let loss = line["held_out"]["mean_loss"].as_f64();
            (step, loss.unwrap_or(f64::NAN))
        });
        Ok(Run {
            held_out: held_out.collect(),
            optimizer: learned(kind, &path.join("best.safetensors"))?.into(),
        })
    }

    /// Starts or goes on with a run.
    fn meta_train(&mut self, path: &Path, config: RunConfig, what: &str) -> Result<()> {
        let resources = Resources {
            store: &mut self.store,
            device: &self.device,
            workers: self.workers,
            comm: Rc::new(Alone),
        };
        let trainer = match path.join("config.toml").exists() {
            true => Trainer::resume(path, provenance(), resources),
            false => Trainer::start(path, config, provenance(), resources),
        };
        let mut trainer = trainer.with_context(|| {
            format!(
                "cannot go on in {}; remove it to start it again",
                path.display()
            )
        })?;
        let steps = trainer.config().outer.steps;
        let mut view = View(Bar::new(
            trainer.outer_step(),
            steps,
            &format!("outer steps of {what}"),
        ));
        view.0.line(&format!("meta-training {what}"));
        let over = trainer.run(&self.stop, &mut view)?;
        view.0.finish();
        match over {
            true => Ok(()),
            false => Err(lopt_eval::Error::Stopped.into()),
        }
    }

    /// Trains the preset's task for `steps` steps: `curves[optimizer][evaluation seed]`.
    pub fn train(
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

    /// [`Lab::train`] by the optimizers of these runs.
    pub fn train_by(&mut self, runs: &[Run], steps: u64) -> Result<Vec<Vec<Curve>>> {
        let optimizers = runs.iter().map(|run| run.optimizer.clone() as _);
        self.train(&optimizers.collect::<Vec<_>>(), steps)
    }

    /// Trains the tasks of a suite, or of some of its groups, and Adam at its whole grid on each.
    pub fn evaluate(
        &mut self,
        suite: Suite,
        groups: &[&str],
        seeds: u64,
        contenders: &[(String, Run)],
    ) -> Result<Vec<TaskReport>> {
        let contenders: Vec<Contender> = contenders
            .iter()
            .map(|(name, run)| Contender::learned(name, run.optimizer.clone()))
            .collect();
        let mut settings = Settings::new(suite, seeds, program(), &contenders);
        settings.groups = groups.iter().map(|group| (*group).to_owned()).collect();
        let out = self.out.join("evaluations").join(settings.folder_name());
        let line = |report: &TaskReport| format!("{}: {}", report.entry.group, report.entry.name);
        let (store, device, stop) = (&mut self.store, &self.device, &self.stop);
        let workers = self.workers;
        Ok(evaluate(
            &settings,
            &contenders,
            store,
            device,
            workers,
            &out,
            stop,
            &of_evaluation(line),
        )?)
    }
}

/// Inner steps of the preset's unrolls.
pub fn horizon() -> u64 {
    Suite::Quick.base().1
}

/// How many training runs diverged in their first `steps` steps, and how many there are.
pub fn diverged(curves: &[Vec<Curve>], steps: usize) -> [usize; 2] {
    let all = curves.iter().flatten();
    let diverged = all.clone().filter(|curve| curve.diverged(steps));
    [diverged.count(), all.count()]
}

struct View(Bar);

impl Observer for View {
    fn on_step(&mut self, progress: &Progress) {
        self.0.set(
            progress.outer_step,
            format!("meta-loss {:.4}", progress.meta_loss),
        );
    }
}
