//! `cargo xtask gpu`: what a machine with a GPU needs to test and measure the CUDA steps.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context, Result};

use crate::lopt::{built, root};

/// Where the programs and their script are packed.
const FOLDER: &str = "target/gpu";

/// Builds the tests and the measuring program with the feature `cuda`, and packs them with the
/// script that runs there.
pub fn run() -> Result<ExitCode> {
    let package = ["--package", "lopt-cuda-backend", "--features", "cuda"];
    let programs = [("tests", "--test"), ("measure", "--example")];
    let folder = root().join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    for (name, kind) in programs {
        let arguments = [&package[..], &[kind, "gpu"]].concat();
        let paths = match built(&arguments, &["gpu"])? {
            Ok(paths) => paths,
            Err(code) => return Ok(code),
        };
        copy(&paths[0], &folder.join(name))?;
    }
    let script = root().join("crates/cuda-backend/gpu.sh");
    copy(&script, &folder.join("gpu.sh"))?;
    println!(
        "copy {} to a machine with a GPU, and run gpu.sh there",
        folder.display()
    );
    Ok(ExitCode::SUCCESS)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}
