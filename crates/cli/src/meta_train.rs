//! `lopt meta-train`: meta-trains an optimizer and compares it with Adam.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use anyhow::{Context, Error, Result, bail};
use clap::Args as ClapArgs;
use lopt_core::{LearnedOptimizer, Workers};
use lopt_eval::{Comparison, FINAL_PERCENT, Score, compare_with_adam};
use lopt_experiments::curves::{self, Metrics};
use lopt_meta::{
    EstimatorConfig, EstimatorKind, Observer, Preset, Progress, Provenance, Resources, RunConfig,
    Trainer,
    registry::{self, LEARNED},
};
use lopt_per_param::Kind;
use lopt_tasks::Task;

use crate::{
    common::{Compute, invocation, one_of, provenance, quoted},
    output::paragraph,
    pages,
    progress::{Bar, duration},
    ranks,
    stop::{stop_flag, stop_flag_with},
    tensorboard::EventFile,
};

#[derive(ClapArgs)]
pub struct Args {
    /// A built-in configuration. `paper` needs the full Fashion-MNIST.
    #[arg(long, default_value = "quick", conflicts_with_all = ["config", "resume"],
        value_parser = one_of(Preset::ALL.map(|preset| (preset.name(), preset))))]
    preset: Preset,
    /// A configuration file (TOML) instead of a preset. With `extends = "quick"` at its top, it needs
    /// only what differs from that preset.
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    config: Option<PathBuf>,
    /// Set a value of the configuration, such as outer.steps=500; an empty value removes the key.
    /// May be repeated. With --resume, only outer.steps can be set, for example to take more outer
    /// steps than planned.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Start from the values of θ in this file instead of random ones. The configuration of the
    /// optimizer is that of the run.
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    init: Option<PathBuf>,
    /// The optimizer to meta-train. [default: from the configuration]
    #[arg(long, conflicts_with = "resume",
        value_parser = one_of(LEARNED.iter().map(|&kind| (kind.name(), kind))))]
    optimizer: Option<Kind>,
    /// How to estimate the meta-gradient: by persistent (pes) or truncated (es) evolution
    /// strategies, evolution strategies on whole unrolls (full-es), or backpropagation through the
    /// truncation. Settings that it shares with the configuration's estimator are kept.
    /// [default: from the configuration]
    #[arg(long, conflicts_with = "resume",
        value_parser = one_of(EstimatorKind::ALL.iter().map(|&kind| (kind.name(), kind))))]
    estimator: Option<EstimatorKind>,
    /// Random seed. [default: from the configuration]
    #[arg(long, conflicts_with = "resume",
        value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: Option<u64>,
    /// New directory for the run. [default: runs/OPTIMIZER-PRESET-seedN]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    run_dir: Option<PathBuf>,
    /// Resume the run in this directory, with its own configuration.
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    /// Also write the metrics for TensorBoard, to the folder `tensorboard` of the run directory. A
    /// resumed run that has this folder keeps writing to it, even without this option.
    #[arg(long)]
    tensorboard: bool,
    /// Print the configuration as TOML and exit.
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    compute: Compute,
}

impl Args {
    /// Whether the run needs second derivatives of losses. A configuration that cannot be read is
    /// reported later.
    pub fn needs_second_derivatives(&self) -> bool {
        let config = match &self.resume {
            Some(path) => RunConfig::load(&path.join("config.toml"), None, &[]).map_err(Error::new),
            None => configuration(self).map(|(config, _)| config),
        };
        config.is_ok_and(|config| matches!(config.trainer.estimator, EstimatorConfig::Backprop(_)))
    }
}

/// Returns whether the run is complete.
pub fn run(args: Args) -> Result<bool> {
    let outer_steps = match &args.resume {
        Some(_) => outer_steps(&args.overrides)?,
        None => None,
    };
    if args.print_config {
        let config = match &args.resume {
            Some(path) => RunConfig::load(&path.join("config.toml"), None, &args.overrides)?,
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
        workers,
        comm: comm.clone(),
        provenance: provenance(),
        ..Resources::default()
    };
    let (config, mut trainer) = match &args.resume {
        Some(path) => RunConfig::resume(path, outer_steps, &mut store, &device, resources)
            .with_context(|| format!("cannot resume {}", path.display()))?,
        None => {
            let (config, name) = configuration(&args)?;
            let path = match &args.run_dir {
                Some(path) => path.clone(),
                None => new_run_dir(&config, &name, comm.rank() == 0),
            };
            let trainer = config.start(&path, &mut store, &device, resources);
            if trainer.is_err() && args.run_dir.is_none() {
                // They fail if there is something in them.
                let _ = fs::remove_dir(&path).and_then(|()| fs::remove_dir("runs"));
            }
            let trainer = trainer.map_err(|error| match error {
                lopt_meta::Error::RunDir { .. } => Error::new(error).context(format!(
                    "cannot start a run in {0}; `--resume {0}` continues a run, `--run-dir` names \
                     another directory",
                    path.display()
                )),
                other => other.into(),
            })?;
            (config, trainer)
        }
    };
    if comm.rank() > 0 {
        drop(store);
        return Ok(trainer.run(&*stop_flag_with(String::new())?, &mut ())?);
    }
    // The data are already in memory.
    let own_task = config.task.first_task()?.load(&mut store, &device)?.task;
    drop(store);
    announce(&config, &trainer, workers.threads(), comm.size());
    let events = EventFile::folder(trainer.path());
    let tensorboard = args.tensorboard || events.is_dir();
    let ranks = comm.size();
    let compute = args.compute.arguments();
    train(
        &config,
        &mut trainer,
        own_task,
        workers,
        ranks,
        &compute,
        tensorboard,
    )
}

/// The number of outer steps that a resumed run is set to.
fn outer_steps(overrides: &[String]) -> Result<Option<u64>> {
    let Some(last) = overrides.last() else {
        return Ok(None);
    };
    let steps = |text: &String| {
        let (key, value) = text.split_once('=')?;
        let steps = value.trim().parse::<u64>().ok()?;
        (key.trim() == "outer.steps").then_some(steps)
    };
    match overrides.iter().find(|text| steps(text).is_none()) {
        Some(other) => bail!("`--set {other}`: with --resume only outer.steps=NUMBER can be set"),
        None => Ok(steps(last)),
    }
}

/// The configuration and its name: that of the preset or of the file.
fn configuration(args: &Args) -> Result<(RunConfig, String)> {
    let mut overrides = vec![];
    if let Some(kind) = args.optimizer {
        let key = |text: &String| text.split('=').next().map(str::trim) == Some("optimizer.kind");
        if args.overrides.iter().any(key) {
            bail!(
                "--optimizer and --set optimizer.kind=… both choose the optimizer; give one of them"
            );
        }
        overrides.push(format!("optimizer.kind={}", kind.name()));
        if args.config.is_none() {
            // The presets' scale is for their own kind; with 0, a blackbox would never update the
            // parameters.
            let scale = kind.last_layer_scale();
            overrides.push(format!("optimizer.last-layer-scale={scale:?}"));
        }
    }
    overrides.extend(args.seed.map(|seed| format!("seed={seed}")));
    if let Some(path) = &args.init {
        let path = path
            .to_str()
            .context("the path of --init is not valid UTF-8")?;
        overrides.push(format!("optimizer.init={}", toml::Value::from(path)));
    }
    overrides.extend(args.overrides.iter().cloned());
    match &args.config {
        Some(path) => {
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            Ok((RunConfig::load(path, args.estimator, &overrides)?, name))
        }
        None => {
            let name = args.preset.name();
            let origin = format!("preset {name}");
            let text = args.preset.text();
            let config = RunConfig::parse(text, &origin, args.estimator, &overrides)?;
            Ok((config, name.to_owned()))
        }
    }
}

/// The first unused run directory for this configuration, which rank 0 creates, so that another
/// process does not choose it too.
fn new_run_dir(config: &RunConfig, name: &str, create: bool) -> PathBuf {
    let kind = config.optimizer.kind.name();
    let base = format!("runs/{kind}-{name}-seed{}", config.trainer.seed);
    if create && fs::create_dir_all("runs").is_ok() {
        let numbered = (2..).map(|n| format!("{base}-{n}"));
        for path in std::iter::once(base.clone()).chain(numbered) {
            match fs::create_dir(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                // Another error is reported when the run starts.
                _ => return path.into(),
            }
        }
    }
    base.into()
}

fn announce(config: &RunConfig, trainer: &Trainer, threads: usize, ranks: usize) {
    let path = trainer.path().display();
    let processes = match ranks {
        1 => format!("{threads} threads"),
        _ => format!("{ranks} ranks of {threads} threads"),
    };
    let start = format!(
        "meta-training {} on {}, seed {}, {processes}",
        config.optimizer.kind.name(),
        config.task,
        config.trainer.seed
    );
    eprintln!("{}\nrun directory: {path}", paragraph("", &start));
    eprintln!("inner steps: {}", trainer.inner_path());
    if trainer.outer_step() > 0 {
        eprintln!("resuming after outer step {}", trainer.outer_step());
    }
    let here = provenance();
    if *trainer.provenance() != here {
        let there = trainer.provenance();
        eprintln!(
            "warning: the run was started by {}, this is {}; results may differ in their last bits",
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
    config: &RunConfig,
    trainer: &mut Trainer,
    own_task: Arc<dyn Task>,
    workers: Workers,
    ranks: usize,
    compute: &str,
    tensorboard: bool,
) -> Result<bool> {
    let path = trainer.path().to_owned();
    let again = format!("meta-train --resume {}{compute}", quoted(&path));
    let program = invocation();
    let resume = match ranks {
        1 => format!("{program} {again}"),
        _ => format!("mpirun -n {ranks} lopt {again} (with any number of ranks)"),
    };
    let stop = match ranks {
        1 => stop_flag()?,
        _ => stop_flag_with(format!(
            "stopping with the other ranks as soon as the state is saved; if one of them died, the \
             run ends here and can be resumed from its newest checkpoint. Resume with: {resume}"
        ))?,
    };
    let mut view = View::new(trainer, tensorboard)?;
    let (started, before) = (Instant::now(), trainer.outer_step());
    let result = trainer.run(&stop, &mut view);
    view.write_events();
    let speed = view.speed;
    drop(view);
    let over = match result {
        Err(error @ lopt_meta::Error::Diverged { .. }) => {
            return Err(error).context("meta-training failed");
        }
        result => result.with_context(|| {
            format!("meta-training failed; resume from the newest checkpoint with: {resume}")
        })?,
    };
    if !over {
        eprintln!(
            "stopped after outer step {}; resume with: {resume}",
            trainer.outer_step()
        );
        return Ok(false);
    }
    let steps = trainer.outer_step();
    let seconds = duration(started.elapsed().as_secs_f64());
    let speed = speed.map_or_else(String::new, |speed| format!(", {speed:.0} inner steps/s"));
    println!(
        "{}",
        match steps - before {
            0 => format!("the run was complete after {steps} outer steps"),
            taken if before == 0 => format!("{taken} outer steps in {seconds}{speed}"),
            taken => format!("{steps} outer steps, the last {taken} in {seconds}{speed}"),
        }
    );
    let metrics = curves::metrics(&path)?;
    conclude(config, trainer, &path, &metrics)?;
    let Some(found) = compare(trainer, &own_task, &path, &metrics, workers, &stop)? else {
        return Ok(false);
    };
    let Score {
        mean_loss,
        final_loss,
    } = found.learned;
    if mean_loss > found.adam_by_mean().1 && final_loss > found.adam_by_final().1 {
        let more = "A learned optimizer has a higher loss than Adam until it has been meta-trained for \
                    long enough. To continue:";
        let steps = config.trainer.outer.steps.saturating_mul(10);
        println!("{}", paragraph("", more));
        println!("  {program} {again} --set outer.steps={steps}");
    }
    let theta = quoted(&found_theta(&path));
    println!("to evaluate it on other tasks:\n  {program} eval-ood --theta {theta}{compute}");
    Ok(true)
}

/// The best θ of a complete run; the last one if somebody removed that.
fn found_theta(path: &Path) -> PathBuf {
    let best = path.join("best.safetensors");
    match best.exists() {
        true => best,
        false => path.join("theta.safetensors"),
    }
}

/// Compares the best θ with Adam at its best learning rates; `None` if it was stopped.
fn compare(
    trainer: &Trainer,
    task: &Arc<dyn Task>,
    path: &Path,
    metrics: &[Metrics],
    workers: Workers,
    stop: &AtomicBool,
) -> Result<Option<Comparison>> {
    const SEEDS: u64 = 3;
    let optimizer: Arc<dyn LearnedOptimizer> = registry::load(&found_theta(path))?.into();
    let horizon = trainer.config().held_out.horizon;
    let found = compare_with_adam(task, optimizer, horizon, SEEDS, workers, stop);
    let found = match found {
        Err(lopt_eval::Error::Stopped) => {
            eprintln!("stopped during the comparison with Adam; θ is saved");
            return Ok(None);
        }
        found => found?,
    };
    let (mean_rate, mean_loss) = found.adam_by_mean();
    let (final_rate, final_loss) = found.adam_by_final();
    let difference = |ours: f64, theirs: f64| {
        let percent = 100.0 * (ours / theirs - 1.0);
        match percent {
            _ if theirs == 0.0 && ours > 0.0 => "above".to_owned(),
            percent if percent <= -0.05 => format!("{:.1} % below", -percent),
            percent if percent >= 0.05 => format!("{percent:.1} % above"),
            _ => "the same as".to_owned(),
        }
    };
    let Score {
        mean_loss: ours_mean,
        final_loss: ours_final,
    } = found.learned;
    let compared = format!(
        "training loss over {horizon} steps (final: the last {FINAL_PERCENT} %) of {}, {SEEDS} new seeds, and the \
         best of Adam's {} learning rates:",
        task.name(),
        found.adam.len(),
    );
    println!("{}", paragraph("", &compared));
    println!(
        "  mean  {ours_mean:.4}, {} Adam {mean_rate:e} ({mean_loss:.4})\n  final {ours_final:.4}, \
         {} Adam {final_rate:e} ({final_loss:.4})",
        difference(ours_mean, mean_loss),
        difference(ours_final, final_loss),
    );
    pages::save(
        &pages::of_run(path, metrics, Some((&task.name(), &found)))?,
        path,
    )?;
    pages::announce(path);
    Ok(Some(found))
}

fn conclude(config: &RunConfig, trainer: &Trainer, path: &Path, metrics: &[Metrics]) -> Result<()> {
    let (kind, seed) = (config.optimizer.kind.name(), config.trainer.seed);
    let title = format!("Meta-training {kind}, seed {seed}");
    if let Some((step, score)) = trainer.best() {
        println!(
            "best held-out score: outer step {step}, mean training loss {:.4}, final {:.4}",
            score.mean_loss, score.final_loss
        );
    }
    println!("θ: {}", found_theta(path).display());
    if let Some(figure) = curves::losses(metrics, &title) {
        let curves = path.join("curves.svg");
        figure.save(&curves)?;
        println!("curves: {}", curves.display());
    }
    pages::save(&pages::of_run(path, metrics, None)?, path)
}

/// Shows the progress of a run.
struct View {
    bar: Bar,
    /// A running average of the meta-losses, which are noisy.
    smoothed: Option<f64>,
    started: Instant,
    inner_steps: Option<u64>,
    /// Inner steps per second since the end of the first outer step.
    speed: Option<f64>,
    events: Option<EventFile>,
}

impl View {
    fn new(trainer: &Trainer, tensorboard: bool) -> Result<Self> {
        let events = tensorboard.then(|| EventFile::create(trainer.path()));
        Ok(Self {
            events: events.transpose()?,
            bar: Bar::new(
                trainer.outer_step(),
                trainer.config().outer.steps,
                "outer steps",
            ),
            smoothed: None,
            started: Instant::now(),
            inner_steps: None,
            speed: None,
        })
    }

    /// Writes the events of all outer steps so far. A full disk must not end a long run.
    fn write_events(&mut self) {
        if let Some(Err(error)) = self.events.as_mut().map(EventFile::update) {
            eprintln!("warning: no more events for TensorBoard: {error:#}");
            self.events = None;
        }
    }
}

impl Observer for View {
    fn on_step(&mut self, progress: &Progress) {
        let smoothed = match self.smoothed {
            Some(old) => old + 0.1 * (progress.meta_loss - old),
            None => progress.meta_loss,
        };
        self.smoothed = Some(smoothed);
        if let Some(score) = progress.held_out {
            eprintln!(
                "outer step {}: held-out training loss {:.4} mean, {:.4} final",
                progress.outer_step, score.mean_loss, score.final_loss
            );
        }
        match self.inner_steps {
            None => {
                self.started = Instant::now();
                self.inner_steps = Some(progress.inner_steps);
            }
            Some(start) => {
                let seconds = self.started.elapsed().as_secs_f64().max(1e-9);
                self.speed = Some((progress.inner_steps - start) as f64 / seconds);
            }
        }
        if self.events.as_ref().is_some_and(EventFile::is_due) {
            self.write_events();
        }
        let message = format!("meta-loss {smoothed:.4}");
        self.bar.set(progress.outer_step, &message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_a_shell() {
        let quoted = |path| super::quoted(Path::new(path));
        assert_eq!(quoted("runs/star-seed0"), "runs/star-seed0");
        assert_eq!(quoted("my run"), "'my run'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}
