//! The example that meta-trains on a custom task.

#[path = "../examples/meta_train.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod meta_train;

use std::{fs, sync::Arc};

use lopt_meta::{Alone, Resources, SavedRun, Trainer, TrainerConfig, registry};
use lopt_star::Star;

/// Meta-training improves the initial θ and gives the same bits each time.
#[test]
fn the_example_meta_trains() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
    let (step, best) = meta_train::meta_train(&first).unwrap();
    meta_train::meta_train(&second).unwrap();
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

/// A run is resumed with the configuration that it was started with.
#[test]
fn another_configuration_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let text = include_str!("../examples/meta_train.toml");
    let config = |text: &str| -> TrainerConfig { toml::from_str(text).unwrap() };
    let (family, star) = (Arc::new(meta_train::Regressions), || {
        Box::new(Star::untrained())
    });
    let started = config(text);
    let resources = Resources::default();
    drop(Trainer::start(family.clone(), star(), &started, &path, resources).unwrap());
    let resume = |config: &TrainerConfig| {
        let saved = SavedRun::open(&path, &Alone).unwrap();
        let resources = Resources::default();
        Trainer::resume(family.clone(), star(), config, saved, resources)
    };
    let other = config(&text.replace("sigma = 0.01", "sigma = 0.02"));
    let error = resume(&other).err().unwrap().to_string();
    assert!(error.contains("another configuration"), "{error}");
    assert_eq!(resume(&started).unwrap().outer_step(), 0);
}
