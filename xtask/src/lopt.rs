//! Builds and runs `lopt`.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The cargo that runs this program.
pub fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The root of the workspace: the one that cargo passes, else the one this was built in.
pub fn root() -> PathBuf {
    let running = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let here = running
        .filter(|dir| dir.ends_with("xtask"))
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    here.parent().unwrap_or(Path::new(".")).to_owned()
}

/// Whether a program can be run.
pub fn has(program: &str) -> bool {
    silent(Command::new(program).arg("--version")).is_some()
}

/// Whether a command can be run and succeeds. Its output is dropped.
pub fn succeeds(command: &mut Command) -> bool {
    silent(command).is_some_and(|status| status.success())
}

fn silent(command: &mut Command) -> Option<ExitStatus> {
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().ok()
}

/// What `cargo metadata` says of the workspace.
pub fn metadata(arguments: &[&str]) -> Result<Value> {
    let mut command = cargo();
    command
        .args(["metadata", "--format-version", "1"])
        .args(arguments)
        .current_dir(root())
        .stderr(Stdio::inherit());
    let output = command.output().context("cannot run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Builds `lopt` and runs `lopt COMMAND ARGUMENTS…` in the current directory.
pub fn run(command: &str, arguments: &[OsString]) -> Result<ExitCode> {
    let mut cargo = cargo();
    cargo
        .args(["run", "--release", "--package", "lopt", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .args(["--", command])
        .args(arguments)
        // What its advice tells the user to type.
        .env("LOPT_PROGRAM", "cargo xtask");
    replace(cargo)
}

/// Replaces this process with the command, so that it receives signals such as Ctrl-C.
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

/// The exit code of the command, or 1 if a signal ended it.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(1))
}

/// Runs a release build with these arguments. Returns the paths of the programs with these names,
/// or the exit code if the build fails.
pub fn built(
    arguments: &[&str],
    names: &[&str],
) -> Result<std::result::Result<Vec<PathBuf>, ExitCode>> {
    let mut build = cargo();
    build
        .args(["build", "--release", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .args(["--message-format", "json-render-diagnostics"])
        .args(arguments);
    let output = build.stderr(Stdio::inherit()).output();
    let output = output.context("cannot run cargo")?;
    if !output.status.success() {
        return Ok(Err(exit_code(output.status)));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let program = |name: &&str| {
        let found = messages.lines().find_map(|line| executable(line, name));
        found.with_context(|| format!("cargo did not report the path of `{name}`"))
    };
    Ok(Ok(names.iter().map(program).collect::<Result<_>>()?))
}

/// The path of the program `name`, if this line of cargo's output reports it.
fn executable(line: &str, name: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    let named = message["target"]["name"] == name;
    let path = message["executable"].as_str().filter(|_| named);
    path.map(PathBuf::from)
}
