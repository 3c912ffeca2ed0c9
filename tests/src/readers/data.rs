//! Data sets.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use lopt_datasets::{DatasetName, ImageShape, Source, Split, cifar, files, idx, load};
use tempfile::TempDir;

use crate::temporary_folder;

/// Gzips some bytes.
///
/// # Panics
/// Panics if the compressor fails.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The images and labels of a small data set.
///
/// # Panics
/// Panics if the format cannot hold them.
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

/// A small data set on the disk, of which one file is read with other contents.
pub struct SmallData {
    folder: TempDir,
    name: DatasetName,
    changed: PathBuf,
    original: Vec<u8>,
}

impl SmallData {
    /// A small MNIST, of whose four files the one with this number is changed.
    ///
    /// # Panics
    /// Panics if the disk is full.
    pub fn mnist(changed: usize, gzipped: bool) -> Self {
        let (images, labels) = small_idx();
        let contents = [&images, &labels].map(|bytes| match gzipped {
            true => gzip(bytes),
            false => bytes.clone(),
        });
        let names = files::IDX_FILES.map(|name| files::stored_name(name, gzipped));
        let contents = (0..4).map(|file| contents[file % 2].clone());
        let files = names.into_iter().zip(contents).collect();
        Self::new(DatasetName::Mnist, "mnist", files, changed)
    }

    /// A CIFAR-10 of two files with two images each, of which the first file is changed.
    ///
    /// # Panics
    /// Panics if the disk is full.
    pub fn cifar() -> Self {
        let rows: Vec<u8> = (0..2)
            .flat_map(|i| [vec![i], vec![7; cifar::ROW - 1]].concat())
            .collect();
        let [first, .., test] = files::CIFAR_FILES;
        let files = [first, test].map(|name| (name.to_owned(), rows.clone()));
        Self::new(DatasetName::Cifar10, "cifar10", files.into(), 0)
    }

    fn new(
        name: DatasetName,
        within: &str,
        mut files: Vec<(String, Vec<u8>)>,
        changed: usize,
    ) -> Self {
        let folder = temporary_folder();
        let within = folder.path().join(within);
        fs::create_dir(&within).unwrap();
        for (name, content) in &files {
            fs::write(within.join(name), content).unwrap();
        }
        let (changed, original) = files.swap_remove(changed);
        Self {
            name,
            changed: within.join(changed),
            original,
            folder,
        }
    }

    /// The valid contents of the file.
    pub fn original(&self) -> &[u8] {
        &self.original
    }

    /// Reads the data set with `bytes` as the contents of the file.
    ///
    /// # Errors
    /// Returns why it cannot be read.
    ///
    /// # Panics
    /// Panics if the data are not valid.
    pub fn read(&self, bytes: &[u8]) -> Result<String, String> {
        fs::write(&self.changed, bytes).unwrap();
        loaded(self.name, self.folder.path())
    }
}
