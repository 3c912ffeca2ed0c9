//! Running the real binary.

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use lopt_datasets::{cifar, files};

/// A meta-training run of a second or two.
pub const TINY: [&str; 11] = [
    "outer.steps=12",
    "estimator.tasks=3",
    "estimator.truncation=6",
    "estimator.horizon.steps=14",
    "held-out.every=4",
    "held-out.unrolls=2",
    "held-out.horizon=12",
    "checkpoint.every=1",
    "checkpoint.keep=2",
    "task.batch-size=[8]",
    "task.hidden=[[5], [3, 4]]",
];

/// The binary.
pub const LOPT: &str = env!("CARGO_BIN_EXE_lopt");

/// `lopt ARGUMENTS` in `folder`.
pub fn lopt(folder: &Path, arguments: &[&str]) -> Command {
    command(folder, LOPT, arguments)
}

/// `program ARGUMENTS` in `folder`, its output caught.
pub fn command(folder: &Path, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(folder)
        .env_remove("LOPT_DATA_DIR")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Arguments of a tiny meta-training into `run_dir`.
pub fn tiny<'a>(run_dir: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["meta-train", "--run-dir", run_dir];
    for setting in TINY {
        arguments.extend(["--set", setting]);
    }
    arguments.extend(more);
    arguments
}

/// Runs to the end.
pub fn output(folder: &Path, arguments: &[&str]) -> Output {
    lopt(folder, arguments).output().expect("the binary runs")
}

/// Runs to the end and succeeds. What it prints fits a terminal of 80 columns.
pub fn succeed(folder: &Path, arguments: &[&str]) -> String {
    let output = output(folder, arguments);
    let text = both(&output);
    assert!(output.status.success(), "lopt {arguments:?}: {text}");
    let printed = String::from_utf8_lossy(&output.stdout);
    let long = printed.lines().find(|line| line.chars().count() > 80);
    assert_eq!(long, None, "lopt {arguments:?}");
    text
}

/// Runs to the end and fails with exit code 1, without a panic.
pub fn fail(folder: &Path, arguments: &[&str]) -> String {
    fail_of(lopt(folder, arguments))
}

/// [`fail`] of any command.
pub fn fail_of(mut command: Command) -> String {
    let output = command.output().expect("the binary runs");
    let text = both(&output);
    assert_eq!(output.status.code(), Some(1), "{command:?}: {text}");
    assert!(
        text.contains("error: ") && !text.contains("panicked"),
        "{text}"
    );
    text
}

/// Standard output and error.
pub fn both(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The unit of `ulimit -f` in a POSIX shell.
#[allow(dead_code)]
pub const BLOCK: u64 = 512;

/// `lopt ARGUMENTS` that cannot write files of more than `blocks`: as on a full disk, the start of what is
/// written gets in and the rest is an error, "File too large". The signal that would end it at such a
/// write is ignored.
#[cfg(unix)]
#[allow(dead_code)]
pub fn with_small_files(folder: &Path, blocks: u64, arguments: &[&str]) -> Command {
    let script = "ulimit -f \"$0\"; trap '' XFSZ; exec \"$@\"";
    let blocks = blocks.to_string();
    let through_shell = [&["-c", script, &blocks, LOPT], arguments].concat();
    command(folder, "sh", &through_shell)
}

/// Sends a signal, such as "INT".
#[cfg(unix)]
pub fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    let status = Command::new("kill")
        .args([&format!("-{name}"), &id])
        .status();
    assert!(status.expect("kill runs").success());
}

/// Writes a small CIFAR-10 whose pixels all have one value.
#[allow(dead_code)]
pub fn write_cifar(data_dir: &Path, pixel: u8) {
    let folder = data_dir.join("cifar10");
    std::fs::create_dir_all(&folder).unwrap();
    let image = |label: u8| [vec![label], vec![pixel; cifar::ROW - 1]].concat();
    let images: Vec<u8> = (0..10).flat_map(image).collect();
    for name in files::CIFAR_FILES {
        std::fs::write(folder.join(name), &images).unwrap();
    }
}
