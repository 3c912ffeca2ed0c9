//! The project's commands: `cargo xtask COMMAND`.

mod archive;
mod bench;
mod ci;
mod crash;
mod cuda;
mod curl;
mod data;
mod deps;
mod embed;
mod fetch;
mod fuzz;
mod gpu;
mod import;
mod lopt;
mod release;
mod scaling;
mod store;
mod verify;

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};

/// Commands of the lopt workspace.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Meta-train a learned optimizer; see `meta-train --help`.
    #[command(disable_help_flag = true)]
    MetaTrain(Passed),
    /// Compare learned optimizers with tuned baselines; see `eval-ood --help`.
    #[command(disable_help_flag = true)]
    EvalOod(Passed),
    /// Compare gradient estimators with the exact meta-gradient; see `grad-study --help`.
    #[command(disable_help_flag = true)]
    GradStudy(Passed),
    /// Make the stability figures, of the noisy quadratic model or of meta-trained optimizers in
    /// training; see `stability --help`.
    #[command(disable_help_flag = true)]
    Stability(Passed),
    /// Reproduce the claims C1 to C6 of the STAR paper, each with a figure and a table; see
    /// `reproduce --help`.
    #[command(disable_help_flag = true)]
    Reproduce(Passed),
    /// Show a meta-training in a browser while it runs; see `watch --help`.
    #[command(disable_help_flag = true)]
    Watch(Passed),
    /// Write a θ file with other settings of its optimizer; see `configure --help`.
    #[command(disable_help_flag = true)]
    Configure(Passed),
    /// Read a checkpoint of the JAX original; see `import --help`.
    #[command(disable_help_flag = true)]
    Import(Passed),
    /// Write a checkpoint for the JAX original; see `export --help`.
    #[command(disable_help_flag = true)]
    Export(Passed),
    /// Measure speed and memory and print a table with the targets; see `bench --help`.
    #[command(disable_help_flag = true)]
    Bench(Passed),
    /// Measure how meta-training scales over MPI ranks, and extrapolate to more.
    Scaling(scaling::Args),
    /// Fetch, verify and import data sets.
    #[command(subcommand)]
    Data(data::Command),
    /// Check the steps on CUDA tensors without a GPU: candle's feature `cuda`, with a stand-in for
    /// the driver.
    Cuda,
    /// Build the tests and measurements of steps on a GPU, and pack them for a machine that has one;
    /// needs the CUDA toolkit.
    Gpu,
    /// Run the tests of damaged files with one seed after another, for a given time.
    Fuzz(fuzz::Args),
    /// Kill meta-trainings and evaluations, resume them, and compare them with undisturbed ones.
    Crash(crash::Args),
    /// Check the licenses of all dependencies; with cargo-deny and cargo-machete, also known
    /// vulnerabilities and unused dependencies.
    Deps,
    /// Run all checks and tests, cheapest first.
    Ci,
    /// Check what publishing to crates.io needs; see RELEASING.md.
    Release(release::Args),
}

/// Arguments that are passed to `lopt` unchanged.
#[derive(clap::Args)]
struct Passed {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::MetaTrain(passed) => lopt::run("meta-train", &passed.arguments),
        Command::EvalOod(passed) => lopt::run("eval-ood", &passed.arguments),
        Command::GradStudy(passed) => lopt::run("grad-study", &passed.arguments),
        Command::Stability(passed) => lopt::run("stability", &passed.arguments),
        Command::Reproduce(passed) => lopt::run("reproduce", &passed.arguments),
        Command::Watch(passed) => lopt::run("watch", &passed.arguments),
        Command::Configure(passed) => lopt::run("configure", &passed.arguments),
        Command::Import(passed) => lopt::run("import", &passed.arguments),
        Command::Export(passed) => lopt::run("export", &passed.arguments),
        Command::Bench(passed) => bench::run(&passed.arguments),
        Command::Scaling(args) => scaling::run(&args),
        Command::Data(command) => data::run(command),
        Command::Cuda => cuda::check(),
        Command::Gpu => gpu::run(),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Crash(args) => crash::run(&args),
        Command::Deps => deps::run(),
        Command::Ci => ci::run(),
        Command::Release(args) => release::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
