//! Checkpoints of the JAX original.

use lopt_tests::{
    Attack, Checksum,
    readers::{flax, read_flax},
};

#[test]
fn damaged_flax() {
    let attack = Attack {
        kind: "flax",
        original: &flax(),
        rounds: 10_000,
        prefixes: usize::MAX,
        memory: [100_000, 200],
        checksum: Checksum::None,
    };
    attack.run(|bytes| read_flax(bytes, ""));
}

/// Settings of every kind of value.
const GIN: &str = "# what the original wrote
MLPNomLOpt.nominal_stepsize = 0.001
MLPNomLOpt.nominal_controller = True
MLPNomLOpt.nominal_grad_estimator = 'AdamAggMo'
MLPNomLOpt.step_mult = 1e-3
PESWorker.trunc_length = 50
";

#[test]
fn damaged_gin() {
    let params = flax();
    let attack = Attack {
        kind: "gin",
        original: GIN.as_bytes(),
        rounds: 10_000,
        prefixes: usize::MAX,
        memory: [100_000, 200],
        checksum: Checksum::None,
    };
    attack.run(|bytes| read_flax(&params, &String::from_utf8_lossy(bytes)));
}
