//! The table, with a script in place of `lopt`.

#![cfg(unix)]

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

/// Returns whether the program succeeded, its standard output and its standard error.
fn table(script: &str) -> (bool, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let lopt = folder.path().join("lopt");
    fs::write(&lopt, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&lopt, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lopt-benches"));
    command.arg("--lopt").arg(&lopt).args(["--rounds", "1"]);
    let output = command.env_remove("LOPT_DATA_DIR").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.success(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn every_target_has_its_row() {
    let script = r#"
        [ "$1 $2" = "meta-train --run-dir" ] || exit 9
        mkdir -p "$3"
        for step in 1 2 3; do echo '{"seconds": 0.04}'; done > "$3/metrics.jsonl"
        echo "inner steps: by a script" >&2
        sleep 0.1"#;
    let (success, out, err) = table(script);
    assert!(success, "{err}");
    for row in [
        "STAR update, 784×32, ",
        "STAR update, 1024×1024, ",
        "× faster than candle ops",
        "STAR over Adam, 25450 parameters",
        "STAR over Adam, 118282 parameters",
        "STAR over Adam, 1049600 parameters",
        "STAR over Adam, 10496000 parameters",
        "drop-in STAR, ",
        "exact meta-gradient of STAR, 784-32-10, one core: 100 steps",
        "exact meta-gradient of STAR, 784-32-10, one core: peak memory",
        "PES with STAR, 784-32-10: by a script",
        "PES with STAR, 196-32-10: start to first meta-step",
        "PES with STAR, 64-32-10: peak memory beyond 3 MB of data",
        "PES with STAR, 784-128-128-10: by a script",
    ] {
        assert!(out.contains(row), "no `{row}` in\n{out}");
    }
    // 800 inner steps in 0.04 s.
    let speed = out
        .lines()
        .find(|line| line.contains("784-32-10: by a script"));
    assert!(speed.is_some_and(|row| row.contains("20000") && row.contains("yes")));
}

#[test]
fn the_output_of_a_failed_run_is_shown() {
    let (success, _, err) = table("echo 'error: no such thing' >&2; exit 1");
    assert!(!success);
    assert!(
        err.contains("meta-train ended with") && err.contains("no such thing"),
        "{err}"
    );
}
