use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use anyhow::{Context, Result};
use clap::{Args as ClapArgs, ValueEnum};
use lopt_core::{LearnedOptimizer, Workers};
use lopt_eval::{Score, compare_with_adam};
use lopt_meta::{
    EstimatorKind, Observer, Preset, Progress, Provenance, Resources, RunConfig, Trainer,
};
use lopt_tasks::Task;

use crate::{
    common::{Compute, learned, provenance, stop_flag, stop_flag_with},
    curves,
    progress::{Bar, duration},
    ranks,
};

#[derive(ClapArgs)]
pub struct Args {
    /// A configuration that comes with the program. `paper` needs the full Fashion-MNIST.
    #[arg(long, default_value = "quick", conflicts_with_all = ["config", "resume"])]
    preset: PresetName,
    /// A configuration file (TOML) in place of a preset.
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    config: Option<PathBuf>,
    /// Sets one value of the configuration, such as outer.steps=500, or removes it where nothing
    /// follows the =. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", conflicts_with = "resume")]
    overrides: Vec<String>,
    /// Which optimizer to meta-train. [default: the configuration's]
    #[arg(long, conflicts_with = "resume")]
    optimizer: Option<OptimizerName>,
    /// How the meta-gradient is estimated: persistent or truncated evolution strategies, or
    /// on whole unrolls, or backpropagation through the truncation. Takes over what the
    /// configuration's estimator has in common with it. [default: the configuration's]
    #[arg(long, conflicts_with = "resume")]
    estimator: Option<EstimatorName>,
    /// Seed of everything random. [default: the configuration's]
    #[arg(long, conflicts_with = "resume", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: Option<u64>,
    /// New directory for the run. [default: runs/OPTIMIZER-PRESET-seedN]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    run_dir: Option<PathBuf>,
    /// Goes on with the run in this directory, with its own configuration.
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    /// Prints the configuration as TOML and does nothing else.
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    compute: Compute,
}

#[derive(Clone, Copy, ValueEnum)]
enum PresetName {
    Quick,
    Paper,
}

#[derive(Clone, Copy, ValueEnum)]
enum OptimizerName {
    Star,
    Blackbox,
}

#[derive(Clone, Copy, ValueEnum)]
enum EstimatorName {
    Pes,
    Es,
    FullEs,
    Backprop,
}

impl EstimatorName {
    fn kind(self) -> EstimatorKind {
        match self {
            EstimatorName::Pes => EstimatorKind::Pes,
            EstimatorName::Es => EstimatorKind::Es,
            EstimatorName::FullEs => EstimatorKind::FullEs,
            EstimatorName::Backprop => EstimatorKind::Backprop,
        }
    }
}

impl OptimizerName {
    fn name(self) -> &'static str {
        match self {
            OptimizerName::Star => "star",
            OptimizerName::Blackbox => "blackbox",
        }
    }
}

impl PresetName {
    fn preset(self) -> (Preset, &'static str) {
        match self {
            PresetName::Quick => (Preset::Quick, "quick"),
            PresetName::Paper => (Preset::Paper, "paper"),
        }
    }
}

/// Returns whether the run is over.
pub fn run(args: Args) -> Result<bool> {
    if args.print_config {
        let config = match &args.resume {
            Some(path) => RunConfig::load(&path.join("config.toml"), None, &[])?,
            None => configuration(&args)?.0,
        };
        print!("{}", config.to_toml()?);
        return Ok(true);
    }
    let comm = ranks::comm()?;
    let device = args.compute.device()?;
    let workers = args.compute.workers();
    let mut store = args.compute.store();
    let resources = Resources {
        store: &mut store,
        device: &device,
        workers,
        comm: comm.clone(),
    };
    let mut trainer = match &args.resume {
        Some(path) => Trainer::resume(path, provenance(), resources)
            .with_context(|| format!("cannot resume {}", path.display()))?,
        None => {
            let (config, name) = configuration(&args)?;
            let path = args
                .run_dir
                .clone()
                .unwrap_or_else(|| new_run_dir(&config, &name));
            Trainer::start(&path, config, provenance(), resources)?
        }
    };
    if comm.rank() > 0 {
        drop(store);
        return Ok(trainer.run(&*stop_flag_with(String::new())?, &mut ())?);
    }
    // The images are in memory already.
    let config = trainer.config();
    let own_task = config.task.first_task()?.load(&mut store, &device)?.task;
    drop(store);
    announce(&trainer, workers.threads(), comm.size());
    train(&mut trainer, own_task, workers, comm.size())
}

/// The configuration and a name for it.
fn configuration(args: &Args) -> Result<(RunConfig, String)> {
    let mut overrides = vec![];
    if let Some(optimizer) = args.optimizer {
        overrides.push(format!("optimizer.kind={}", optimizer.name()));
        if matches!(optimizer, OptimizerName::Blackbox) && args.config.is_none() {
            // The presets' zero is for STAR: a blackbox would not move at all.
            overrides.push("optimizer.last-layer-scale=1.0".to_owned());
        }
    }
    overrides.extend(args.seed.map(|seed| format!("seed={seed}")));
    overrides.extend(args.overrides.iter().cloned());
    let estimator = args.estimator.map(EstimatorName::kind);
    match &args.config {
        Some(path) => {
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            Ok((RunConfig::load(path, estimator, &overrides)?, name))
        }
        None => {
            let (preset, name) = args.preset.preset();
            let origin = format!("preset {name}");
            let config = RunConfig::parse(preset.text(), &origin, estimator, &overrides)?;
            Ok((config, name.to_owned()))
        }
    }
}

/// The first free name.
fn new_run_dir(config: &RunConfig, name: &str) -> PathBuf {
    let kind = format!("{:?}", config.optimizer.kind).to_lowercase();
    let base = format!("runs/{kind}-{name}-seed{}", config.seed);
    let numbered = (2..).map(|n| format!("{base}-{n}"));
    std::iter::once(base.clone())
        .chain(numbered)
        .map(PathBuf::from)
        .find(|path| !path.exists())
        .unwrap_or_else(|| PathBuf::from(base))
}

fn announce(trainer: &Trainer, threads: usize, ranks: usize) {
    let config = trainer.config();
    let path = trainer.path().display();
    let processes = match ranks {
        1 => format!("{threads} threads"),
        _ => format!("{ranks} ranks of {threads} threads"),
    };
    eprintln!(
        "meta-training {:?} on {}, seed {}, {processes}; run directory {path}",
        config.optimizer.kind, config.task, config.seed
    );
    eprintln!("inner steps: {}", trainer.inner_path());
    if trainer.outer_step() > 0 {
        eprintln!("going on after outer step {}", trainer.outer_step());
    }
    let here = provenance();
    if *trainer.provenance() != here {
        let there = trainer.provenance();
        eprintln!(
            "warning: the run was started by {}, this is {}; the bits may differ",
            described(there),
            described(&here)
        );
    }
}

fn described(program: &Provenance) -> String {
    let Provenance {
        version,
        commit,
        kernels,
    } = program;
    format!("lopt {version} commit {commit} with {kernels} kernels")
}

fn train(
    trainer: &mut Trainer,
    own_task: Arc<dyn Task>,
    workers: Workers,
    ranks: usize,
) -> Result<bool> {
    let path = trainer.path().to_owned();
    let resume = match ranks {
        1 => format!("cargo xtask meta-train --resume {}", path.display()),
        _ => format!(
            "mpirun -n {ranks} lopt meta-train --resume {} (with any number of ranks)",
            path.display()
        ),
    };
    let stop = match ranks {
        1 => stop_flag()?,
        _ => stop_flag_with(format!(
            "stopping with the other ranks as soon as the state is saved; if one of them is gone, \
             the run ends here, and what its newest checkpoint holds is good. Go on with: {resume}"
        ))?,
    };
    let mut view = View::new(trainer);
    let started = Instant::now();
    let result = trainer.run(&stop, &mut view);
    view.bar.finish();
    let over = result.with_context(|| {
        format!("meta-training stopped; what was saved is good, go on with: {resume}")
    })?;
    if !over {
        eprintln!(
            "stopped after outer step {}; go on with: {resume}",
            trainer.outer_step()
        );
        return Ok(false);
    }
    conclude(trainer, &view, &path, started.elapsed().as_secs_f64())?;
    compare(trainer, &own_task, &path, workers, &stop)
}

/// Prints how the best θ does beside the best Adam.
fn compare(
    trainer: &Trainer,
    task: &Arc<dyn Task>,
    path: &Path,
    workers: Workers,
    stop: &AtomicBool,
) -> Result<bool> {
    const SEEDS: u64 = 3;
    let config = trainer.config();
    let kind = config.optimizer.kind.name();
    let optimizer: Arc<dyn LearnedOptimizer> =
        learned(kind, &path.join("best.safetensors"))?.into();
    let horizon = config.held_out.horizon;
    let found = compare_with_adam(task, optimizer, horizon, SEEDS, workers, stop);
    let found = match found {
        Err(lopt_eval::Error::Stopped) => {
            eprintln!("the comparison with Adam was stopped; θ is saved");
            return Ok(false);
        }
        found => found?,
    };
    let (mean_rate, mean_loss) = found.adam_by_mean();
    let (final_rate, final_loss) = found.adam_by_final();
    let difference = |ours: f64, theirs: f64| {
        let percent = 100.0 * (ours / theirs - 1.0);
        match percent < 0.0 {
            true => format!("{:.1} % below", -percent),
            false => format!("{percent:.1} % above"),
        }
    };
    let Score {
        mean_loss: ours_mean,
        final_loss: ours_final,
    } = found.learned;
    println!(
        "training loss over {horizon} steps of {}, {SEEDS} fresh seeds, and the best of Adam's {} \
         learning rates:\n  mean  {ours_mean:.4}, {} Adam {mean_rate:e} ({mean_loss:.4})\n  final \
         {ours_final:.4}, {} Adam {final_rate:e} ({final_loss:.4})",
        task.name(),
        found.adam.len(),
        difference(ours_mean, mean_loss),
        difference(ours_final, final_loss),
    );
    println!("on other tasks: cargo xtask eval-ood");
    Ok(true)
}

fn conclude(trainer: &Trainer, view: &View, path: &Path, seconds: f64) -> Result<()> {
    let config = trainer.config();
    let title = format!(
        "Meta-training {:?}, seed {}",
        config.optimizer.kind, config.seed
    );
    curves::save(path, &title)?;
    println!(
        "{} outer steps in {}",
        trainer.outer_step(),
        duration(seconds)
    );
    if let Some((step, score)) = view.best {
        println!(
            "best by held-out training: outer step {step}, mean training loss {:.4}, final {:.4}",
            score.mean_loss, score.final_loss
        );
    }
    println!(
        "θ: {}, curves.svg beside it",
        path.join("best.safetensors").display()
    );
    Ok(())
}

/// Shows the progress of a run.
struct View {
    bar: Bar,
    /// Recent meta-losses, averaged: a single one is noisy.
    smoothed: Option<f64>,
    best: Option<(u64, lopt_meta::HeldOutScore)>,
    started: Instant,
    inner_steps: Option<u64>,
}

impl View {
    fn new(trainer: &Trainer) -> Self {
        Self {
            bar: Bar::new(
                trainer.outer_step(),
                trainer.config().outer.steps,
                "outer steps",
            ),
            smoothed: None,
            best: None,
            started: Instant::now(),
            inner_steps: None,
        }
    }

    /// Inner steps per second since the second outer step.
    fn speed(&mut self, inner_steps: u64) -> f64 {
        let start = *self.inner_steps.get_or_insert_with(|| {
            self.started = Instant::now();
            inner_steps
        });
        (inner_steps - start) as f64 / self.started.elapsed().as_secs_f64().max(1e-9)
    }
}

impl Observer for View {
    fn on_step(&mut self, progress: &Progress) {
        let smoothed = match self.smoothed {
            Some(old) => old + 0.1 * (progress.meta_loss - old),
            None => progress.meta_loss,
        };
        self.smoothed = Some(smoothed);
        self.best = progress.best;
        if let Some(score) = progress.held_out {
            self.bar.line(&format!(
                "outer step {}: held-out training loss {:.4} mean, {:.4} final",
                progress.outer_step, score.mean_loss, score.final_loss
            ));
        }
        let speed = self.speed(progress.inner_steps);
        let message = format!("meta-loss {smoothed:.4}, {speed:.0} inner steps/s");
        self.bar.set(progress.outer_step, message);
    }
}
