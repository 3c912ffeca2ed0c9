//! Builds and runs the program.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus},
};

use anyhow::{Context, Result};

/// The cargo that runs this.
pub fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The workspace's root: as cargo says when it runs this, else where this was built.
pub fn root() -> PathBuf {
    let running = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let here = running
        .filter(|dir| dir.ends_with("xtask"))
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    here.parent().unwrap_or(Path::new(".")).to_owned()
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
pub fn replace(mut command: Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    Err(command.exec()).with_context(|| format!("cannot run {:?}", command.get_program()))
}

#[cfg(not(unix))]
pub fn replace(mut command: Command) -> Result<ExitCode> {
    let status = command.status();
    Ok(exit_code(status.with_context(|| {
        format!("cannot run {:?}", command.get_program())
    })?))
}

/// The same code, or 1 if a signal ended the command.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(1))
}
