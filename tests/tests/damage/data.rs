//! Data sets, and the embedded text.

use lopt_datasets::{sha256, unpack};
use lopt_tests::{Attack, Checksum, readers::SmallData};

/// Attacks one of the files of a small MNIST.
fn mnist(kind: &str, damaged: usize, gzipped: bool) {
    let data = SmallData::mnist(damaged, gzipped);
    let attack = Attack {
        kind,
        original: data.original(),
        rounds: 10_000,
        prefixes: usize::MAX,
        // Deflate makes at most 1032 bytes of one, and they are copied.
        memory: [50_000, if gzipped { 3 * 1032 } else { 4 }],
        checksum: match gzipped {
            true => Checksum::OfFormat,
            false => Checksum::None,
        },
    };
    attack.run(|bytes| data.read(bytes));
}

#[test]
fn damaged_idx_images() {
    mnist("idx-images", 0, false);
}

#[test]
fn damaged_idx_labels() {
    mnist("idx-labels", 3, false);
}

#[test]
fn damaged_idx_gzip() {
    mnist("idx-gzip", 2, true);
}

#[test]
fn damaged_cifar() {
    let data = SmallData::cifar();
    let attack = Attack {
        kind: "cifar",
        original: data.original(),
        rounds: 10_000,
        prefixes: usize::MAX,
        memory: [50_000, 4],
        checksum: Checksum::None,
    };
    attack.run(|bytes| data.read(bytes));
}

/// The embedded text takes a millisecond to unpack: fewer rounds and prefixes than elsewhere.
#[test]
fn damaged_text() {
    let packed = include_bytes!("../../../datasets/embedded/kjv/genesis-exodus.txt.gz");
    let attack = Attack {
        kind: "text",
        original: packed,
        rounds: 500,
        prefixes: 200,
        memory: [200_000, 2 * 1032],
        checksum: Checksum::OfFormat,
    };
    attack.run(|bytes| {
        unpack(bytes)
            .map(|text| sha256(&text))
            .map_err(|e| e.to_string())
    });
}
