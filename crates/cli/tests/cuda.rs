//! Meta-training on `cuda:0` by the real binary: on a GPU, or without one on the stand-in for the driver,
//! which has few kernels of candle.

#[allow(dead_code)]
mod common;
#[allow(dead_code)]
#[path = "common/runs.rs"]
mod runs;

use std::{fs, path::Path};

use common::succeed;
use runs::{assert_same_run, metrics};

/// One shape of networks, so that they are trained together.
const SETTINGS: [&str; 12] = [
    "outer.steps=6",
    "estimator.tasks=3",
    "estimator.truncation=6",
    "estimator.horizon.steps=14",
    "held-out.every=3",
    "held-out.unrolls=2",
    "held-out.horizon=12",
    "checkpoint.every=1",
    "checkpoint.keep=2",
    "task.batch-size=[8]",
    "task.hidden=[[5]]",
    "task.image-size=[4]",
];

fn meta_train(folder: &Path, run_dir: &str, more: &[&str]) -> String {
    let mut arguments = vec!["meta-train", "--run-dir", run_dir, "--threads", "1"];
    for setting in SETTINGS {
        arguments.extend(["--set", setting]);
    }
    arguments.extend(more);
    succeed(folder, &arguments)
}

#[test]
fn meta_training_on_a_gpu_is_that_on_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for estimator in ["pes", "es"] {
        let [ours, theirs] = ["cuda", "cpu"].map(|device| format!("{device}-{estimator}"));
        let text = meta_train(at, &ours, &["--device", "cuda:0", "--estimator", estimator]);
        let path = "cuda loss, cuda update, 6 networks together";
        assert!(text.contains(path), "{text}");
        meta_train(at, &theirs, &["--estimator", estimator]);
        let [ours, theirs] = [ours, theirs].map(|run| metrics(&at.join(run)));
        assert_eq!(ours.len(), 6);
        for (ours, theirs) in ours.iter().zip(&theirs) {
            for loss in ["/meta_loss", "/held_out/mean_loss", "/held_out/final_loss"] {
                let [ours, theirs] = [ours, theirs].map(|m| m.pointer(loss)?.as_f64());
                let (Some(ours), Some(theirs)) = (ours, theirs) else {
                    assert_eq!(ours, theirs, "{estimator}, {loss}");
                    continue;
                };
                let apart = (ours - theirs).abs() / theirs;
                assert!(
                    apart < 1e-4,
                    "{estimator}, {loss}: {ours}, on the CPU {theirs}"
                );
            }
        }
    }
}

#[test]
fn a_run_on_a_gpu_goes_on_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let device = ["--device", "cuda:0"];
    meta_train(at, "whole", &device);
    meta_train(at, "parts", &device);
    // As if the run had been killed before its last outer step.
    fs::remove_file(at.join("parts/checkpoints/step-00000006.safetensors")).unwrap();
    let resume = ["meta-train", "--resume", "parts", "--threads", "1"];
    let text = succeed(at, &[&resume[..], &device].concat());
    assert!(text.contains("networks together"), "{text}");
    assert_same_run(&at.join("whole"), &at.join("parts"), "resumed");
}
