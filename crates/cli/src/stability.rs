//! `lopt stability`: figures of the theory, or the linearized training of meta-trained optimizers.

use std::{path::PathBuf, sync::atomic::Ordering};

use anyhow::Result;
use clap::{Args as ClapArgs, builder::ArgPredicate};
use lopt_experiments::{linearized::Linearization, theory};
use lopt_page::{Page, Section};
use lopt_tasks::{DataStore, suite::Suite};

use crate::{
    common::{one_of, save},
    output::paragraph,
    pages,
    ranks::one_process,
    stop::stop_flag,
};

#[derive(ClapArgs)]
pub struct Args {
    /// A θ file whose optimizer is linearized in training; may be repeated. [default: none; makes
    /// the figures of the noisy quadratic model]
    #[arg(long, value_name = "FILE")]
    theta: Vec<PathBuf>,
    /// The task to train, by its name in the suite, such as "width 8".
    #[arg(
        long,
        value_name = "NAME",
        default_value = "as meta-trained",
        requires = "theta"
    )]
    task: String,
    /// The suite that contains the task.
    #[arg(
        long,
        default_value = "quick",
        requires = "theta",
        value_parser = one_of(Suite::ALL.map(|s| (s.name(), s)))
    )]
    suite: Suite,
    /// Numbers of inner steps after which to linearize. [default: 1, 2, 5, 10, … up to the horizon
    /// of the task]
    #[arg(
        long,
        value_name = "N,N,…",
        value_delimiter = ',',
        requires = "theta",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    steps: Vec<u64>,
    /// Maximum number of products with the Jacobian at each point.
    #[arg(
        long,
        default_value_t = 120,
        requires = "theta",
        value_parser = clap::value_parser!(u64).range(1..=2000)
    )]
    products: u64,
    /// Random seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for figures and tables; with --theta, by default `stability/training`.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "stability",
        default_value_if("theta", ArgPredicate::IsPresent, "stability/training")
    )]
    out: PathBuf,
    /// Device to compute on: `cpu` or `cuda:N` (needs a build with `--features cuda`).
    #[arg(long, default_value = "cpu", requires = "theta")]
    device: String,
    /// Folder with the full data sets. [default: $LOPT_DATA_DIR, else datasets/downloaded]
    #[arg(long, value_name = "DIR", requires = "theta")]
    data_dir: Option<PathBuf>,
}

/// Returns whether the study is complete.
pub fn run(args: Args) -> Result<bool> {
    one_process()?;
    let complete = match args.theta.is_empty() {
        true => illustrate(&args).map(|()| true),
        false => linearize(&args),
    }?;
    println!("figures and their numbers: {}", args.out.display());
    pages::announce(&args.out);
    Ok(complete)
}

fn illustrate(args: &Args) -> Result<()> {
    let mut sections = vec![];
    for illustration in theory::illustrations(args.seed) {
        let theory::Illustration {
            name,
            figure,
            numbers,
        } = illustration?;
        save(&args.out, name, &figure, &numbers)?;
        println!("{}", paragraph(&format!("{name}: "), &figure.title));
        let numbers = format!("The numbers are in {name}.csv.");
        sections.push(Section::new(name).figure(figure).text(numbers));
    }
    let page = Page {
        title: "Stability of the noisy quadratic model".to_owned(),
        live: false,
        sections,
    };
    pages::save(&page, &args.out)
}

fn linearize(args: &Args) -> Result<bool> {
    let settings = Linearization {
        optimizers: args.theta.clone(),
        suite: args.suite,
        task: args.task.clone(),
        steps: args.steps.clone(),
        products: args.products as usize,
        seed: args.seed,
    };
    let device = lopt_core::device::parse(&args.device)?;
    let stop = stop_flag()?;
    let mut store = DataStore::new(args.data_dir.as_deref());
    let results = settings.run(&mut store, &device, &stop, &mut |name, point| {
        eprintln!(
            "{name}: after {} steps, ρ = {:.5}",
            point.step,
            point.leading.radius()
        );
    })?;
    for of in results.optimizers.iter().filter(|of| of.ended_early) {
        eprintln!(
            "{}: the run ended early: a loss or gradient was not finite",
            of.name
        );
    }
    save(&args.out, "training", &results.figure, &results.numbers())?;
    println!("{}", results.table());
    let explanation = format!(
        "radius: spectral radius of the Jacobian of an inner step in parameters and accumulators, \
         on the minibatch of the step; below 1 small differences die out, above 1 they grow. \
         residual: of the eigenvalue; {} products at most. norm: of the step. nominal share: \
         ‖nominal term‖ over ‖nominal term‖ + ‖blackbox term‖.",
        args.products
    );
    println!("{}", paragraph("", &explanation));
    let section = Section::new("Linearized training")
        .figure(results.figure.clone())
        .table(pages::table(results.table()))
        .text(explanation);
    let page = Page {
        title: "Stability in training".to_owned(),
        live: false,
        sections: vec![section],
    };
    pages::save(&page, &args.out)?;
    let stopped = stop.load(Ordering::Relaxed);
    if stopped {
        println!("stopped early: these are the results so far");
    }
    Ok(!stopped)
}
