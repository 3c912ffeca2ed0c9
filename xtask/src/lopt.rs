//! Builds and runs the program.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};

/// The cargo that runs this.
pub fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The workspace's root.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// `lopt COMMAND ARGUMENTS…`, built first, in the current directory.
pub fn run(command: &str, arguments: &[OsString]) -> Result<ExitCode> {
    let mut cargo = cargo();
    cargo
        .args(["run", "--release", "--package", "lopt", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .args(["--", command])
        .args(arguments);
    replace(cargo)
}

/// Becomes the command, so that Ctrl-C and kill reach it.
#[cfg(unix)]
fn replace(mut command: Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    Err(command.exec()).context("cannot run cargo")
}

#[cfg(not(unix))]
fn replace(mut command: Command) -> Result<ExitCode> {
    let status = command.status().context("cannot run cargo")?;
    Ok(ExitCode::from(status.code().unwrap_or(1) as u8))
}
