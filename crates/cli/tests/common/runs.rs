//! What a run leaves, and whether two are the same.

use std::{collections::BTreeMap, fs, path::Path};

/// The metrics without the times.
pub fn metrics(run_dir: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(run_dir.join("metrics.jsonl")).expect("metrics");
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

/// The content of each checkpoint, by its file's name.
pub fn checkpoints(run_dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(run_dir.join("checkpoints")).expect("checkpoints");
    let read = |entry: fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, fs::read(entry.path()).expect("a checkpoint"))
    };
    entries.flatten().map(read).collect()
}

/// Asserts that two finished runs are the same, bit for bit.
pub fn assert_same_run(a: &Path, b: &Path, what: &str) {
    assert_eq!(metrics(a), metrics(b), "{what}: metrics");
    let read = |run: &Path, name: &str| fs::read(run.join(name)).expect(name);
    for name in ["theta.safetensors", "best.safetensors"] {
        assert!(read(a, name) == read(b, name), "{what}: {name} differs");
    }
    let (a, b) = (checkpoints(a), checkpoints(b));
    assert!(
        a.keys().eq(b.keys()),
        "{what}: {:?}, {:?}",
        a.keys(),
        b.keys()
    );
    for (name, content) in a {
        assert!(content == b[&name], "{what}: {name} differs");
    }
}
