//! The table of benchmarks.

use std::{
    ffi::OsString,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::lopt::{cargo, exit_code, replace, root};

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
        .args([
            "--bins",
            "--message-format",
            "json-render-diagnostics",
            "--manifest-path",
        ])
        .arg(root().join("Cargo.toml"))
        .stderr(Stdio::inherit());
    let output = build.output().context("cannot run cargo")?;
    if !output.status.success() {
        return Ok(exit_code(output.status));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let program = |name| {
        let found = messages.lines().find_map(|line| executable(line, name));
        found.with_context(|| format!("cargo does not tell where it built `{name}`"))
    };
    let mut bench = Command::new(program("lopt-benches")?);
    bench.arg("--lopt").arg(program("lopt")?).args(arguments);
    replace(bench)
}

/// The path of the program `name`, if this line of cargo's messages tells it.
fn executable(line: &str, name: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    let named = message["target"]["name"] == name;
    message["executable"]
        .as_str()
        .filter(|_| named)
        .map(PathBuf::from)
}
