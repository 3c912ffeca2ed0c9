//! The one test command: everything that must hold before a change lands.

use std::process::{Command, ExitCode};

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

/// Stops at the first failure, with its exit code.
pub fn run() -> Result<ExitCode> {
    for arguments in STEPS {
        let (mut command, line) = step(arguments);
        println!("$ {line}");
        let status = command.status().context("cannot run cargo")?;
        if !status.success() {
            eprintln!("failed ({status}): {line}");
            return Ok(exit_code(status));
        }
    }
    Ok(ExitCode::SUCCESS)
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
