//! `cargo xtask fuzz`: the tests of damaged files, with one seed after another.

use std::{
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::lopt::{cargo, exit_code, root};

/// Arguments of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub struct Args {
    /// For how long; the seed that is then tried is finished.
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
    /// The first seed. The tests themselves use 0.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The tests of damaged files, as arguments of `cargo test`.
const TESTS: [&str; 8] = [
    "--release",
    "--package",
    "lopt-tests",
    "--package",
    "lopt-eval",
    "--lib",
    "--test",
    "damage",
];

fn tests() -> Command {
    let mut command = cargo();
    command.arg("test").args(TESTS).current_dir(root());
    command
}

/// Builds the tests and runs them until the time is over or one fails.
pub fn run(args: &Args) -> Result<ExitCode> {
    let build = tests().arg("--no-run").status();
    let build = build.context("cannot run cargo")?;
    if !build.success() {
        return Ok(exit_code(build));
    }
    let (start, limit) = (Instant::now(), Duration::from_secs(args.seconds));
    for seed in args.seed.. {
        let mut command = tests();
        command.args(["--quiet", "--", "damaged", "--nocapture"]);
        let output = command.env("LOPT_DAMAGE_SEED", seed.to_string()).output();
        let output = output.context("cannot run cargo")?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            eprintln!("{text}{errors}\nseed {seed} failed");
            return Ok(exit_code(output.status));
        }
        let kinds = text.lines().filter(|line| line.contains("damaged files"));
        let seconds = start.elapsed().as_secs();
        println!(
            "seed {seed}: {} attacks without failure, {seconds} s",
            kinds.count()
        );
        if start.elapsed() >= limit {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}
