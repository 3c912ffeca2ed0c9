//! The feature `cuda` without a GPU and without NVIDIA's toolkit: a script takes the place of the
//! compiler, and a library that of the driver, which runs the kernels on the CPU.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, ensure};

use crate::lopt::{cargo, exit_code, metadata, root};

/// The libraries that candle is linked with; one takes the place of all.
const LIBRARIES: [&str; 6] = ["cuda", "cudart", "cublas", "cublasLt", "curand", "nvrtc"];
/// What that one is called when a program starts.
const LIBRARY: &str = "libcuda.so.1";

/// The whole workspace with the features for a GPU. A few packages would compile dependencies again with the
/// features that they alone require.
pub const ON_A_GPU: [&str; 3] = [
    "--workspace",
    "--features",
    "lopt-cuda-backend/cuda,lopt/cuda,lopt-eval/cuda",
];

/// The tests of the crate that calls the driver, and of meta-training and evaluations with it; the programs
/// that measure are only built.
const TESTS: [&str; 8] = [
    "--test",
    "gpu",
    "--test",
    "cuda",
    "--example",
    "gpu_steps",
    "--example",
    "gpu_suites",
];

/// Runs the tests, and returns their exit code.
pub fn check() -> Result<ExitCode> {
    let skipped = |why: &str| {
        println!("skipped: steps on CUDA tensors without a GPU, {why}");
        Ok(ExitCode::SUCCESS)
    };
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return skipped("which need Linux on x86-64");
    }
    // The feature has dependencies that no other test needs.
    let fetched = cargo()
        .args(["fetch", "--locked"])
        .current_dir(root())
        .status();
    if !fetched.context("cannot run cargo")?.success() {
        return skipped("because their dependencies cannot be fetched");
    }
    let driver = root().join("target/cuda-stand-in");
    fs::create_dir_all(&driver).with_context(|| driver.display().to_string())?;
    build_driver(&driver)?;
    let test = [&["test"], &ON_A_GPU[..], &TESTS].concat();
    println!(
        "$ cargo {}  # on a stand-in for the CUDA driver",
        test.join(" ")
    );
    let status = on_stand_in(&driver)?.args(test).status();
    Ok(exit_code(status.context("cannot run cargo")?))
}

/// Cargo with the stand-ins. What depends on the feature is not optimized, which would take longer than the
/// tests; the other dependencies are those of all tests. In the workspace a warning is an error.
fn on_stand_in(driver: &Path) -> Result<Command> {
    let stand_ins = tests().join("driver");
    let mut command = cargo();
    command.current_dir(root());
    for package in not_optimized()? {
        let setting = format!("profile.dev.package.{package:?}.opt-level=0");
        command.args(["--config", &setting]);
    }
    command.env("NVCC", stand_ins.join("nvcc"));
    command.env("RUSTC_WORKSPACE_WRAPPER", stand_ins.join("strict-rustc"));
    command.env("CUDARC_CUDA_VERSION", "13000");
    command.env("CUDA_COMPUTE_CAP", "80");
    command.env("LOPT_CUDA_LOG", driver.join("log"));
    for variable in ["LIBRARY_PATH", "LD_LIBRARY_PATH"] {
        command.env(variable, with_first(driver, variable));
    }
    Ok(command)
}

/// The packages of the workspace, and those of candle.
fn not_optimized() -> Result<Vec<String>> {
    let metadata = metadata(&["--no-deps"])?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let ours = packages
        .iter()
        .filter_map(|package| package["name"].as_str());
    let all = ours.chain(["candle-core", "candle-nn"]);
    Ok(all.map(str::to_owned).collect())
}

/// The list of folders in a variable, with one before them.
fn with_first(folder: &Path, variable: &str) -> OsString {
    let mut list = folder.as_os_str().to_owned();
    if let Some(others) = std::env::var_os(variable).filter(|others| !others.is_empty()) {
        list.push(":");
        list.push(others);
    }
    list
}

fn tests() -> PathBuf {
    root().join("crates/cuda-backend/tests")
}

/// Compiles the driver, under the names of all libraries.
fn build_driver(to: &Path) -> Result<()> {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let mut command = Command::new(&compiler);
    command.args(["-std=c++17", "-O2", "-shared", "-fPIC"]);
    command.args(["-ffp-contract=off", "-fno-strict-aliasing"]);
    // Else each fused multiply-add is a call.
    command.arg("-march=native");
    command.args(["-Wall", "-Wextra", "-Werror"]);
    command.arg(format!("-Wl,-soname,{LIBRARY}"));
    for headers in ["crates/cuda/kernels", "crates/cuda/tests/step"] {
        command.arg("-I").arg(root().join(headers));
    }
    command.arg("-o").arg(to.join(LIBRARY));
    let status = command.arg(tests().join("driver/driver.cpp")).status();
    let status = status.with_context(|| format!("cannot run the C++ compiler {compiler:?}"))?;
    ensure!(
        status.success(),
        "the stand-in for the CUDA driver does not compile"
    );
    for name in LIBRARIES {
        let link = to.join(format!("lib{name}.so"));
        fs::copy(to.join(LIBRARY), &link).with_context(|| link.display().to_string())?;
    }
    Ok(())
}
