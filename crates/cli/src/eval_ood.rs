use std::{
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
use lopt_tasks::{TaskFamilyConfig, suite::Suite};
use serde_json::Value;

use crate::{
    common::{Compute, count, one_of, provenance, thetas},
    output::paragraph,
    pages,
    progress::{EvaluationBar, duration},
    ranks::one_process,
    stop::stop_flag,
    table,
};

#[derive(ClapArgs)]
pub struct Args {
    /// A θ file to evaluate; may be given once for each kind of optimizer. [default: the shipped STAR
    /// and blackbox]
    #[arg(long, value_name = "FILE")]
    theta: Vec<PathBuf>,
    /// `quick`: variations of an MLP on 8×8 images, 500 steps, embedded data (one task needs the full
    /// CIFAR-10). `full`: the same on full-size images, 2000 steps, the full data sets; runs overnight.
    /// `beyond-mlps`: layer-norm, convolutional, residual and recurrent networks and a transformer, on the full
    /// CIFAR-10 and embedded data. `held-out`: other losses, networks, batch sizes and initializers,
    /// 500 and 2000 steps, with the full CIFAR-10 and MNIST. `selection`: the tasks on which to choose an
    /// optimizer; its groups `larger` and `long` need the full CIFAR-10 and Fashion-MNIST.
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
    /// Train only the learned optimizers, without anything to compare them with: shows their losses and
    /// whether any of many seeds diverges.
    #[arg(long, conflicts_with_all = ["adam_learning_rate", "reuse"])]
    no_baselines: bool,
    /// Folder for the results. The same command resumes there after an interruption.
    /// [default: eval/SUITE-CHECKSUM]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Folder of another evaluation. Its training runs of the tuned baselines are reused where tasks
    /// and seeds are the same, which saves most of the time. One of the reused runs of each
    /// baseline is repeated on each task, as a check.
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
    if !args.no_baselines {
        contenders.extend(untuned());
    }
    let device = args.compute.device()?;
    let program = program(&provenance(), &device);
    let mut settings = Settings::new(args.suite, args.seeds, program, &contenders);
    settings.groups = args.group.clone();
    if args.no_baselines {
        settings.tuned.clear();
    }
    if !args.adam_learning_rate.is_empty() {
        let tuned = settings.tuned.iter_mut();
        for adam in tuned.filter(|tuning| tuning.baseline == Baseline::Adam) {
            adam.grid = args.adam_learning_rate.clone();
            adam.grid.sort_by(f64::total_cmp);
            adam.grid.dedup();
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
    match args.no_baselines {
        true => eprintln!("final training losses:"),
        false => eprintln!("final training losses, with those of Adam at its best learning rate:"),
    }
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
    pages::save(&pages::of_evaluation(&summary), &out)?;
    table::print(&summary);
    let losses = if args.no_baselines {
        ""
    } else {
        ", losses.svg"
    };
    println!(
        "report.json, report.csv{losses} and curves/*.svg: {}",
        out.display()
    );
    pages::announce(&out);
    Ok(true)
}

/// Says what is kept. Returns that the evaluation is not complete.
fn stopped() -> bool {
    eprintln!("stopped; what is finished is kept, and the same command resumes after it");
    false
}

/// What is left to do and how long it will take.
fn announcement(estimate: &Estimate, threads: usize) -> String {
    let &Estimate {
        tasks,
        skipped,
        runs,
        ..
    } = estimate;
    let left = match tasks {
        0 => "no training run is left to do".to_owned(),
        _ => format!(
            "{runs} training runs on {}: about {} with {}",
            count(tasks, "task"),
            duration(estimate.seconds),
            count(threads as u64, "thread"),
        ),
    };
    match skipped {
        0 => left,
        _ => format!(
            "{left}; {} skipped, because data are missing",
            count(skipped, "task")
        ),
    }
}

/// The optimizers in the given θ files, else the shipped ones.
fn contenders(args: &Args) -> Result<Vec<Contender>> {
    let mut chosen = vec![];
    let mut given = thetas(&args.theta)?;
    for kind in registry::LEARNED {
        let (source, optimizer) = match given.remove(kind.name()) {
            Some((path, optimizer)) => (path.display().to_string(), optimizer),
            None if args.theta.is_empty() => match kind.pretrained() {
                Some(optimizer) => ("the shipped θ".to_owned(), optimizer),
                None => continue,
            },
            None => continue,
        };
        let tasks = meta_training_tasks(optimizer.theta());
        let tasks = tasks.map_or_else(String::new, |tasks| format!(", meta-trained on {tasks}"));
        let start = format!("{}: ", kind.name());
        eprintln!("{}", paragraph(&start, &format!("{source}{tasks}")));
        chosen.push((kind.name(), optimizer));
    }
    let trainings = chosen.iter().map(|(_, o)| meta_training(o.theta()));
    if trainings
        .collect::<Vec<_>>()
        .windows(2)
        .any(|pair| pair[0] != pair[1])
    {
        let warning = "these optimizers were meta-trained on different tasks or with different \
                       settings; a difference between them need not come from the optimizers";
        eprintln!("{}", paragraph("warning: ", warning));
    }
    let contenders = chosen.into_iter().map(|(name, mut optimizer)| {
        optimizer.set_learning_rate(args.learning_rate);
        Contender::learned(name, optimizer.into())
    });
    Ok(contenders.collect())
}

/// The tasks that θ was meta-trained on, if its file says so.
fn meta_training_tasks(theta: &Theta) -> Option<TaskFamilyConfig> {
    serde_json::from_value(theta.provenance()["configuration"]["task"].clone()).ok()
}

/// The tasks, estimator and outer optimizer that θ was meta-trained with.
fn meta_training(theta: &Theta) -> [Value; 3] {
    let configuration = &theta.provenance()["configuration"];
    ["task", "estimator", "outer"].map(|section| configuration[section].clone())
}

/// A line about a finished task: the final losses of the learned optimizers and of tuned Adam.
fn line(report: &TaskReport) -> String {
    let title = table::title(report);
    match &report.outcome {
        Outcome::Skipped { reason } => format!("{title} skipped: {reason}"),
        Outcome::Done { results, .. } => {
            let learned = registry::LEARNED.iter().map(|kind| kind.name());
            let shown: Vec<&str> = learned.chain([Baseline::Adam.name()]).collect();
            let losses = results.iter().filter(|r| shown.contains(&&*r.name));
            let losses = losses.map(|r| format!("{} {:.4}", r.name, r.final_loss()));
            format!("{title}: {}", losses.collect::<Vec<_>>().join(", "))
        }
    }
}
