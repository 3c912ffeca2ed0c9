//! The command line of lopt: arguments, progress and files; no algorithm.

mod common;
mod curves;
mod eval_ood;
mod grad_study;
mod meta_train;
mod progress;
mod ranks;
mod reproduce;
mod stability;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Candle's temporaries come and go in each step; this one does not give them back to the
/// system in between.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Learned optimizers: meta-train them, and judge them out of distribution.
#[derive(Parser)]
#[command(name = "lopt", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Meta-train a learned optimizer. Without any flag: STAR, on Fashion-MNIST images of
    /// 8×8 pixels that come with the program.
    MetaTrain(meta_train::Args),
    /// Compare learned optimizers with tuned Adam, in and out of distribution.
    EvalOod(eval_ood::Args),
    /// Print the median seconds of a sum over all ranks.
    #[command(hide = true)]
    SumLatency(ranks::LatencyArgs),
    /// Compare gradient estimators with the exact meta-gradient, at a fixed θ.
    GradStudy(grad_study::Args),
    /// Reproduce the claims C1 to C6 of the paper, each with a figure and a table.
    Reproduce(reproduce::Args),
    /// Stability: figures of the noisy quadratic model, or the linearised training of
    /// meta-trained optimizers.
    Stability(stability::Args),
}

/// What shells expect of a program that Ctrl-C stopped.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = lopt_core::one_candle_thread() {
        eprintln!("error: cannot start again with RAYON_NUM_THREADS=1: {error}; set it yourself");
        return ExitCode::FAILURE;
    }
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .with_max_level(tracing::Level::WARN)
        .init();
    let finished = match cli.command {
        Command::MetaTrain(args) => meta_train::run(args),
        Command::EvalOod(args) => eval_ood::run(args),
        Command::SumLatency(args) => ranks::latency(&args),
        Command::GradStudy(args) => grad_study::run(args),
        Command::Reproduce(args) => reproduce::run(args),
        Command::Stability(args) => stability::run(args),
    };
    if let Err(error) = &finished {
        eprintln!("error: {}", message(error));
    }
    ranks::finish(finished.is_ok());
    match finished {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(INTERRUPTED),
        Err(_) => ExitCode::FAILURE,
    }
}

/// The error and its causes; some errors say their cause themselves.
fn message(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !message.ends_with(&cause) {
            let colon = if message.is_empty() { "" } else { ": " };
            message += &format!("{colon}{cause}");
        }
    }
    message
}
