//! `cargo xtask gpu`: what a machine with a GPU needs to test and measure the CUDA steps.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, ensure};

use crate::lopt::{built, root};

/// Where the programs and their script are packed.
const FOLDER: &str = "target/gpu";

/// Each program: its name in the package, and the crate, kind and name that cargo knows it by.
const PROGRAMS: [(&str, &str, &str, &str); 4] = [
    ("tests", "lopt-cuda-backend", "--test", "gpu"),
    ("measure", "lopt-cuda-backend", "--example", "gpu"),
    ("suites", "lopt-eval", "--example", "gpu_suites"),
    ("lopt", "lopt", "--bin", "lopt"),
];

/// Builds the tests, the measuring programs and `lopt` with the feature `cuda`, and packs them with the
/// script that runs there.
pub fn run() -> Result<ExitCode> {
    let folder = root().join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    for (name, package, kind, program) in PROGRAMS {
        let arguments = ["--package", package, "--features", "cuda", kind, program];
        let paths = match built(&arguments, &[program])? {
            Ok(paths) => paths,
            Err(code) => return Ok(code),
        };
        strip(&paths[0], &folder.join(name))?;
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
