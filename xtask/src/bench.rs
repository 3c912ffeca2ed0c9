//! The table of benchmarks.

use std::{
    ffi::OsString,
    process::{Command, ExitCode},
};

use anyhow::Result;

use crate::lopt::{built, cargo, replace, root};

/// Builds `lopt` and the program that prints the table, and runs that.
pub fn run(arguments: &[OsString]) -> Result<ExitCode> {
    let mut build = cargo();
    build
        .args([
            "build",
            "--release",
            "--package",
            "lopt",
            "--package",
            "lopt-benches",
        ])
        .args(["--bins", "--manifest-path"])
        .arg(root().join("Cargo.toml"));
    let programs = match built(build, &["lopt-benches", "lopt"])? {
        Ok(programs) => programs,
        Err(code) => return Ok(code),
    };
    let mut bench = Command::new(&programs[0]);
    bench.arg("--lopt").arg(&programs[1]).args(arguments);
    replace(bench)
}
