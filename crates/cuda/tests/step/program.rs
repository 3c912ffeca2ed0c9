//! The kernels compiled for the CPU, as a program.

use std::{
    ffi::OsString,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

use lopt_cuda::source;

/// What is compiled: the kernels, and a program that runs them.
const FILES: [(&str, &str); 2] = [
    ("table.h", include_str!("table.h")),
    ("harness.cpp", include_str!("harness.cpp")),
];

/// The compiled kernels. The file stays in Cargo's target folder, so the next run need not compile
/// the same source again.
pub struct Program {
    pub path: PathBuf,
}

impl Program {
    /// Compiles the kernels so that the threads of a block run at the same time, watched by the
    /// compiler's thread sanitizer; an error says why that is not possible here.
    pub fn watched() -> Result<Self, String> {
        let options = ["-O1", "-g1", "-fsanitize=thread", "-DCONCURRENT_THREADS"];
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
        let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
        let mut arguments = vec!["-std=c++17", "-ffp-contract=off", "-fno-strict-aliasing"];
        if cfg!(target_arch = "x86_64") {
            // Else each fused multiply-add is a call.
            arguments.push("-march=native");
        }
        arguments.extend(["-Wall", "-Wextra", "-Werror", "-pthread"]);
        arguments.extend(options);
        let mut hasher = DefaultHasher::new();
        (
            source(),
            FILES,
            &arguments,
            described(&compiler, &arguments),
        )
            .hash(&mut hasher);
        let tests = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let path = tests.join(format!("kernels-{:016x}", hasher.finish()));
        if !path.exists() {
            build(&compiler, &arguments, &path)?;
        }
        Ok(Self { path })
    }
}

/// What the compiler says about itself and, with these arguments, about this machine.
fn described(compiler: &OsString, arguments: &[&str]) -> Option<Vec<u8>> {
    let mut command = Command::new(compiler);
    command
        .args(arguments)
        .args(["-E", "-v", "-x", "c++", "/dev/null"]);
    Some(command.output().ok()?.stderr)
}

/// Compiles to this path; the error is what the compiler printed.
fn build(compiler: &OsString, arguments: &[&str], to: &Path) -> Result<(), String> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::write(folder.path().join("source.cu"), source()).unwrap();
    for (name, text) in FILES {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let program = folder.path().join("program");
    let mut command = Command::new(compiler);
    command
        .args(arguments)
        .arg(folder.path().join("harness.cpp"));
    let output = command.arg("-o").arg(&program).output();
    let output = output.unwrap_or_else(|error| {
        panic!(
            "cannot run the C++ compiler {compiler:?} ({error}): these tests compile the CUDA \
             kernels for the CPU. Install one beside the C compiler that the README asks for, \
             or set CXX."
        )
    });
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    // Two tests may compile the same; the file is whole at any time.
    fs::rename(program, to).unwrap();
    Ok(())
}
