//! `cargo xtask gpu`: what a machine with a GPU needs to test and measure the CUDA steps.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, ensure};

use crate::{
    cuda::ON_A_GPU,
    lopt::{built, root},
};

/// Where the programs and their script are packed.
const FOLDER: &str = "target/gpu";

/// Each program: its name in the package, and the name that cargo knows it by.
const PROGRAMS: [(&str, &str); 4] = [
    ("tests", "gpu"),
    ("measure", "gpu_steps"),
    ("suites", "gpu_suites"),
    ("lopt", "lopt"),
];

/// The targets, which are built at once: separate builds would compile candle for each of the packages,
/// with the features that each of them requires.
const TARGETS: [&str; 8] = [
    "--test",
    "gpu",
    "--example",
    "gpu_steps",
    "--example",
    "gpu_suites",
    "--bin",
    "lopt",
];

/// Builds the tests, the measuring programs and `lopt` with the feature `cuda`, and packs them with the
/// script that runs there.
pub fn run() -> Result<ExitCode> {
    let arguments = [&ON_A_GPU[..], &TARGETS].concat();
    let paths = match built(&arguments, &PROGRAMS.map(|(_, name)| name))? {
        Ok(paths) => paths,
        Err(code) => return Ok(code),
    };
    let folder = root().join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    for ((name, _), path) in PROGRAMS.iter().zip(paths) {
        strip(&path, &folder.join(name))?;
    }
    let script = root().join("crates/cuda-backend/gpu.sh");
    let to = folder.join("gpu.sh");
    fs::copy(&script, &to).with_context(|| to.display().to_string())?;
    println!(
        "copy {} to a machine with a GPU, and run gpu.sh there",
        folder.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Copies a program without its names for debuggers, most of its size.
fn strip(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("strip").arg("-o").arg(to).arg(from).status();
    let status = status.context("cannot run `strip`, which comes with the C compiler")?;
    ensure!(
        status.success(),
        "`strip {}` failed ({status})",
        from.display()
    );
    Ok(())
}
