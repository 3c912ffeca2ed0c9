//! θ files and optimizer states.

use lopt_core::file;
use lopt_tests::{
    Attack, Checksum, Sealed,
    readers::{State, read_theta, theta},
};

#[test]
fn files_are_sealed_as_lopt_does() {
    let bytes = theta();
    assert!(Sealed::open(&bytes).bytes() == bytes);
    let mut forged = Sealed::open(&bytes);
    forged.tensors[0].data.fill(0);
    file::parse(&forged.bytes(), "forged".as_ref(), "theta").unwrap();
}

#[test]
fn damaged_theta() {
    let attack = Attack {
        kind: "theta",
        original: &theta(),
        rounds: 10_000,
        prefixes: usize::MAX,
        memory: [100_000, 50],
        checksum: Checksum::Sealed,
    };
    attack.run(read_theta);
}

#[test]
fn damaged_optimizer_state() {
    let mut state = State::new();
    let attack = Attack {
        kind: "optimizer-state",
        original: &state.original(),
        rounds: 10_000,
        prefixes: usize::MAX,
        memory: [100_000, 50],
        checksum: Checksum::Sealed,
    };
    attack.run(|bytes| state.read(bytes));
}
