//! Meta-training by the real binary on real images: the same bits whatever happens.
#![cfg(unix)]

mod common;

use std::{fs, path::Path, thread::sleep, time::Duration};

use common::{both, fail, lopt, output, signal, succeed, tiny};
use lopt_core::{LearnedOptimizer, Theta};
use lopt_star::Star;

/// The metrics without the times.
fn metrics(run_dir: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(run_dir.join("metrics.jsonl")).expect("metrics");
    let parse = |line: &str| {
        let mut metrics: serde_json::Value = serde_json::from_str(line).expect("JSON");
        metrics
            .as_object_mut()
            .expect("an object")
            .remove("seconds");
        metrics
    };
    text.lines().map(parse).collect()
}

/// Asserts that two finished runs are the same, bit for bit.
fn assert_same_run(a: &Path, b: &Path, what: &str) {
    assert_eq!(metrics(a), metrics(b), "{what}: metrics");
    let read = |run: &Path, name: &str| std::fs::read(run.join(name)).expect(name);
    for name in [
        "theta.safetensors",
        "best.safetensors",
        "checkpoints/step-00000012.safetensors",
    ] {
        assert!(read(a, name) == read(b, name), "{what}: {name} differs");
    }
}

/// A finished tiny run to compare with.
fn reference(folder: &Path) -> std::path::PathBuf {
    succeed(folder, &tiny("reference", &[]));
    folder.join("reference")
}

#[test]
fn a_run_leaves_everything_it_promises() {
    let folder = tempfile::tempdir().unwrap();
    let run = reference(folder.path());
    let metrics = metrics(&run);
    assert_eq!(metrics.len(), 12);
    assert!(
        metrics
            .iter()
            .all(|m| m["meta_loss"].as_f64().is_some_and(|loss| loss > 0.0))
    );
    let held_out = metrics.iter().filter(|m| !m["held_out"].is_null()).count();
    assert_eq!(held_out, 3);
    let best = Theta::load(&run.join("best.safetensors")).unwrap();
    assert_eq!(best.provenance["configuration"]["seed"], 0);
    assert_eq!(Star::new(best).unwrap().theta().values().len(), 202);
    let checkpoints = fs::read_dir(run.join("checkpoints")).unwrap().count();
    assert_eq!(checkpoints, 2);
    // The written configuration is complete: it makes the same run.
    let config = run.join("config.toml");
    let arguments = [
        "meta-train",
        "--config",
        config.to_str().unwrap(),
        "--run-dir",
        "again",
    ];
    succeed(folder.path(), &arguments);
    assert_same_run(&run, &folder.path().join("again"), "from config.toml");
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let run = reference(folder.path());
    for threads in ["1", "2", "8"] {
        let name = format!("threads{threads}");
        succeed(folder.path(), &tiny(&name, &["--threads", threads]));
        assert_same_run(
            &run,
            &folder.path().join(name),
            &format!("{threads} threads"),
        );
    }
}

#[test]
fn the_seed_and_the_optimizer_matter() {
    let folder = tempfile::tempdir().unwrap();
    let run = reference(folder.path());
    succeed(folder.path(), &tiny("seed", &["--seed", "1"]));
    assert_ne!(metrics(&run), metrics(&folder.path().join("seed")));
    succeed(
        folder.path(),
        &tiny("blackbox", &["--optimizer", "blackbox"]),
    );
    let theta = Theta::load(&folder.path().join("blackbox/best.safetensors")).unwrap();
    assert_eq!((theta.kind(), theta.values().len()), ("blackbox", 197));
}

/// Killed at many moments, resumed each time: the end is that of an undisturbed run.
#[test]
fn kill_9_at_any_moment_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let run = reference(folder.path());
    let killed = folder.path().join("killed");
    let mut kills = 0;
    // Spread over start, first steps, checkpoints and end; prime, so as not to repeat.
    for attempt in 0u64.. {
        let resumable = killed.join("config.toml").exists();
        let arguments = if resumable {
            vec!["meta-train", "--resume", "killed"]
        } else {
            let _ = fs::remove_dir_all(&killed);
            tiny("killed", &[])
        };
        let mut child = lopt(folder.path(), &arguments).spawn().unwrap();
        sleep(Duration::from_millis(150 + attempt * 37 % 211));
        if child.try_wait().unwrap().is_some() && killed.join("theta.safetensors").exists() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        if kills > 60 {
            succeed(folder.path(), &["meta-train", "--resume", "killed"]);
            break;
        }
    }
    assert!(kills >= 2, "only {kills} kills");
    assert_same_run(&run, &killed, "after kills");
    let unfinished = |folder: &Path| {
        let entries = fs::read_dir(folder).unwrap().flatten();
        entries
            .filter(|e| e.file_name().to_string_lossy().ends_with(".unfinished"))
            .count()
    };
    assert_eq!(
        unfinished(&killed) + unfinished(&killed.join("checkpoints")),
        0
    );
}

#[test]
fn ctrl_c_saves_and_tells_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let run = reference(folder.path());
    let more = ["--set", "checkpoint.every=1000"];
    let mut child = lopt(folder.path(), &tiny("stopped", &more))
        .spawn()
        .unwrap();
    // Once the first line of metrics is there, it is in the loop.
    let lines = folder.path().join("stopped/metrics.jsonl");
    while fs::metadata(&lines).map_or(0, |m| m.len()) == 0 {
        assert!(
            child.try_wait().unwrap().is_none(),
            "ended before it was interrupted"
        );
        sleep(Duration::from_millis(1));
    }
    signal(&child, "INT");
    let output = child.wait_with_output().unwrap();
    let text = both(&output);
    if output.status.code() == Some(130) {
        assert!(text.contains("--resume stopped"), "{text}");
        succeed(folder.path(), &["meta-train", "--resume", "stopped"]);
    } else {
        // It may have been over before the signal came.
        assert!(output.status.success(), "{text}");
    }
    assert_eq!(metrics(&run), metrics(&folder.path().join("stopped")));
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let run = reference(folder.path());
    succeed(folder.path(), &tiny("damaged", &[]));
    let damaged = folder.path().join("damaged");
    let newest = damaged.join("checkpoints/step-00000012.safetensors");
    let mut bytes = fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&newest, bytes).unwrap();
    let text = succeed(folder.path(), &["meta-train", "--resume", "damaged"]);
    assert!(
        text.contains("passing over") && text.contains("checksum"),
        "{text}"
    );
    assert!(text.contains("going on after outer step 11"), "{text}");
    assert_same_run(&run, &damaged, "from an older checkpoint");

    for entry in fs::read_dir(damaged.join("checkpoints")).unwrap().flatten() {
        fs::write(entry.path(), b"junk").unwrap();
    }
    let text = fail(folder.path(), &["meta-train", "--resume", "damaged"]);
    assert!(
        text.contains("no checkpoint can be used") && text.contains("step-00000012"),
        "{text}"
    );
}

#[test]
fn two_processes_do_not_share_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = lopt(
        folder.path(),
        &tiny("shared", &["--set", "outer.steps=100000"]),
    )
    .spawn()
    .unwrap();
    while !folder.path().join("shared/metrics.jsonl").exists() {
        assert!(first.try_wait().unwrap().is_none());
        sleep(Duration::from_millis(5));
    }
    let text = fail(folder.path(), &["meta-train", "--resume", "shared"]);
    assert!(text.contains("another process"), "{text}");
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn bad_configurations_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::write(here.join("broken.toml"), "seed = \n").unwrap();
    fs::write(here.join("partial.toml"), "seed = 1\n").unwrap();
    for (arguments, words) in [
        (
            vec!["meta-train", "--set", "outer.stepz=1"],
            vec!["stepz", "preset quick"],
        ),
        (
            vec!["meta-train", "--set", "estimator.sigma=-1"],
            vec!["estimator.sigma"],
        ),
        (
            vec!["meta-train", "--config", "broken.toml"],
            vec!["broken.toml"],
        ),
        (
            vec!["meta-train", "--config", "partial.toml"],
            vec!["partial.toml", "task"],
        ),
        (
            vec!["meta-train", "--config", "none.toml"],
            vec!["none.toml", "No such file"],
        ),
        (
            vec!["meta-train", "--device", "tpu"],
            vec!["`tpu`", "cuda:N"],
        ),
        (vec!["meta-train", "--device", "cuda:0"], vec!["cuda:0"]),
        (
            vec!["meta-train", "--resume", "nowhere"],
            vec!["nowhere", "no run directory"],
        ),
        (
            vec!["meta-train", "--preset", "paper"],
            vec!["fashion-mnist", "data fetch", "LOPT_DATA_DIR"],
        ),
        (
            vec!["meta-train", "--set", "task.dataset=[\"cifar10\"]"],
            vec!["cifar10", "does not come with"],
        ),
        (
            vec!["meta-train", "--set", "task.image-size=[64]"],
            vec!["image size 64"],
        ),
    ] {
        let text = fail(here, &arguments);
        for word in words {
            assert!(text.contains(word), "{arguments:?}: {text}");
        }
    }
    assert!(
        !here.join("runs").exists(),
        "a run directory was made for a run that cannot start"
    );
    // What clap itself refuses.
    for arguments in [
        vec!["meta-train", "--threads", "0"],
        vec!["meta-train", "--preset", "slow"],
        vec!["meta-trian"],
    ] {
        assert_eq!(output(here, &arguments).status.code(), Some(2));
    }
}

#[test]
fn unwritable_run_directories_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::write(here.join("file"), b"").unwrap();
    let text = fail(here, &tiny("file/run", &[]));
    assert!(text.contains("file/run"), "{text}");
    fs::create_dir(here.join("mine")).unwrap();
    fs::write(here.join("mine/thesis.tex"), b"precious").unwrap();
    let text = fail(here, &tiny("mine", &[]));
    assert!(
        text.contains("not empty") && text.contains("--resume"),
        "{text}"
    );
    assert_eq!(fs::read_dir(here.join("mine")).unwrap().count(), 1);
}

/// A full disk, as Linux simulates one: the metrics cannot be written any more. What was
/// saved before is good, and the run goes on once there is room.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_the_run_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let run = reference(folder.path());
    let full = folder.path().join("full");
    succeed(folder.path(), &tiny("full", &[]));
    // Back to an earlier checkpoint, with metrics on a full device.
    fs::remove_file(full.join("checkpoints/step-00000012.safetensors")).unwrap();
    fs::remove_file(full.join("metrics.jsonl")).unwrap();
    std::os::unix::fs::symlink("/dev/full", full.join("metrics.jsonl")).unwrap();
    let text = fail(folder.path(), &["meta-train", "--resume", "full"]);
    assert!(
        text.contains("metrics.jsonl") && text.contains("No space left"),
        "{text}"
    );
    assert!(text.contains("--resume full"), "{text}");
    fs::remove_file(full.join("metrics.jsonl")).unwrap();
    succeed(folder.path(), &["meta-train", "--resume", "full"]);
    let read = |run: &Path| fs::read(run.join("theta.safetensors")).unwrap();
    assert!(read(&run) == read(&full));
}
