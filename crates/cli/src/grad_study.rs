use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use anyhow::{Context, Result};
use clap::Args as ClapArgs;
use lopt_core::{LearnedOptimizer, file};
use lopt_meta::{GradStudy, Preset, RunConfig, STUDIED, StudyPoint};
use lopt_plot::{Axis, Color, Figure, Item, Panel, Shape};

use crate::{
    common::{Compute, learned, stop_flag},
    ranks::one_process,
    table::new_table,
};

#[derive(ClapArgs)]
pub struct Args {
    /// θ of STAR. [default: as the reference initialises it]
    #[arg(long, value_name = "FILE")]
    star: Option<PathBuf>,
    /// θ of the blackbox. [default: as the reference initialises it]
    #[arg(long, value_name = "FILE")]
    blackbox: Option<PathBuf>,
    /// Lengths of the unrolls, in inner steps: each a multiple of the truncation, or below
    /// it.
    #[arg(long, value_delimiter = ',', default_values_t = [5, 10, 20, 50, 100, 200])]
    lengths: Vec<u64>,
    /// Inner steps of a truncation.
    #[arg(long, default_value_t = 10)]
    truncation: u64,
    /// σ of the perturbations.
    #[arg(long, default_value_t = 0.01)]
    sigma: f64,
    /// Independent unrolls for each estimator and length.
    #[arg(long, default_value_t = 32)]
    samples: u64,
    /// Sets a value of the preset `quick`, whose task is trained on, such as
    /// seed=3. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Folder for table and figures.
    #[arg(long, value_name = "DIR", default_value = "grad-study")]
    out: PathBuf,
    #[command(flatten)]
    compute: Compute,
}

/// Returns whether the study is over.
pub fn run(args: Args) -> Result<bool> {
    one_process()?;
    let quick = Preset::Quick.text();
    let config = RunConfig::parse(quick, "preset quick", None, &args.overrides)?;
    anyhow::ensure!(
        args.sigma > 0.0 && args.sigma.is_finite(),
        "--sigma must be positive and finite"
    );
    let optimizers = [
        ("star", optimizer("star", args.star.as_deref(), &config)?),
        (
            "blackbox",
            optimizer("blackbox", args.blackbox.as_deref(), &config)?,
        ),
    ];
    let study = GradStudy {
        lengths: args.lengths.clone(),
        truncation: args.truncation,
        sigma: args.sigma,
        samples: args.samples,
        seed: config.seed,
    };
    let device = args.compute.device()?;
    let family = config.task.load(&mut args.compute.store(), &device)?;
    let stop = stop_flag()?;
    let mut csv =
        "optimizer,estimator,length,norm,cosine,sample_cosine,deviation,largest\n".to_owned();
    let header = [
        "optimizer",
        "length",
        "estimator",
        "norm of mean",
        "cosine of mean",
        "mean cosine",
        "deviation",
        "largest",
    ];
    let mut table = new_table(&header, 3);
    for (name, optimizer) in &optimizers {
        let mut on_length = |length: u64, points: &[StudyPoint]| {
            for p in points {
                csv += &format!(
                    "{name},{},{length},{},{},{},{},{}\n",
                    p.estimator, p.norm, p.cosine, p.sample_cosine, p.deviation, p.largest
                );
                table.add_row([
                    (*name).to_owned(),
                    length.to_string(),
                    p.estimator.to_owned(),
                    format!("{:.3e}", p.norm),
                    format!("{:.3}", p.cosine),
                    format!("{:.3}", p.sample_cosine),
                    format!("{:.3e}", p.deviation),
                    format!("{:.3e}", p.largest),
                ]);
            }
            eprintln!("{name}: unrolls of {length} steps done");
            !stop.load(Ordering::Relaxed)
        };
        let workers = args.compute.workers();
        let points = study.run(&family, &**optimizer, workers, &mut on_length)?;
        figures(&args, name, &points)?;
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    file::write_atomically(&args.out.join("grad-study.csv"), csv.as_bytes())?;
    println!("{table}");
    println!(
        "Estimates of the gradient of the mean loss of an unroll, each from one unroll of one network\n\
         (one antithetic pair), the mean over its truncations of {} steps; {} unrolls each, σ {}.\n\
         cosine: with the mean exact gradient. deviation: root of the variances' sum over θ.",
        args.truncation, args.samples, args.sigma
    );
    println!("grad-study.csv and figures: {}", args.out.display());
    let stopped = stop.load(Ordering::Relaxed);
    if stopped {
        println!("stopped: this is what was finished by then");
    }
    Ok(!stopped)
}

fn optimizer(
    kind: &str,
    theta: Option<&Path>,
    config: &RunConfig,
) -> Result<Arc<dyn LearnedOptimizer>> {
    if let Some(path) = theta {
        return Ok(learned(kind, path)?.into());
    }
    let fresh = [
        format!("seed={}", config.seed),
        format!("optimizer.kind={kind}"),
        "optimizer.last-layer-scale=1.0".to_owned(),
    ];
    let mut fresh = RunConfig::parse(Preset::Quick.text(), "preset quick", None, &fresh)?;
    // With the paper's multipliers.
    fresh.optimizer.star = None;
    Ok(fresh.initial_optimizer()?.into())
}

/// Cosine, deviation and the largest estimate against the length.
fn figures(args: &Args, name: &str, points: &[StudyPoint]) -> Result<()> {
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot create {}", args.out.display()))?;
    type Value = fn(&StudyPoint) -> f64;
    let figures: [(&str, Axis, Value); 3] = [
        (
            "cosine",
            Axis::linear("mean cosine of an estimate with the exact gradient"),
            |p| p.sample_cosine,
        ),
        (
            "deviation",
            Axis::logarithmic("deviation of an estimate"),
            |p| p.deviation,
        ),
        (
            "norm",
            Axis::logarithmic("norm of the mean estimate"),
            |p| p.norm,
        ),
    ];
    for (figure, y, value) in figures {
        let of = |(index, estimator): (usize, &&str)| {
            let points = points.iter().filter(|p| p.estimator == *estimator);
            let points = points.map(|p| (p.length as f64, value(p))).collect();
            let color = match index {
                0 => Color::Black,
                _ => Color::nth(index - 1),
            };
            Item::new(color, Shape::MarkedLine(points)).labelled(*estimator)
        };
        let drawn = Figure {
            title: format!("{name}: estimates of the meta-gradient"),
            caption: format!(
                "Truncations of {} steps, σ {}, {} unrolls for each point.",
                args.truncation, args.sigma, args.samples
            ),
            panels: vec![Panel {
                title: String::new(),
                x: Axis::logarithmic("length of the unroll T (inner steps)"),
                y,
                items: STUDIED.iter().enumerate().map(of).collect(),
            }],
            columns: 1,
        };
        drawn.save(&args.out.join(format!("{name}-{figure}.svg")))?;
    }
    Ok(())
}
