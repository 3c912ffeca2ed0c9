//! Messages that cannot be written, and signals that the shell asked to ignore, do not end a run.

use std::{fs::OpenOptions, path::Path, process::Stdio, thread::sleep, time::Duration};

use crate::{
    assert_same_run,
    common::{LOPT, both, command, lopt, signal, tiny},
    reference,
};

/// Runs to the end with both outputs closed or full.
fn runs_with(folder: &Path, run: &str, outputs: impl Fn() -> (Stdio, Stdio)) {
    let (out, err) = outputs();
    let mut child = lopt(folder, &tiny(run, &[]))
        .stdout(out)
        .stderr(err)
        .spawn()
        .unwrap();
    // The other end of a pipe is closed.
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().unwrap().code(), Some(0), "{run}");
    assert_same_run(&folder.join("reference"), &folder.join(run), run);
}

#[test]
fn messages_that_cannot_be_written_are_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    reference(here, &[]);
    runs_with(here, "closed", || (Stdio::piped(), Stdio::piped()));
    let full = || Stdio::from(OpenOptions::new().write(true).open("/dev/full").unwrap());
    runs_with(here, "full", || (full(), full()));
}

#[test]
fn a_signal_that_was_ignored_stays_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let arguments = tiny("run", &["--set", "outer.steps=100000"]);
    let script = ["-c", "trap '' HUP; exec \"$0\" \"$@\"", LOPT];
    let mut child = command(here, "sh", &[&script, &arguments[..]].concat());
    let mut child = child.stderr(Stdio::null()).spawn().unwrap();
    while !here.join("run/metrics.jsonl").exists() {
        assert!(child.try_wait().unwrap().is_none());
        sleep(Duration::from_millis(5));
    }
    signal(&child, "HUP");
    sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "ended by the signal");
    signal(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

/// Advice names the command that the user typed.
#[test]
fn advice_can_be_typed() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let told = |run, program: Option<&str>| {
        let mut command = lopt(here, &tiny(run, &[]));
        command.env_remove("LOPT_PROGRAM");
        command.envs(program.map(|program| ("LOPT_PROGRAM", program)));
        both(&command.output().unwrap())
    };
    for (run, program, expected) in [
        ("a", None, "lopt"),
        ("b", Some("cargo xtask"), "cargo xtask"),
    ] {
        let text = told(run, program);
        let evaluate = format!("\n  {expected} eval-ood --theta {run}/best.safetensors\n");
        let resume = format!("\n  {expected} meta-train --resume {run} --set outer.steps=120\n");
        assert!(text.contains(&evaluate) && text.contains(&resume), "{text}");
    }
}
