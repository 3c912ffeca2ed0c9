//! The feature `cuda` without a GPU and without NVIDIA's toolkit: a script takes the place of the
//! compiler, and a library that of the driver, which runs the kernels on the CPU.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, ensure};

use crate::lopt::{cargo, exit_code, root};

/// The libraries that candle is linked with; one takes the place of all.
const LIBRARIES: [&str; 6] = ["cuda", "cudart", "cublas", "cublasLt", "curand", "nvrtc"];
/// What that one is called when a program starts.
const LIBRARY: &str = "libcuda.so.1";

/// The packages that run on a GPU, with the feature for it.
pub const ON_A_GPU: [&str; 8] = [
    "--package",
    "lopt-cuda-backend",
    "--package",
    "lopt",
    "--package",
    "lopt-eval",
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

/// A warning is an error.
const STRICT: [&str; 2] = ["--config", r#"build.rustflags=["-D", "warnings"]"#];

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
    let folder = root().join("target/cuda-stand-in");
    let driver = folder.join("driver");
    fs::create_dir_all(&driver).with_context(|| driver.display().to_string())?;
    build_driver(&driver)?;
    let test = [&["test"], &ON_A_GPU[..], &TESTS].concat();
    println!(
        "$ cargo {}  # on a stand-in for the CUDA driver",
        test.join(" ")
    );
    let mut command = on_stand_in(&folder, &driver)?;
    let status = command.args(STRICT).args(test).status();
    Ok(exit_code(status.context("cannot run cargo")?))
}

/// Cargo with a folder of its own, because a build with this compiler has no kernels. Nothing is
/// optimized: that would take longer than the tests.
fn on_stand_in(folder: &Path, driver: &Path) -> Result<Command> {
    let compiler = tests().join("driver/nvcc");
    let mut command = cargo();
    command.current_dir(root());
    command
        .env("CARGO_TARGET_DIR", folder)
        .env("NVCC", compiler);
    command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "0");
    for package in with_profile()? {
        let setting = format!("profile.dev.package.{package:?}.opt-level=0");
        command.args(["--config", &setting]);
    }
    command.env("CUDARC_CUDA_VERSION", "13000");
    command.env("CUDA_COMPUTE_CAP", "80");
    command.env("LOPT_CUDA_LOG", driver.join("log"));
    for variable in ["LIBRARY_PATH", "LD_LIBRARY_PATH"] {
        command.env(variable, with_first(driver, variable));
    }
    Ok(command)
}

/// The packages that the workspace compiles with settings of their own.
fn with_profile() -> Result<Vec<String>> {
    let path = root().join("Cargo.toml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let manifest: toml::Table = text.parse().context("Cargo.toml is not valid TOML")?;
    let mut table = Some(&manifest);
    for key in ["profile", "dev", "package"] {
        table = table.and_then(|table| table.get(key)?.as_table());
    }
    Ok(table
        .into_iter()
        .flat_map(toml::Table::keys)
        .cloned()
        .collect())
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
