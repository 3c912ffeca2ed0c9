//! The suites for choosing optimizers and for the final comparison.

use std::{path::Path, sync::Arc, time::Instant};

use candle_core::Device;
use lopt_adam::Adam;
use lopt_core::{Purpose, Rng, Streams};
use lopt_tasks::{
    DataConfig, DataStore, Feed, Network, Split, TaskConfig, TestScore,
    suite::{Entry, Suite},
};

fn rng(seed: u64) -> Rng {
    Streams::new(seed).stream(Purpose::Evaluation, 0, 0, 0)
}

/// Adam's training run on an entry.
struct Run {
    parameters: usize,
    path: String,
    /// Normalized.
    losses: Vec<f32>,
    seconds: f64,
    /// Before and after training.
    tests: [TestScore; 2],
}

impl Run {
    fn new(entry: &Entry, steps: u64, rate: f64, store: &mut DataStore) -> Option<Self> {
        let task = match entry.task.load(store, &Device::Cpu) {
            Err(error) if error.is_missing_data() => return None,
            loaded => loaded.unwrap().task,
        };
        let params = task.init(&mut rng(0)).unwrap();
        let parameters = params.numel();
        let before = task.test(&params).unwrap().unwrap();
        let mut network = Network::start(task.clone(), params, Arc::new(Adam::new(rate))).unwrap();
        let mut feed = Feed::default();
        let mut losses = vec![];
        let start = Instant::now();
        for t in 0..steps {
            network.draw(Split::Train, &mut rng(t), &mut feed).unwrap();
            let step = network.step(&mut feed).unwrap();
            assert!(step.loss.is_finite() && !step.refused, "{}", entry.name);
            losses.push(task.normalize(step.loss));
        }
        let seconds = start.elapsed().as_secs_f64();
        let after = task.test(&network.params().unwrap()).unwrap().unwrap();
        assert!((0.0..=1.0).contains(&after.accuracy), "{after:?}");
        Some(Self {
            parameters,
            path: network.path(),
            losses,
            seconds,
            tests: [before, after],
        })
    }

    /// The mean loss of the first and of the last eighth of the steps.
    fn ends(&self) -> [f32; 2] {
        let n = (self.losses.len() / 8).max(1);
        let mean = |losses: &[f32]| losses.iter().sum::<f32>() / n as f32;
        [
            mean(&self.losses[..n]),
            mean(&self.losses[self.losses.len() - n..]),
        ]
    }
}

fn new_suites() -> impl Iterator<Item = Entry> {
    [Suite::HeldOut, Suite::Selection]
        .into_iter()
        .flat_map(Suite::entries)
}

#[test]
fn adam_improves_every_embedded_entry() {
    let mut store = DataStore::new(Some(Path::new("/none")));
    let mut missing = vec![];
    for entry in new_suites() {
        match Run::new(&entry, 30, 3e-3, &mut store) {
            None => missing.push(entry.name),
            Some(run) => {
                // The training loss of batches of 1 is too noisy.
                let [before, after] = run.tests;
                assert!(after.loss < before.loss, "{}: {:?}", entry.name, run.tests);
            }
        }
    }
    assert_eq!(missing.len(), 13, "{missing:?}");
}

/// `cargo test --release -p lopt-tests -- --ignored --nocapture every_entry` prints the size, the
/// time and the final loss of each entry; `LOPT_DATA_DIR` must hold the full data.
#[test]
#[ignore = "minutes"]
fn every_entry_at_its_horizon() {
    let mut store = DataStore::default();
    println!(
        "| suite | group | entry | parameters | steps | s per 500 steps | start | end | test | path |"
    );
    for suite in [Suite::HeldOut, Suite::Selection] {
        for entry in suite.entries() {
            let runs = [1e-3, 1e-2]
                .map(|rate| Run::new(&entry, entry.horizon, rate, &mut store).expect("the data"));
            let best = runs
                .iter()
                .min_by(|a, b| a.ends()[1].total_cmp(&b.ends()[1]));
            let run = best.expect("two runs");
            let [first, last] = run.ends();
            println!(
                "| {} | {} | {} | {} | {} | {:.2} | {first:.3} | {last:.3} | {:.3} | {} |",
                suite.name(),
                entry.group,
                entry.name,
                run.parameters,
                entry.horizon,
                run.seconds / entry.horizon as f64 * 500.0,
                run.tests[1].accuracy,
                run.path
            );
            assert!(last < 0.9 * first, "{}: {first} {last}", entry.name);
        }
    }
}

#[test]
fn names_and_entries_are_distinct() {
    for suite in Suite::ALL {
        let entries = suite.entries();
        for (i, entry) in entries.iter().enumerate() {
            let text = serde_json::to_string(entry).unwrap();
            assert_eq!(&serde_json::from_str::<Entry>(&text).unwrap(), entry);
            for other in &entries[..i] {
                assert!(
                    (&entry.group, &entry.name) != (&other.group, &other.name),
                    "{}",
                    entry.name
                );
                let same = entry.task == other.task && entry.horizon == other.horizon;
                assert!(!same, "{} is {}", entry.name, other.name);
            }
        }
    }
}

/// What makes two tasks different for an optimizer: not their minibatches, nonlinearity and number
/// of examples.
fn essence(task: &TaskConfig) -> (String, String) {
    match task {
        TaskConfig::Mlp(config) => (
            format!("{} {}", config.dataset, config.image_size),
            format!("{:?}", config.hidden),
        ),
        TaskConfig::Model(config) => {
            let data = match &config.data {
                DataConfig::Text { .. } | DataConfig::Characters { .. } => "text".to_owned(),
                other => other.to_string(),
            };
            (data, format!("{:?}", config.model))
        }
    }
}

#[test]
fn no_entry_to_select_on_is_in_another_suite() {
    let others = Suite::ALL
        .into_iter()
        .filter(|&suite| suite != Suite::Selection);
    let others: Vec<Entry> = others.flat_map(Suite::entries).collect();
    for entry in Suite::Selection.entries() {
        for other in &others {
            assert_ne!(entry.task, other.task, "{} {}", entry.name, other.name);
            let (a, b) = (essence(&entry.task), essence(&other.task));
            assert_ne!(a, b, "{} {}", entry.name, other.name);
        }
    }
}
