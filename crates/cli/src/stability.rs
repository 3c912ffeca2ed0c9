//! `lopt stability`: figures of the theory, or the linearised training of meta-trained
//! optimizers.

mod theory;
mod training;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args as ClapArgs;
use lopt_core::file;
use lopt_plot::Figure;

use crate::{
    common::{Compute, SuiteName},
    ranks::one_process,
};

#[derive(ClapArgs)]
pub struct Args {
    /// A meta-trained STAR or blackbox to linearise in training; may be repeated. [default:
    /// none, the figures of the noisy quadratic model]
    #[arg(long, value_name = "FILE")]
    theta: Vec<PathBuf>,
    /// The task to train, by its name in the suite, such as "width 8".
    #[arg(long, value_name = "NAME", default_value = "as meta-trained")]
    task: String,
    /// The suite that has the task.
    #[arg(long, default_value = "quick")]
    suite: SuiteName,
    /// Inner steps before the points of linearisation. [default: 1, 2, 5, 10, … up to the
    /// task's horizon]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..))]
    steps: Vec<u64>,
    /// The most products with the Jacobian at a point.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=2000))]
    products: u64,
    /// Seed of everything random.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for figures and tables.
    #[arg(long, value_name = "DIR", default_value = "stability")]
    out: PathBuf,
    #[command(flatten)]
    compute: Compute,
}

/// Returns whether the study is over.
pub fn run(args: Args) -> Result<bool> {
    one_process()?;
    let finished = match args.theta.is_empty() {
        true => theory::run(&args.out, args.seed).map(|()| true),
        false => training::run(&args),
    }?;
    println!("figures and their numbers: {}", args.out.display());
    Ok(finished)
}

/// Writes NAME.svg and NAME.csv.
fn save(out: &Path, name: &str, figure: &Figure, csv: &str) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    figure.save(&out.join(format!("{name}.svg")))?;
    file::write_atomically(&out.join(format!("{name}.csv")), csv.as_bytes())?;
    Ok(())
}
