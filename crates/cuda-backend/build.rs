//! With the feature `cuda`: the kernels compiled to PTX by nvcc, the compiler that the build of
//! candle needs too.

use std::{
    env,
    error::Error,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The compute capability of an A100, the least that the kernels are compiled for. The driver
/// translates the PTX for the GPU at hand, and keeps the result on disk.
const ARCHITECTURE: &str = "compute_80";

fn main() -> Result<(), Box<dyn Error>> {
    for variable in ["NVCC", "CUDA_HOME", "CUDA_PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return Ok(());
    }
    let folder = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    compile(&folder.join("lopt.cu"), &folder.join("lopt.ptx"))
}

fn compile(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    fs::write(from, lopt_cuda::source())?;
    let compiler = compiler();
    let mut command = Command::new(&compiler);
    command.args(lopt_cuda::OPTIONS).arg("-ptx");
    command.arg(format!("-arch={ARCHITECTURE}"));
    let output = command.arg("-o").arg(to).arg(from).output();
    let output = output.map_err(|error| {
        format!(
            "cannot run the CUDA compiler {compiler:?} ({error}): put nvcc on the PATH, or set \
             NVCC or CUDA_HOME"
        )
    })?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{compiler:?} failed: {errors}").into());
    }
    Ok(())
}

/// `NVCC`, else that of `CUDA_HOME` or `CUDA_PATH`, else the one on the path.
fn compiler() -> OsString {
    let of_folder = |name| Some(Path::new(&env::var_os(name)?).join("bin").join("nvcc"));
    let folders = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(of_folder);
    let given = env::var_os("NVCC");
    given.unwrap_or_else(|| {
        let mut installed = folders.filter(|path| path.exists());
        installed
            .next()
            .map_or_else(|| "nvcc".into(), OsString::from)
    })
}
