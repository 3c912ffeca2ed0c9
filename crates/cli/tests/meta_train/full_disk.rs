//! Writes that fail in the middle of a file. What was saved before is good, and the run
//! resumes once there is room.
//!
//! The system is told to refuse files above a size: as on a full disk, the start of what
//! is written gets in and the rest is an error, here "File too large".

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    assert_same_run, checkpoints,
    common::{BLOCK, fail_of, succeed, tiny, with_small_files},
    reference, unfinished,
};

fn size(file: PathBuf) -> u64 {
    fs::metadata(file).unwrap().len()
}

/// The largest checkpoint, in bytes.
fn largest_checkpoint(run: &Path) -> u64 {
    checkpoints(run).values().map(Vec::len).max().unwrap() as u64
}

/// Asserts that the run `full` ended as it should and resumes after `step`.
fn assert_it_goes_on(folder: &Path, text: &str, file: &str, step: usize) {
    let full = folder.join("full");
    assert!(
        text.contains(file) && text.contains("File too large"),
        "{text}"
    );
    assert!(text.contains("--resume full"), "{text}");
    assert_eq!(unfinished(&full), 0);
    let text = succeed(folder, &["meta-train", "--resume", "full"]);
    let place = format!("resuming after outer step {step}\n");
    assert!(
        text.contains(&place) && !text.contains("passing over"),
        "{text}"
    );
    assert_same_run(&folder.join("reference"), &full, "after a full disk");
}

#[test]
fn no_room_for_the_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    // So many steps of so small a network that the metrics are the largest file.
    let more = [
        ["--set", "outer.steps=100"],
        ["--set", "estimator.tasks=1"],
        ["--set", "task.hidden=[[]]"],
        ["--set", "task.image-size=[2]"],
    ]
    .concat();
    let run = reference(here, &more);
    let blocks = size(run.join("metrics.jsonl")) * 3 / 4 / BLOCK;
    assert!(largest_checkpoint(&run) < blocks * BLOCK);
    let text = fail_of(with_small_files(here, blocks, &tiny("full", &more)));
    let metrics = fs::read_to_string(here.join("full/metrics.jsonl")).unwrap();
    let whole_lines = metrics.matches('\n').count();
    assert!((50..100).contains(&whole_lines), "{whole_lines}");
    assert_it_goes_on(here, &text, "full/metrics.jsonl", whole_lines);
}

#[test]
fn no_room_for_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let run = reference(here, &[]);
    let last = "checkpoints/step-00000012.safetensors";
    let blocks = size(run.join(last)) / 2 / BLOCK;
    assert!(size(run.join("metrics.jsonl")) < blocks * BLOCK);
    succeed(here, &tiny("full", &[]));
    let full = here.join("full");
    fs::remove_file(full.join(last)).unwrap();
    let before = checkpoints(&full);
    let resume = ["meta-train", "--resume", "full"];
    let text = fail_of(with_small_files(here, blocks, &resume));
    assert!(checkpoints(&full) == before);
    assert_it_goes_on(here, &text, last, 11);
}

/// What a start leaves is no run: the same command starts again.
#[test]
fn no_room_to_start() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let run = reference(here, &[]);
    let checkpoint = largest_checkpoint(&run) / BLOCK;
    for (blocks, file) in [
        (0, "run.json"),
        (checkpoint / 2, "checkpoints/step-00000000.safetensors"),
    ] {
        assert!(size(run.join(file.replace("00000000", "00000012"))) > blocks * BLOCK);
        let text = fail_of(with_small_files(here, blocks, &tiny("full", &[])));
        assert!(
            text.contains(file) && text.contains("File too large"),
            "{text}"
        );
        assert_eq!(unfinished(&here.join("full")), 0);
    }
    succeed(here, &tiny("full", &[]));
    assert_same_run(&run, &here.join("full"), "after a full disk");
}
