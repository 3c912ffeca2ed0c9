//! Damaged data files are errors or images and labels in range, never a panic.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use lopt_datasets::{ImageShape, Split, cifar, idx, unpack};

/// A small generator: SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }

    /// Bytes with one to three changes of any kind.
    fn damaged(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(3) {
            // Headers are short: half of the changes are in the first bytes.
            let range = [bytes.len(), 16][self.below(2)].min(bytes.len());
            let at = self.below(range);
            let end = (at + 1 + self.below(12)).min(bytes.len());
            match self.below(5) {
                _ if bytes.is_empty() => {}
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at..end].fill([0, 0xff][self.below(2)]),
                2 => drop(bytes.drain(at..end)),
                3 => {
                    let more = vec![self.below(256) as u8; end - at];
                    bytes.splice(at..at, more).for_each(drop);
                }
                _ => bytes.truncate(at),
            }
        }
        bytes
    }
}

const ROUNDS: usize = 10_000;
const CLASSES: usize = 10;

fn split(n: usize) -> Split {
    let shape = ImageShape {
        height: 4,
        width: 3,
        channels: 1,
    };
    Split {
        shape,
        pixels: (0..n * shape.features()).map(|i| i as u8).collect(),
        labels: (0..n).map(|i| (i % CLASSES) as u8).collect(),
    }
}

fn check(split: &Split) {
    assert_eq!(split.pixels.len(), split.len() * split.shape.features());
    assert!(
        split
            .labels
            .iter()
            .all(|&label| usize::from(label) < CLASSES)
    );
}

#[test]
fn idx_files() {
    let mut numbers = Numbers(1);
    let (images, labels) = idx::write(&split(20)).unwrap();
    let mut readable = 0;
    for round in 0..ROUNDS {
        let (mut images, mut labels) = (images.clone(), labels.clone());
        if round % 3 != 0 {
            images = numbers.damaged(&images);
        }
        if round % 3 != 1 {
            labels = numbers.damaged(&labels);
        }
        if let Ok(split) = idx::read(&images, &labels, CLASSES) {
            check(&split);
            readable += 1;
        }
    }
    // Pixels have no checksum in this format.
    assert!(readable > 0 && readable < ROUNDS / 2, "{readable}");
}

#[test]
fn cifar_files() {
    let mut numbers = Numbers(2);
    let rows: Vec<u8> = (0..3)
        .flat_map(|i| [vec![i], vec![7; cifar::ROW - 1]].concat())
        .collect();
    for _ in 0..ROUNDS {
        let mut split = cifar::empty();
        if cifar::append(&numbers.damaged(&rows), &mut split).is_ok() {
            check(&split);
        }
    }
}

/// Gzip has a checksum: what can be unpacked is what was packed.
#[test]
fn gzip_files() {
    let mut numbers = Numbers(3);
    let content: Vec<u8> = (0..500).map(|i| (i * i % 251) as u8).collect();
    let mut encoder = GzEncoder::new(vec![], Compression::default());
    encoder.write_all(&content).unwrap();
    let packed = encoder.finish().unwrap();
    for length in 0..packed.len() {
        assert!(unpack(&packed[..length]).is_err(), "cut at {length}");
    }
    for _ in 0..ROUNDS {
        if let Ok(unpacked) = unpack(&numbers.damaged(&packed)) {
            assert_eq!(unpacked, content);
        }
    }
}
