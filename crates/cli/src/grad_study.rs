//! `lopt grad-study`: gradient estimators compared with the exact meta-gradient.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use anyhow::Result;
use clap::Args as ClapArgs;
use lopt_core::LearnedOptimizer;
use lopt_experiments::grad_study;
use lopt_meta::{GradStudy, OptimizerConfig, Preset, RunConfig, registry};

use crate::{
    common::{Compute, save_figure, save_table, thetas},
    output::paragraph,
    progress::Bar,
    ranks::one_process,
    stop::stop_flag,
};

#[derive(ClapArgs)]
pub struct Args {
    /// A θ file to study; may be repeated, for one of each kind of optimizer. [default for each kind:
    /// the reference's initial θ]
    #[arg(long, value_name = "FILE")]
    theta: Vec<PathBuf>,
    /// Lengths of the unrolls in inner steps, each below the truncation or a multiple of it.
    #[arg(
        long,
        value_name = "N,N,…",
        value_delimiter = ',',
        default_value = "5,10,20,50,100,200"
    )]
    lengths: Vec<u64>,
    /// Inner steps per truncation.
    #[arg(long, default_value_t = 10)]
    truncation: u64,
    /// Standard deviation σ of the perturbations.
    #[arg(long, default_value_t = 0.01)]
    sigma: f64,
    /// Number of independent unrolls for each estimator and length.
    #[arg(long, default_value_t = 32)]
    samples: u64,
    /// Set a value of the preset `quick`, which provides task and seed, such as seed=3; may be
    /// repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Folder for the table and figures.
    #[arg(long, value_name = "DIR", default_value = "grad-study")]
    out: PathBuf,
    #[command(flatten)]
    compute: Compute,
}

/// Whether an override sets what the study takes from the configuration.
fn of_task_or_seed(text: &str) -> bool {
    let key = text.split(['.', '=']).next().map(str::trim);
    matches!(key, Some("task" | "seed"))
}

/// Returns whether the study is complete.
pub fn run(args: Args) -> Result<bool> {
    one_process()?;
    if let Some(other) = args.overrides.iter().find(|text| !of_task_or_seed(text)) {
        anyhow::bail!(
            "`--set {other}` has no effect here, only `task` and `seed` do; see --theta, --lengths, \
             --truncation, --sigma and --samples"
        );
    }
    let quick = Preset::Quick.text();
    let config = RunConfig::parse(quick, "preset quick", None, &args.overrides)?;
    anyhow::ensure!(
        args.sigma > 0.0 && args.sigma.is_finite(),
        "--sigma must be positive and finite"
    );
    let seed = config.trainer.seed;
    let optimizers = optimizers(&args.theta, seed)?;
    let study = GradStudy {
        lengths: args.lengths.clone(),
        truncation: args.truncation,
        sigma: args.sigma,
        samples: args.samples,
        seed,
    };
    let device = args.compute.device()?;
    let family = config.task.load(&mut args.compute.store(), &device)?;
    let stop = stop_flag()?;
    let workers = args.compute.workers();
    let total = optimizers.len() as u64 * args.lengths.iter().sum::<u64>();
    let mut bar = Bar::new(0, total, "inner steps of each sample");
    let mut done = 0;
    let mut on_length = |name: &str, length| {
        done += length;
        eprintln!("{name}: unrolls of {length} steps done");
        bar.set(done, "");
    };
    let studied = grad_study::run(&study, &optimizers, &family, workers, &stop, &mut on_length)?;
    drop(bar);
    let numbers = grad_study::numbers(&studied);
    save_table(&args.out, "grad-study", &numbers)?;
    for of in &studied {
        println!("{}\n{}\n", of.optimizer, grad_study::table(of));
    }
    let explanation = format!(
        "Estimates of the gradient of the mean loss of an unroll. Each is the mean over the \
         truncations, of {} steps, of one unroll of one network (or antithetic pair); {} unrolls for \
         each row, σ {}. norm: of the mean estimate. cosine: between it and the mean exact gradient. \
         single cosine: the mean cosine between one estimate and the mean exact gradient. deviation: \
         square root of the total variance over θ. largest: the largest norm of an estimate.",
        args.truncation, args.samples, args.sigma
    );
    println!("{}", paragraph("", &explanation));
    for of in &studied {
        for (name, figure) in grad_study::figures(&study, of) {
            save_figure(&args.out, &name, &figure)?;
        }
    }
    println!("grad-study.csv and figures: {}", args.out.display());
    let stopped = stop.load(Ordering::Relaxed);
    if stopped {
        println!("stopped early: these are the results so far");
    }
    Ok(!stopped)
}

/// Every kind, with the given θ or the reference's initial one.
fn optimizers(
    files: &[PathBuf],
    seed: u64,
) -> Result<Vec<(&'static str, Arc<dyn LearnedOptimizer>)>> {
    let mut given = thetas(files)?;
    let mut optimizers: Vec<(_, Arc<dyn LearnedOptimizer>)> = vec![];
    for &kind in registry::LEARNED {
        let optimizer = match given.remove(kind.name()) {
            Some((_, optimizer)) => optimizer,
            None => {
                let reference = OptimizerConfig {
                    kind,
                    last_layer_scale: 1.0,
                    init: None,
                    config: None,
                };
                reference.initial(seed)?
            }
        };
        optimizers.push((kind.name(), optimizer.into()));
    }
    Ok(optimizers)
}
