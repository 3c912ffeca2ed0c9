//! The command line of lopt: arguments, progress and output. It contains no algorithm and no
//! experiment.

#[macro_use]
mod output;

mod common;
mod configure;
mod eval_ood;
mod exchange;
mod grad_study;
mod meta_train;
mod pages;
mod progress;
mod ranks;
mod reproduce;
mod stability;
mod stop;
mod table;
mod tensorboard;
mod watch;

use std::{io::IsTerminal, process::ExitCode};

use clap::{Parser, Subcommand};

/// Candle allocates its temporaries in each step; this allocator does not return their memory to
/// the system between steps.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Learned optimizers: meta-train them and evaluate them out of distribution.
#[derive(Parser)]
#[command(name = "lopt", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Meta-train a learned optimizer. By default: STAR, on the embedded Fashion-MNIST images of
    /// 8×8 pixels.
    MetaTrain(meta_train::Args),
    /// Compare learned optimizers with tuned baselines, in and out of distribution.
    EvalOod(eval_ood::Args),
    /// Write a θ file with other settings of its optimizer, such as an ablation or an online scale.
    Configure(configure::Args),
    /// Read a checkpoint of the JAX original, google/learned_optimization.
    Import(exchange::ImportArgs),
    /// Write a checkpoint for the JAX original, google/learned_optimization.
    Export(exchange::ExportArgs),
    /// Print the median time of a sum over all ranks, in seconds.
    #[command(hide = true)]
    SumLatency(ranks::LatencyArgs),
    /// Compare gradient estimators with the exact meta-gradient at a fixed θ.
    GradStudy(grad_study::Args),
    /// Reproduce the claims C1 to C6 of the paper, each with a figure and a table.
    Reproduce(reproduce::Args),
    /// Study stability: figures of the noisy quadratic model, or the linearized training of
    /// meta-trained optimizers.
    Stability(stability::Args),
    /// Show a meta-training in a browser while it runs.
    Watch(watch::Args),
}

/// Whether the command needs second derivatives in candle, for the Hessian of a model.
fn needs_second_derivatives(command: &Command) -> bool {
    match command {
        Command::MetaTrain(args) => args.needs_second_derivatives(),
        Command::GradStudy(_) | Command::Stability(_) => true,
        _ => false,
    }
}

/// The conventional exit code of a program stopped by Ctrl-C.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = lopt_core::one_candle_thread() {
        eprintln!(
            "error: cannot restart with RAYON_NUM_THREADS=1: {error}; set the variable yourself"
        );
        return ExitCode::FAILURE;
    }
    if needs_second_derivatives(&cli.command)
        && let Err(error) = lopt_core::second_derivatives()
    {
        eprintln!(
            "error: cannot restart with CANDLE_GRAD_DO_NOT_DETACH=1: {error}; set the variable \
             yourself"
        );
        return ExitCode::FAILURE;
    }
    tracing_subscriber::fmt()
        .with_writer(|| progress::Stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .with_target(false)
        .with_max_level(tracing::Level::WARN)
        .init();
    let finished = match cli.command {
        Command::MetaTrain(args) => meta_train::run(args),
        Command::EvalOod(args) => eval_ood::run(args),
        Command::Configure(args) => configure::run(&args),
        Command::Import(args) => exchange::import(&args),
        Command::Export(args) => exchange::export(&args),
        Command::SumLatency(args) => ranks::latency(&args),
        Command::GradStudy(args) => grad_study::run(args),
        Command::Reproduce(args) => reproduce::run(args),
        Command::Stability(args) => stability::run(args),
        Command::Watch(args) => watch::run(&args),
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

/// The error and its causes, without causes that the error already contains.
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
