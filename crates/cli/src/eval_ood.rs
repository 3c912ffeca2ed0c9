use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result};
use clap::Args as ClapArgs;
use lopt_core::Theta;
use lopt_eval::{
    Baseline, Contender, Estimate, Evaluation, Outcome, Settings, Summary, TaskReport, estimate,
    evaluate, untuned, write_reports,
};
use lopt_experiments::program;
use lopt_meta::registry;
use lopt_tasks::suite::Suite;

use crate::{
    common::{Compute, one_of, provenance, thetas},
    progress::{EvaluationBar, duration},
    ranks::one_process,
    stop::stop_flag,
    table,
};

#[derive(ClapArgs)]
pub struct Args {
    /// A θ file to evaluate, of any kind of optimizer; may be repeated. [default for each kind:
    /// best.safetensors of its newest run in runs/, else the shipped θ]
    #[arg(long, value_name = "FILE")]
    theta: Vec<PathBuf>,
    /// `quick`: variations of an MLP on 8×8 images, 500 steps, embedded data. `full`: the same on
    /// full-size images, 2000 steps, the full data sets; takes a night. `beyond-mlps`:
    /// convolutional, residual and recurrent networks and a transformer, on the full CIFAR-10 and
    /// embedded data. `held-out`: other losses, networks, batch sizes and initializers, 500 and 2000
    /// steps. `selection`: the tasks on which to choose an optimizer.
    #[arg(long, default_value = "quick", value_parser = one_of(Suite::ALL.map(|s| (s.name(), s))))]
    suite: Suite,
    /// Evaluate only this group of the suite, such as `width`; may be repeated.
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
    /// Number of seeds for each task and optimizer.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(..=10_000))]
    seeds: u64,
    /// Multiply the steps of the learned optimizers by this factor, like the library's
    /// `set_learning_rate`.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = learning_rate)]
    learning_rate: f64,
    /// Tune Adam only over this learning rate, such as 1e-3; may be repeated. [default: 15 learning
    /// rates from 1e-7 to 1]
    #[arg(long, value_name = "RATE", value_parser = learning_rate)]
    adam_learning_rate: Vec<f64>,
    /// Folder for the results. The same command resumes there after an interruption.
    /// [default: eval/SUITE-CHECKSUM]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Folder of another evaluation. Its training runs of the tuned baselines are used again where
    /// tasks and seeds are the same, which saves most of the time. One run of each is repeated as a
    /// check.
    #[arg(long, value_name = "DIR")]
    reuse: Option<PathBuf>,
    #[command(flatten)]
    compute: Compute,
}

fn learning_rate(text: &str) -> Result<f64, String> {
    let rate = text
        .parse()
        .ok()
        .filter(|rate: &f64| *rate > 0.0 && rate.is_finite());
    rate.ok_or_else(|| "a learning rate is a number above 0".to_owned())
}

/// Returns whether the evaluation is complete.
pub fn run(args: Args) -> Result<bool> {
    one_process()?;
    let mut contenders = contenders(&args)?;
    contenders.extend(untuned());
    let device = args.compute.device()?;
    let mut settings = Settings::new(args.suite, args.seeds, program(&provenance()), &contenders);
    settings.groups = args.group.clone();
    if !args.adam_learning_rate.is_empty() {
        let tuned = settings.tuned.iter_mut();
        for adam in tuned.filter(|tuning| tuning.baseline == Baseline::Adam) {
            adam.grid = args.adam_learning_rate.clone();
        }
    }
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| Path::new("eval").join(settings.folder_name()));
    eprintln!("evaluating into {}", out.display());
    let stop = stop_flag()?;
    let (mut store, workers) = (args.compute.store(), args.compute.workers());
    let evaluation = Evaluation {
        settings: &settings,
        contenders: &contenders,
        device: &device,
        workers,
        out: &out,
        reuse: args.reuse.as_deref(),
        stop: &stop,
    };
    let estimate = match estimate(evaluation, &mut store) {
        Err(lopt_eval::Error::Stopped) => return Ok(stopped()),
        estimate => estimate?,
    };
    eprintln!("{}", announcement(&estimate, workers.threads()));
    let bar = Mutex::new(EvaluationBar::new(&estimate));
    let reports = evaluate(evaluation, &mut store, &|event| {
        let mut bar = bar.lock().unwrap_or_else(PoisonError::into_inner);
        bar.show(event, line);
    });
    let reports = match reports {
        Err(lopt_eval::Error::Stopped) => return Ok(stopped()),
        Err(error @ lopt_eval::Error::NothingEvaluated(_)) => return Err(error.into()),
        reports => reports.context("evaluation stopped; what is finished is kept")?,
    };
    let summary = Summary::new(settings, reports);
    write_reports(&summary, &out)?;
    table::print(&summary);
    println!(
        "report.json, report.csv, losses.svg and curves/*.svg: {}",
        out.display()
    );
    Ok(true)
}

/// Says what is kept. Returns that the evaluation is not complete.
fn stopped() -> bool {
    eprintln!("stopped; what is finished is kept, and the same command resumes after it");
    false
}

/// What is left to do and how long it will take.
fn announcement(estimate: &Estimate, threads: usize) -> String {
    let &Estimate { tasks, runs, .. } = estimate;
    if tasks == 0 {
        return "no training run is left to do".to_owned();
    }
    let plural = |count| if count == 1 { "" } else { "s" };
    format!(
        "{runs} training runs on {tasks} task{}: about {} with {threads} thread{}",
        plural(tasks),
        duration(estimate.seconds),
        plural(threads as u64),
    )
}

/// The optimizers in the given θ files, else in the newest runs, else the shipped ones.
fn contenders(args: &Args) -> Result<Vec<Contender>> {
    let runs = newest_runs(Path::new("runs"));
    let mut contenders = vec![];
    let mut given = thetas(&args.theta)?;
    for kind in registry::LEARNED {
        let name = kind.name();
        let mut optimizer = match (given.remove(name), runs.get(name), kind.pretrained()) {
            (Some((path, optimizer)), ..) => {
                eprintln!("{name}: {}", path.display());
                optimizer
            }
            (None, Some(path), _) => {
                eprintln!("{name}: {}", path.display());
                registry::load(path)?
            }
            (None, None, Some(optimizer)) => {
                eprintln!("{name}: the shipped θ, because runs/ has no run of this kind");
                optimizer
            }
            (None, None, None) => continue,
        };
        optimizer.set_learning_rate(args.learning_rate);
        contenders.push(Contender::learned(name, optimizer.into()));
    }
    Ok(contenders)
}

/// The newest `best.safetensors` of each kind in the run directories of a folder.
fn newest_runs(folder: &Path) -> BTreeMap<String, PathBuf> {
    let mut newest: BTreeMap<String, (std::time::SystemTime, PathBuf)> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path().join("best.safetensors");
        let Ok(modified) = path.metadata().and_then(|metadata| metadata.modified()) else {
            continue;
        };
        let theta = match Theta::load(&path) {
            Ok(theta) => theta,
            Err(error) => {
                eprintln!("warning: skipping a θ that cannot be used: {error}");
                continue;
            }
        };
        let found = (modified, path);
        let kept = newest
            .entry(theta.kind().to_owned())
            .or_insert_with(|| found.clone());
        if found > *kept {
            *kept = found;
        }
    }
    newest
        .into_iter()
        .map(|(kind, (_, path))| (kind, path))
        .collect()
}

/// A line about a finished task.
fn line(report: &TaskReport) -> String {
    let start = format!("{}: {}", report.entry.group, report.entry.name);
    match &report.outcome {
        Outcome::Skipped { reason } => format!("{start} skipped: {reason}"),
        Outcome::Done { results, .. } => {
            let losses = results
                .iter()
                .map(|r| format!("{} {:.4}", r.name, r.final_loss()));
            format!(
                "{start}, final training loss: {}",
                losses.collect::<Vec<_>>().join(", ")
            )
        }
    }
}
