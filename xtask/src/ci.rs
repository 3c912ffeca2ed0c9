//! `cargo xtask ci`: everything that must pass before a change is merged.

use std::{
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context, Result};

use crate::{
    cuda,
    lopt::{cargo, exit_code, has, root},
};

/// Arguments of cargo, cheapest step first.
const STEPS: [&[&str]; 5] = [
    &["fmt", "--all", "--check"],
    &[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ],
    &["doc", "--workspace", "--no-deps"],
    &["xtask", "deps"],
    &["test", "--workspace"],
];

/// The steps that need an MPI library. They build the whole workspace, because a single package
/// would rebuild its dependencies with the features that it alone requires. The tests run one at a
/// time, because the ranks of one test already load a small machine.
const MPI_STEPS: [&[&str]; 2] = [
    &[
        "clippy",
        "--workspace",
        "--features",
        "lopt/mpi",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ],
    &[
        "test",
        "--workspace",
        "--features",
        "lopt/mpi",
        "--test",
        "mpi",
        "--",
        "--test-threads=1",
    ],
];

/// Runs all steps and says how long each took; stops at the first failure and returns its exit code.
pub fn run() -> Result<ExitCode> {
    let mpi = has("mpirun") && has("mpicc");
    let steps = STEPS.iter().chain(MPI_STEPS.iter().filter(|_| mpi));
    for arguments in steps {
        let (mut command, line) = step(arguments);
        println!("$ {line}");
        let start = Instant::now();
        let status = command.status().context("cannot run cargo")?;
        if !status.success() {
            eprintln!("failed ({status}): {line}");
            return Ok(exit_code(status));
        }
        println!("{} s: {line}", start.elapsed().as_secs());
    }
    let start = Instant::now();
    let code = cuda::check()?;
    println!("{} s: cargo xtask cuda", start.elapsed().as_secs());
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    if !mpi {
        println!("skipped: tests of the feature mpi, because mpirun or mpicc was not found");
    }
    Ok(ExitCode::SUCCESS)
}

/// The command, and the line that a user would type.
fn step(arguments: &[&str]) -> (Command, String) {
    let mut command = cargo();
    command.args(arguments).current_dir(root());
    let line = format!("cargo {}", arguments.join(" "));
    if arguments[0] == "doc" {
        command.env("RUSTDOCFLAGS", "-D warnings");
        return (command, format!("RUSTDOCFLAGS=\"-D warnings\" {line}"));
    }
    (command, line)
}
