//! The kernels compiled for the CPU, as a program.

use std::{fs, path::PathBuf, process::Command};

use lopt_cuda::source;
use tempfile::TempDir;

/// The compiled kernels, in a folder that is kept until the tests end.
pub struct Program {
    _folder: TempDir,
    pub path: PathBuf,
}

impl Program {
    /// Compiles the kernels so that the threads of a block run at the same time, watched by the
    /// compiler's thread sanitizer; an error says why that is not possible here.
    pub fn watched() -> Result<Self, String> {
        let options = ["-O1", "-g", "-fsanitize=thread", "-DCONCURRENT_THREADS"];
        let program = Self::compile(&options)
            .map_err(|_| "the C++ compiler has no thread sanitizer".to_owned())?;
        let output = Command::new(&program.path).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        match errors.starts_with("no input") {
            true => Ok(program),
            false => Err(format!("the thread sanitizer does not run here: {errors}")),
        }
    }

    /// Compiles the kernels with these further options.
    pub fn compile(options: &[&str]) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("harness");
        fs::write(folder.path().join("source.cu"), source()).unwrap();
        fs::write(folder.path().join("table.h"), include_str!("table.h")).unwrap();
        let main = folder.path().join("harness.cpp");
        fs::write(&main, include_str!("harness.cpp")).unwrap();
        let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
        let mut command = Command::new(&compiler);
        command.args(["-std=c++17", "-ffp-contract=off", "-fno-strict-aliasing"]);
        if cfg!(target_arch = "x86_64") {
            // Else each fused multiply-add is a call.
            command.arg("-march=native");
        }
        command.args(["-Wall", "-Wextra", "-Werror", "-pthread"]);
        command.args(options);
        let output = command.arg(main).arg("-o").arg(&path).output();
        let output = output.unwrap_or_else(|error| {
            panic!(
                "cannot run the C++ compiler {compiler:?} ({error}): these tests compile the CUDA \
                 kernels for the CPU. Install one beside the C compiler that the README asks for, \
                 or set CXX."
            )
        });
        match output.status.success() {
            true => Ok(Self {
                _folder: folder,
                path,
            }),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}
