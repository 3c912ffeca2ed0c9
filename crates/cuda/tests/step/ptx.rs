//! The kernels by NVIDIA's compiler, where there is one: `NVCC`, else `nvcc` on the path.

use std::{ffi::OsString, fs, io::ErrorKind, process::Command};

use lopt_cuda::{ARCHITECTURE, OPTIONS, source};

/// Each kernel, by the names of the launches.
fn kernels() -> Vec<String> {
    let mut names: Vec<String> = ["gradients", "lines", "accumulate", "finish", "adam"]
        .map(str::to_owned)
        .into();
    for width in [4, 8, 16, 32] {
        names.extend(["finish", "heads", "apply"].map(|name| format!("{name}_{width}")));
    }
    let of_fleet = names.iter().map(|name| format!("lopt_fleet_{name}"));
    let one = names.iter().map(|name| format!("lopt_{name}"));
    let losses = ["forward", "loss", "backward"].map(|name| format!("lopt_fleet_{name}"));
    of_fleet.chain(one).chain(losses).collect()
}

/// Checks that all kernels are there, and that no sum depends on the order of threads.
pub fn check() {
    let given = std::env::var_os("NVCC");
    let compiler = given.clone().unwrap_or_else(|| OsString::from("nvcc"));
    match Command::new(&compiler).arg("--version").output() {
        Err(error) if given.is_none() && error.kind() == ErrorKind::NotFound => {
            println!("skipped: there is no nvcc on the path, and NVCC is not set");
            return;
        }
        output => output.unwrap_or_else(|error| panic!("NVCC={compiler:?}: {error}")),
    };
    let folder = tempfile::tempdir().unwrap();
    let [from, to] = ["lopt.cu", "lopt.ptx"].map(|name| folder.path().join(name));
    fs::write(&from, source()).unwrap();
    let mut command = Command::new(&compiler);
    command.args(OPTIONS).arg(format!("-arch={ARCHITECTURE}"));
    command.args(["-ptx", "-Werror", "all-warnings", "-o"]);
    let output = command.arg(&to).arg(&from).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let ptx = fs::read_to_string(&to).unwrap();
    for kernel in kernels() {
        let entry = format!(".entry {kernel}(");
        assert!(ptx.contains(&entry), "no {kernel}");
    }
    let words = ptx.split_whitespace();
    for word in words.filter(|word| word.starts_with("atom.") || word.starts_with("red.")) {
        let of_floats = word.contains(".f32") || word.contains(".f64");
        assert!(!of_floats, "{word} has no fixed order");
    }
}
