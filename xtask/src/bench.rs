//! `cargo xtask bench`: the benchmark table.

use std::{
    ffi::OsString,
    process::{Command, ExitCode},
};

use anyhow::Result;

use crate::lopt::{built, replace};

/// Builds `lopt` and the program that prints the table, and runs the latter.
pub fn run(arguments: &[OsString]) -> Result<ExitCode> {
    let packages = ["--package", "lopt", "--package", "lopt-benches", "--bins"];
    let programs = match built(&packages, &["lopt-benches", "lopt"])? {
        Ok(programs) => programs,
        Err(code) => return Ok(code),
    };
    let mut bench = Command::new(&programs[0]);
    bench.arg("--lopt").arg(&programs[1]).args(arguments);
    replace(bench)
}
