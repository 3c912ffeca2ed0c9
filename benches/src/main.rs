//! The table of `cargo xtask bench`: measurements beside their targets. A missed target is not an
//! error.

mod adjoint;
mod runs;
mod table;
mod torch;
mod update_rows;

use std::path::PathBuf;

use anyhow::Result;
use candle_nn::{AdamW, ParamsAdamW};
use clap::Parser;
use lopt_benches::{drop_in::Training, inner::NETWORKS, timing::medians, updates::star};
use lopt_core::DropInConfig;
use lopt_star::StarOptimizer;
use table::{Row, Target};

/// Measure speed and memory, and print a table with the targets.
#[derive(Parser)]
#[command(max_term_width = 100, override_usage = "cargo xtask bench [OPTIONS]")]
struct Args {
    /// The `lopt` program to measure.
    #[arg(long, value_name = "FILE", hide = true, default_value = "lopt")]
    lopt: PathBuf,
    /// Number of measurements; their medians are printed.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Measure only exact meta-gradients, in this process, and print JSON.
    #[arg(long, hide = true)]
    adjoint_only: bool,
    /// Python with PyTorch, whose Adam is measured too, and DeepSpeed's if it has that; left out if it
    /// has none.
    #[arg(long, value_name = "FILE", default_value = "python3")]
    python: PathBuf,
    /// Folder of the full data sets; without Fashion-MNIST in it, the embedded subset is used.
    /// [default: $LOPT_DATA_DIR, else datasets/downloaded]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if args.adjoint_only {
        return adjoint::measure();
    }
    let rounds = usize::from(args.rounds);
    let source = runs::source(args.data_dir.as_deref());
    let mut rows = vec![];
    eprintln!("updates…");
    rows.extend(update_rows::by_instance(rounds));
    rows.extend(update_rows::beside_adam(rounds));
    rows.extend(torch::rows(
        &args.python,
        rounds,
        &lopt_benches::updates::four_sizes(),
    )?);
    rows.extend(update_rows::online_scale(rounds));
    rows.extend(update_rows::threads(rounds));
    eprintln!("drop-in…");
    rows.extend(drop_in(rounds)?);
    eprintln!("exact meta-gradients…");
    rows.extend(adjoint::rows(rounds)?);
    for size in NETWORKS.iter().rev() {
        eprintln!("meta-training {size}…");
        rows.extend(runs::rows(&args.lopt, &source, *size, rounds)?);
    }
    println!("{}", table::table(&rows));
    println!("data of the runs: Fashion-MNIST, {source}");
    Ok(())
}

/// A training step of candle's MNIST example, with all of candle's threads for both optimizers.
fn drop_in(rounds: usize) -> Result<[Row; 2]> {
    let config = DropInConfig::new(star());
    let mut star = Training::<StarOptimizer>::new(config)?;
    let mut adam_w = Training::<AdamW>::new(ParamsAdamW::default())?;
    let path = star.optimizer().path();
    star.step()?;
    adam_w.step()?;
    let [ours, theirs] = medians(
        rounds,
        [
            &mut || star.step().expect("the first step succeeded"),
            &mut || adam_w.step().expect("the first step succeeded"),
        ],
    );
    let work = "training step of candle's MNIST example, 784-128-128-10, batch 64";
    Ok([
        Row::new(format!("{work}: candle's AdamW"), 1e3 * theirs, "ms"),
        Row::new(
            format!("{work}: drop-in STAR, {path}"),
            ours / theirs,
            "× AdamW",
        )
        .target(Target::AtMost(1.1)),
    ])
}
