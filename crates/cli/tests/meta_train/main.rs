//! Meta-training by the real binary on real images: the same bits whatever happens.
#![cfg(unix)]

#[path = "../common/mod.rs"]
mod common;
mod continued;
mod disturbed;
#[cfg(target_os = "linux")]
mod full_disk;
#[cfg(target_os = "linux")]
mod messages;
#[path = "../common/runs.rs"]
mod runs;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{TINY, fail, output, succeed, tiny, write_cifar};
use lopt_core::{LearnedOptimizer, Theta};
use lopt_star::Star;
use runs::{assert_same_run, checkpoints, metrics};

/// A finished tiny run to compare with.
fn reference(folder: &Path, more: &[&str]) -> PathBuf {
    succeed(folder, &tiny("reference", more));
    folder.join("reference")
}

/// How many half-written files there are.
fn unfinished(run_dir: &Path) -> usize {
    let folders = [run_dir.to_owned(), run_dir.join("checkpoints")];
    let entries = folders.into_iter().flat_map(|f| fs::read_dir(f).unwrap());
    let names = entries.flatten().map(|entry| entry.file_name());
    let unfinished = names.filter(|name| name.to_string_lossy().ends_with(".unfinished"));
    unfinished.count()
}

#[test]
fn a_run_leaves_everything_it_promises() {
    let folder = tempfile::tempdir().unwrap();
    let run = reference(folder.path(), &[]);
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
    assert_eq!(best.provenance()["configuration"]["seed"], 0);
    assert_eq!(Star::new(best).unwrap().theta().values().len(), 202);
    let newest = ["step-00000011.safetensors", "step-00000012.safetensors"];
    assert!(checkpoints(&run).keys().eq(&newest));
    assert!(run.join("curves.svg").is_file());
    // A finished run that is resumed has only its conclusion to tell.
    let text = succeed(
        folder.path(),
        &["meta-train", "--resume", run.to_str().unwrap()],
    );
    let beside = text
        .find("the best of Adam's 15 learning rates")
        .expect("Adam");
    for loss in ["  mean  ", "  final "] {
        assert!(text[beside..].contains(loss), "{text}");
    }
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
    let run = reference(folder.path(), &[]);
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

/// Every estimator gives the same bits for any number of threads and after going on from an
/// old checkpoint, and says which it is.
#[test]
fn every_estimator_can_be_stopped_and_resumed() {
    for kind in ["pes", "es", "full-es", "backprop"] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let arguments = |run, threads| {
            let settings = TINY.map(|setting| match setting {
                // Whole unrolls have none; and all checkpoints are kept.
                "estimator.truncation=6" if kind == "full-es" => "estimator.loss=last",
                "checkpoint.keep=2" => "checkpoint.keep=20",
                setting => setting,
            });
            let mut arguments = vec!["meta-train", "--run-dir", run, "--estimator", kind];
            arguments.extend(["--threads", threads]);
            for setting in settings {
                arguments.extend(["--set", setting]);
            }
            arguments
        };
        succeed(folder, &arguments("whole", "1"));
        let whole = folder.join("whole");
        let config = fs::read_to_string(whole.join("config.toml")).unwrap();
        assert!(config.contains(&format!("kind = \"{kind}\"")), "{config}");
        succeed(folder, &arguments("resumed", "2"));
        let resumed = folder.join("resumed");
        assert_same_run(&whole, &resumed, kind);
        fs::remove_file(resumed.join("theta.safetensors")).unwrap();
        for name in checkpoints(&resumed).into_keys() {
            if name.as_str() > "step-00000005.safetensors" {
                fs::remove_file(resumed.join("checkpoints").join(name)).unwrap();
            }
        }
        succeed(folder, &["meta-train", "--resume", "resumed"]);
        assert_same_run(&whole, &resumed, kind);
    }
}

#[test]
fn the_seed_and_the_optimizer_matter() {
    let folder = tempfile::tempdir().unwrap();
    let run = reference(folder.path(), &[]);
    succeed(folder.path(), &tiny("seed", &["--seed", "1"]));
    assert_ne!(metrics(&run), metrics(&folder.path().join("seed")));
    succeed(
        folder.path(),
        &tiny("blackbox", &["--optimizer", "blackbox"]),
    );
    let theta = Theta::load(&folder.path().join("blackbox/best.safetensors")).unwrap();
    assert_eq!((theta.kind(), theta.values().len()), ("blackbox", 197));
}

/// Another model than an MLP, whose Hessian needs candle's second derivatives: the program sees to
/// that by itself. `grad-study` meets the same model by its exact meta-gradient.
#[test]
fn backpropagation_through_a_model_of_a_family() {
    let folder = tempfile::tempdir().unwrap();
    let task = "task={ kind = \"lstm\", width = [4], depth = [1], batch-size = [2], \
                data = [{ kind = \"text\", length = 4 }] }";
    let steps = ["--set", "outer.steps=2", "--estimator", "backprop"];
    let more = [&["--set", task, "--optimizer", "blackbox"][..], &steps].concat();
    let text = succeed(folder.path(), &tiny("lstm", &more));
    assert!(text.contains("lstm on text"), "{text}");
    let resumed = succeed(folder.path(), &["meta-train", "--resume", "lstm"]);
    assert!(resumed.contains("resuming after outer step 2"), "{resumed}");
    let study = [
        "grad-study",
        "--lengths",
        "2",
        "--samples",
        "2",
        "--set",
        task,
    ];
    succeed(folder.path(), &study);
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
            vec!["meta-train", "--set", "task.hidden=[[99999999999]]"],
            vec!["`hidden` is 99999999999", "from 1 to 65536"],
        ),
        (
            vec!["meta-train", "--set", "task.batch-size=[99999999999]"],
            vec!["`batch-size` is 99999999999", "from 1 to 65536"],
        ),
        (
            vec!["meta-train", "--set", "estimator.tasks=9223372036854775807"],
            vec!["estimator.tasks", "from 1 to 65536"],
        ),
        (
            vec!["meta-train", "--set", "outer.steps=0"],
            vec!["`outer.steps` must be at least 1"],
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
            vec!["nowhere", "not a run directory"],
        ),
        (
            vec!["meta-train", "--preset", "paper"],
            vec!["fashion-mnist", "data fetch", "LOPT_DATA_DIR"],
        ),
        (
            vec!["meta-train", "--set", "task.dataset=[\"cifar10\"]"],
            vec!["cifar10", "is not embedded"],
        ),
        (
            vec!["meta-train", "--set", "task.image-size=[64]"],
            vec!["image size 64"],
        ),
        (
            vec![
                "meta-train",
                "--set",
                "optimizer.star.hidden=[1,1,1,1,1,1,1,1,1,1]",
            ],
            vec!["[1, 1, 1, 1, 1, 1, 1, 1, 1, 1]", "at most 3"],
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

/// A θ that is no longer finite ends the run; the checkpoint before it is good.
#[test]
fn an_overflowing_theta_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let wild = ["outer.learning-rate=1e30", "outer.weight-decay=1e8"];
    let arguments = tiny("wild", &["--set", wild[0], "--set", wild[1]]);
    let text = fail(folder.path(), &arguments);
    assert!(
        text.contains("θ overflowed") && text.contains("outer.learning-rate"),
        "{text}"
    );
    // It would fail again.
    assert!(!text.contains("--resume"), "{text}");
    let left = checkpoints(&folder.path().join("wild"));
    assert!(left.contains_key("step-00000000.safetensors"), "{left:?}");
}

/// Killed before there was a configuration, a directory is free again.
#[test]
fn the_remains_of_a_start_are_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    fs::create_dir_all(run.join("checkpoints")).unwrap();
    fs::write(run.join("lock"), b"").unwrap();
    fs::write(run.join("run.json"), b"{").unwrap();
    fs::create_dir(run.join(".config.toml.7.unfinished")).unwrap();
    fs::write(run.join("metrics.jsonl"), b"").unwrap();
    fs::write(run.join("checkpoints/step-00000000.safetensors"), b"").unwrap();
    succeed(folder.path(), &tiny("run", &[]));
    assert_eq!(unfinished(&run), 0);
    let text = fail(folder.path(), &tiny("run", &[]));
    assert!(text.contains("not empty"), "{text}");
}

#[test]
fn printing_a_configuration_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let run = reference(folder.path(), &[]);
    let path = run.join("metrics.jsonl");
    let more = fs::read_to_string(&path).unwrap() + "{\"outer_step\": 99}\n";
    fs::write(&path, &more).unwrap();
    let print = ["meta-train", "--resume", "reference", "--print-config"];
    let printed = succeed(folder.path(), &print);
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(printed.contains(&config), "{printed}");
    assert_eq!(fs::read_to_string(&path).unwrap(), more);
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

#[test]
fn two_choices_of_the_optimizer_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let both = [
        "meta-train",
        "--optimizer",
        "blackbox",
        "--set",
        "optimizer.kind=star",
    ];
    let text = fail(folder.path(), &both);
    assert!(text.contains("both choose the optimizer"), "{text}");
}

#[test]
fn other_data_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    write_cifar(&here.join("dark"), 30);
    write_cifar(&here.join("bright"), 200);
    let cifar = [
        "--set",
        "task.dataset=[\"cifar10\"]",
        "--set",
        "task.source=full",
        "--data-dir",
        "dark",
    ];
    let run = reference(here, &cifar);
    let origin = fs::read_to_string(run.join("run.json")).unwrap();
    let origin: serde_json::Value = serde_json::from_str(&origin).unwrap();
    assert_eq!(origin["data"]["cifar10"].as_str().unwrap().len(), 64);
    let before = fs::read(run.join("metrics.jsonl")).unwrap();
    let resume = |data_dir| {
        [
            "meta-train",
            "--resume",
            "reference",
            "--data-dir",
            data_dir,
        ]
    };
    let text = fail(here, &resume("bright"));
    assert!(
        text.contains("`cifar10` is another data set than before"),
        "{text}"
    );
    assert_eq!(before, fs::read(run.join("metrics.jsonl")).unwrap());
    let text = succeed(here, &resume("dark"));
    assert!(text.contains("--data-dir dark"), "{text}");
    // Neither are the checkpoints of a run on other data taken.
    let mut bright = cifar;
    bright[5] = "bright";
    succeed(here, &tiny("other", &bright));
    for name in checkpoints(&run).keys() {
        let path = |run: &str| here.join(run).join("checkpoints").join(name);
        fs::copy(path("reference"), path("other")).unwrap();
    }
    fail(
        here,
        &["meta-train", "--resume", "other", "--data-dir", "bright"],
    );
}
