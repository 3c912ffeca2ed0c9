//! The one test command: everything that must hold before a change lands.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::lopt::{cargo, exit_code, root};

/// Arguments of cargo, the cheapest first.
const STEPS: [&[&str]; 4] = [
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
    &["test", "--workspace"],
];

/// What needs an MPI. Of the whole workspace, because one package alone has its dependencies built
/// again, with the features that it asks for. The ranks of one test are enough for a small machine.
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

/// Stops at the first failure, with its exit code.
pub fn run() -> Result<ExitCode> {
    let mpi = has("mpirun") && has("mpicc");
    let steps = STEPS.iter().chain(MPI_STEPS.iter().filter(|_| mpi));
    for arguments in steps {
        let (mut command, line) = step(arguments);
        println!("$ {line}");
        let status = command.status().context("cannot run cargo")?;
        if !status.success() {
            eprintln!("failed ({status}): {line}");
            return Ok(exit_code(status));
        }
    }
    if !mpi {
        println!("left out, because there is no mpirun or no mpicc here: tests of the feature mpi");
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a program can be run.
fn has(program: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok()
}

/// The command, and how a person would type it.
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
