//! The example that meta-trains on a custom task.

#[path = "../examples/own_task.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod own_task;

use std::fs;

use lopt_meta::registry;

/// Meta-training improves the initial θ and gives the same bits each time.
#[test]
fn the_example_meta_trains() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
    let (step, best) = own_task::meta_train(&first).unwrap();
    own_task::meta_train(&second).unwrap();
    let file = |path: &std::path::Path| fs::read(path.join("best.safetensors")).unwrap();
    assert!(file(&first) == file(&second), "two runs differ");
    let optimizer = registry::load(&first.join("best.safetensors")).unwrap();
    assert_eq!(optimizer.kind(), "star");
    let text = fs::read_to_string(first.join("metrics.jsonl")).unwrap();
    let scores = text.lines().filter_map(|line| {
        let metrics: serde_json::Value = serde_json::from_str(line).unwrap();
        metrics["held_out"]["mean_loss"].as_f64()
    });
    let scores: Vec<f64> = scores.collect();
    assert!(
        step > 20 && best.mean_loss < 0.9 * scores[0],
        "{step}: {scores:?}"
    );
}
