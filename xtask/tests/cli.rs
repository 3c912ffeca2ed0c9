//! The binary as a user runs it, with a script in place of cargo that prints its arguments.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use lopt_datasets::{cifar, files};

fn xtask(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(arguments).env_remove("LOPT_DATA_DIR");
    command
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// Writes a CIFAR-10 of a few rows to `folder`.
fn write_cifar(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for name in [files::CIFAR_FILES[0], files::CIFAR_FILES[5]] {
        fs::write(folder.join(name), vec![3; 2 * cifar::ROW]).unwrap();
    }
}

#[test]
fn verify_reports_the_files_and_fails_if_one_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let mut verify = xtask(&["data", "verify"]);
    verify.env("LOPT_DATA_DIR", folder.path());
    let (code, out, _) = run(&mut verify);
    assert_eq!(code, Some(0), "{out}");
    assert_eq!(out.matches(": missing; `cargo xtask data fetch").count(), 3);

    write_cifar(&folder.path().join("cifar10"));
    let (code, out, _) = run(&mut verify);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("partial: 2 of 10000 images"), "{out}");

    fs::write(folder.path().join("cifar10/test_batch.bin"), b"junk").unwrap();
    let (code, out, _) = run(&mut verify);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("BROKEN: 4 bytes"), "{out}");
}

#[test]
fn import_copies_all_or_nothing() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let import = |path: &Path, name| {
        let mut command = xtask(&["data", "import"]);
        run(command.arg(path).arg(name).arg("--data-dir").arg(to.path()))
    };
    let (code, _, err) = import(from.path(), "cifar10");
    assert_eq!(code, Some(1));
    assert!(err.contains("none of the files of cifar10"), "{err}");

    write_cifar(from.path());
    let (code, out, err) = import(from.path(), "cifar10");
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("partial: 2 of 10000"), "{out}");
    let batch = to.path().join("cifar10/data_batch_1.bin");
    let good = fs::read(&batch).unwrap();

    fs::write(
        from.path().join("data_batch_1.bin"),
        vec![4; 3 * cifar::ROW],
    )
    .unwrap();
    fs::write(from.path().join("test_batch.bin.gz"), b"junk").unwrap();
    fs::remove_file(from.path().join("test_batch.bin")).unwrap();
    let (code, _, err) = import(from.path(), "cifar10");
    assert_eq!(code, Some(1));
    assert!(err.contains("test_batch.bin.gz: not a gzip file"), "{err}");
    assert_eq!(fs::read(&batch).unwrap(), good);

    let (_, _, err) = import(&from.path().join("nothing"), "mnist");
    assert!(err.contains("cannot read"), "{err}");
    let (_, _, err) = import(&from.path().join("data_batch_1.bin"), "mnist");
    assert!(err.contains("imported from the folder"), "{err}");
    let (code, _, err) = import(from.path(), "imagenet");
    assert_eq!(code, Some(2));
    assert!(
        err.contains("choose from: fashion-mnist, mnist, cifar10"),
        "{err}"
    );
}

#[test]
fn a_mirror_is_for_one_data_set() {
    let url = "file:///nowhere";
    let (code, _, err) = run(&mut xtask(&[
        "data", "fetch", "mnist", "cifar10", "--mirror", url,
    ]));
    assert_eq!(code, Some(1));
    assert!(err.contains("one at a time"), "{err}");
}

#[cfg(unix)]
mod with_a_script_for_cargo {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Runs `xtask` with a shell script in place of cargo.
    fn with_cargo(script: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let cargo = folder.path().join("cargo");
        fs::write(&cargo, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
        run(xtask(arguments).env("CARGO", cargo).current_dir(&folder))
    }

    #[test]
    fn arguments_are_passed_to_lopt_unchanged() {
        let script = "for a in \"$@\"; do echo \"<$a>\"; done; exit 7";
        for command in ["meta-train", "eval-ood"] {
            for passed in [
                &[][..],
                &["--help"],
                &["-h", "--version", "-V", "help"],
                &["--steps=3", "two words", "", "-x", "--", "--help"],
            ] {
                let arguments = [&[command], passed].concat();
                let (code, out, err) = with_cargo(script, &arguments);
                assert_eq!(code, Some(7), "{err}");
                let expected: String = arguments.iter().map(|a| format!("<{a}>\n")).collect();
                assert!(out.ends_with(&format!("<-->\n{expected}")), "{out}");
                assert!(out.starts_with("<run>\n<--release>\n<--package>\n<lopt>\n"));
            }
        }
    }

    #[test]
    fn lopt_runs_in_the_current_directory() {
        let (_, out, _) = with_cargo("pwd; echo \"$6\"", &["meta-train"]);
        let lines: Vec<&str> = out.lines().collect();
        assert!(!Path::new(lines[0]).join("Cargo.toml").exists(), "{out}");
        let manifest = fs::read_to_string(lines[1]).unwrap();
        assert!(manifest.contains("[workspace]"), "{out}");
    }

    #[test]
    fn ci_runs_the_cheapest_step_first_and_stops_at_a_failure() {
        let script = "test \"$1\" != doc || { echo \"flags=$RUSTDOCFLAGS\"; exit 101; }";
        let (code, out, err) = with_cargo(script, &["ci"]);
        assert_eq!(code, Some(101));
        // Between the commands it says how many seconds each took.
        let (seconds, others): (Vec<_>, Vec<_>) =
            out.lines().partition(|line| line.contains(" s: cargo "));
        assert_eq!(seconds.len(), 2, "{out}");
        let expected = [
            "$ cargo fmt --all --check",
            "$ cargo clippy --workspace --all-targets -- -D warnings",
            "$ RUSTDOCFLAGS=\"-D warnings\" cargo doc --workspace --no-deps",
            "flags=-D warnings",
        ];
        assert_eq!(others, expected);
        assert!(err.contains("failed (exit status: 101)"), "{err}");
    }

    #[test]
    fn ci_ends_with_the_tests() {
        let script = r#"test "$1" != metadata || echo '{"packages": []}'"#;
        let (code, out, err) = with_cargo(script, &["ci"]);
        assert_eq!(code, Some(0), "{err}");
        assert!(out.contains("$ cargo test --workspace\n"), "{out}");
        // Then the tests that need MPI and those of CUDA, or notes that they are skipped.
        for (part, skipped) in [
            (
                "--features lopt/mpi --test mpi -- --test-threads=1",
                "skipped: tests of the feature mpi",
            ),
            (
                "--features lopt-cuda-backend/cuda,lopt/cuda,lopt-eval/cuda --test gpu --test cuda",
                "skipped: steps on CUDA tensors",
            ),
        ] {
            assert!(out.contains(part) || out.contains(skipped), "{part}: {out}");
        }
    }
}

/// The build script of `lopt` looks at the commit, which must not make cargo compile it each time.
#[test]
fn a_second_build_compiles_nothing() {
    let build = || {
        let mut cargo = Command::new(env!("CARGO"));
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        cargo.args(["build", "--package", "lopt", "--message-format", "json"]);
        let (code, out, errors) = run(cargo.current_dir(root));
        assert_eq!(code, Some(0), "{errors}");
        out
    };
    build();
    let compiled = |line: &&str| line.contains("\"fresh\":false");
    assert_eq!(build().lines().find(compiled), None);
}
