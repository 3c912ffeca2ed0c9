//! Full data sets in a folder: canonical file names, raw or gzipped.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use flate2::bufread::GzDecoder;

use crate::{CLASSES, DatasetName, Error, Result, Split, cifar, idx};

/// The files of an IDX data set: images and labels to train on, images and labels to test
/// on.
pub const IDX_FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// The files of CIFAR-10. Fewer training batches are a smaller training set.
pub const CIFAR_FILES: [&str; 6] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
    "test_batch.bin",
];

/// The canonical file names of a data set.
pub fn names(dataset: DatasetName) -> &'static [&'static str] {
    match dataset {
        DatasetName::FashionMnist | DatasetName::Mnist => &IDX_FILES,
        DatasetName::Cifar10 => &CIFAR_FILES,
    }
}

/// (training, test) from `data_dir/NAME`.
pub(crate) fn load(dataset: DatasetName, data_dir: &Path) -> Result<(Split, Split)> {
    let folder = data_dir.join(dataset.name());
    match dataset {
        DatasetName::FashionMnist | DatasetName::Mnist => {
            let pair = |images: &str, labels: &str| {
                let (path, images) = require(dataset, &folder, images)?;
                let (_, labels) = require(dataset, &folder, labels)?;
                idx::read(&images, &labels, CLASSES)
                    .map_err(|problem| Error::Broken { path, problem })
            };
            let [train_images, train_labels, test_images, test_labels] = IDX_FILES;
            Ok((
                pair(train_images, train_labels)?,
                pair(test_images, test_labels)?,
            ))
        }
        DatasetName::Cifar10 => {
            let (mut train, mut test) = (cifar::empty(), cifar::empty());
            let [batches @ .., test_name] = CIFAR_FILES;
            for name in batches {
                if let Some((path, bytes)) = read(&folder, name)? {
                    cifar::append(&bytes, &mut train)
                        .map_err(|problem| Error::Broken { path, problem })?;
                }
            }
            if train.is_empty() {
                return Err(missing(dataset, &folder, batches[0]));
            }
            let (path, bytes) = require(dataset, &folder, test_name)?;
            cifar::append(&bytes, &mut test).map_err(|problem| Error::Broken { path, problem })?;
            Ok((train, test))
        }
    }
}

fn missing(dataset: DatasetName, folder: &Path, file: &str) -> Error {
    Error::Missing {
        dataset: dataset.name(),
        folder: folder.to_owned(),
        file: file.to_owned(),
    }
}

fn require(dataset: DatasetName, folder: &Path, name: &str) -> Result<(PathBuf, Vec<u8>)> {
    read(folder, name)?.ok_or_else(|| missing(dataset, folder, name))
}

/// The unpacked content of `folder/name` or `folder/name.gz` and where it was; `None` if
/// there is neither.
///
/// # Errors
/// If it cannot be read or unpacked.
pub fn read(folder: &Path, name: &str) -> Result<Option<(PathBuf, Vec<u8>)>> {
    let raw = folder.join(name);
    if let Some(bytes) = read_if_there(&raw)? {
        return Ok(Some((raw, bytes)));
    }
    let gz = folder.join(format!("{name}.gz"));
    match read_if_there(&gz)? {
        Some(packed) => {
            let bytes = unpack(&packed).map_err(|problem| Error::Broken {
                path: gz.clone(),
                problem,
            })?;
            Ok(Some((gz, bytes)))
        }
        None => Ok(None),
    }
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Unpacks gzip, whose own checksum finds flipped bits.
///
/// # Errors
/// If the bytes are no gzip, are cut short or damaged, or something follows them.
pub fn unpack(packed: &[u8]) -> Result<Vec<u8>, String> {
    if !packed.starts_with(&[0x1f, 0x8b]) {
        return Err("no gzip file".to_owned());
    }
    let mut rest = packed;
    let mut bytes = vec![];
    let mut decoder = GzDecoder::new(&mut rest);
    match decoder.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err("cut short".to_owned());
        }
        Err(error) => return Err(format!("damaged gzip file ({error})")),
    }
    drop(decoder);
    if !rest.is_empty() {
        return Err(format!("{} bytes follow the gzip content", rest.len()));
    }
    Ok(bytes)
}
