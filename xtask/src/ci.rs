//! The one test command: everything that must hold before a change lands.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::lopt::{cargo, root};

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

/// Stops at the first failure.
pub fn run() -> Result<ExitCode> {
    for arguments in STEPS {
        println!("$ cargo {}", arguments.join(" "));
        let mut command = cargo();
        command
            .args(arguments)
            .current_dir(root())
            .env("RUSTDOCFLAGS", "-D warnings");
        let status = command.status().context("cannot run cargo")?;
        if !status.success() {
            eprintln!("failed: cargo {}", arguments.join(" "));
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}
