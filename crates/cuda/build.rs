//! With the feature `ptx`: the kernels compiled to PTX by nvcc, the compiler that the build of
//! candle needs too.

use std::{
    env,
    error::Error,
    ffi::OsString,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
};

#[path = "src/sources.rs"]
mod sources;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_PTX").is_none() {
        return Ok(());
    }
    for variable in ["NVCC", "CUDA_HOME", "CUDA_PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    for path in ["kernels", "src/sources.rs"] {
        println!("cargo::rerun-if-changed={path}");
    }
    let folder = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    compile(&folder.join("lopt.cu"), &folder.join("lopt.ptx"))
}

fn compile(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    fs::write(from, sources::source())?;
    for compiler in compilers() {
        let mut command = Command::new(&compiler);
        command.args(sources::OPTIONS).arg("-ptx");
        command.arg(format!("-arch={}", sources::ARCHITECTURE));
        let output = match command.arg("-o").arg(to).arg(from).output() {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            output => output?,
        };
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{compiler:?} failed: {errors}").into());
        }
        return Ok(());
    }
    Err("there is no CUDA compiler: put nvcc on the PATH, or set NVCC or CUDA_HOME".into())
}

/// Where nvcc may be, in the order in which the build of candle looks for it.
fn compilers() -> Vec<OsString> {
    let of_folder = |name| Some(Path::new(&env::var_os(name)?).join("bin/nvcc").into());
    let folders = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(of_folder);
    let given = env::var_os("NVCC").into_iter();
    given.chain(["nvcc".into()]).chain(folders).collect()
}
