//! Data sets, and the embedded text.

use std::{fs, io::Write, path::Path};

use flate2::{Compression, write::GzEncoder};
use lopt_datasets::{
    DatasetName, ImageShape, Source, Split, cifar, files, idx, load, sha256, unpack,
};
use lopt_tests::{Attack, Checksum, temporary_folder};

/// Gzips some bytes.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The images and labels of a small data set.
pub fn small_idx() -> (Vec<u8>, Vec<u8>) {
    let shape = ImageShape {
        height: 4,
        width: 3,
        channels: 1,
    };
    let split = Split {
        shape,
        pixels: (0..20 * shape.features()).map(|i| i as u8).collect(),
        labels: (0..20).map(|i| i % 10).collect(),
    };
    idx::write(&split).unwrap()
}

/// Loads a data set. Whatever its files say, there are as many pixels as the shape needs, and
/// labels are in range.
fn loaded(name: DatasetName, folder: &Path) -> Result<String, String> {
    let data = load(name, Source::Full, Some(folder)).map_err(|e| e.to_string())?;
    for split in [&data.train, &data.test] {
        assert!(!split.is_empty());
        assert_eq!(split.pixels.len(), split.len() * split.shape.features());
        assert!(
            split
                .labels
                .iter()
                .all(|&label| usize::from(label) < data.classes)
        );
    }
    Ok(data.sha256())
}

/// Attacks one of the files of a small MNIST.
fn mnist(kind: &str, damaged: usize, gzipped: bool) {
    let folder = temporary_folder();
    let mnist = folder.path().join("mnist");
    fs::create_dir(&mnist).unwrap();
    let (images, labels) = small_idx();
    let path = |file: usize| mnist.join(files::stored_name(files::IDX_FILES[file], gzipped));
    let contents = [&images, &labels].map(|bytes| match gzipped {
        true => gzip(bytes),
        false => bytes.clone(),
    });
    for file in 0..4 {
        fs::write(path(file), &contents[file % 2]).unwrap();
    }
    let attack = Attack {
        kind,
        original: &contents[damaged % 2],
        rounds: 10_000,
        prefixes: usize::MAX,
        // Deflate makes at most 1032 bytes of one, and they are copied.
        memory: [50_000, if gzipped { 3 * 1032 } else { 4 }],
        checksum: match gzipped {
            true => Checksum::OfFormat,
            false => Checksum::None,
        },
    };
    attack.run(|bytes| {
        fs::write(path(damaged), bytes).unwrap();
        loaded(DatasetName::Mnist, folder.path())
    });
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
    let folder = temporary_folder();
    let cifar10 = folder.path().join("cifar10");
    fs::create_dir(&cifar10).unwrap();
    let rows: Vec<u8> = (0..2)
        .flat_map(|i| [vec![i], vec![7; cifar::ROW - 1]].concat())
        .collect();
    let [first, .., test] = files::CIFAR_FILES;
    fs::write(cifar10.join(test), &rows).unwrap();
    let attack = Attack {
        kind: "cifar",
        original: &rows,
        rounds: 10_000,
        prefixes: usize::MAX,
        memory: [50_000, 4],
        checksum: Checksum::None,
    };
    attack.run(|bytes| {
        fs::write(cifar10.join(first), bytes).unwrap();
        loaded(DatasetName::Cifar10, folder.path())
    });
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
