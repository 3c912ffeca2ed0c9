//! The files of a run directory.

use lopt_tests::{
    Attack, Checksum,
    readers::{CHECKPOINT, Killed},
};

fn attack(kind: &str, estimator: &str, name: &str, rounds: usize, checksum: Checksum) {
    let run = Killed::new(estimator);
    let attack = Attack {
        kind,
        original: run.file(name),
        rounds,
        prefixes: 250,
        memory: [2_000_000, 50],
        checksum,
    };
    attack.run(|bytes| run.resumed(name, bytes));
}

fn checkpoint(estimator: &str) {
    attack("checkpoint", estimator, CHECKPOINT, 2_500, Checksum::Sealed);
}

#[test]
fn damaged_checkpoint_of_pes() {
    checkpoint("pes");
}

#[test]
fn damaged_checkpoint_of_backprop() {
    checkpoint("backprop");
}

#[test]
fn damaged_metrics() {
    attack("metrics", "pes", "metrics.jsonl", 500, Checksum::None);
}

#[test]
fn damaged_origin() {
    attack("run-json", "pes", "run.json", 500, Checksum::None);
}
