//! Full data sets in a folder, under their canonical file names, raw or gzipped.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{CLASSES, DatasetName, Error, Malformed, Result, Split, cifar, gzip, idx};

/// The files of an IDX data set: training images and labels, then test images and labels.
pub const IDX_FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// The files of CIFAR-10. Missing training batches make the training set smaller.
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

/// A file on disk.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Path of the file.
    pub path: PathBuf,
    /// Whether the file is gzipped.
    pub gzipped: bool,
    /// The bytes of the file, still packed if it is gzipped.
    pub bytes: Vec<u8>,
}

impl Stored {
    /// Returns the unpacked contents.
    ///
    /// # Errors
    /// Returns an error if a gzipped file is empty or cannot be unpacked.
    pub fn unpack(self) -> Result<Vec<u8>, Malformed> {
        if self.gzipped {
            gzip::unpack(&self.bytes)
        } else {
            Ok(self.bytes)
        }
    }
}

/// Reads `folder/name` or, if it does not exist, `folder/name.gz`. Returns `None` if neither
/// exists.
///
/// # Errors
/// Returns an error if the file exists but cannot be read.
pub fn find(folder: &Path, name: &str) -> Result<Option<Stored>> {
    match read(folder, name, false)? {
        Some(raw) => Ok(Some(raw)),
        None => read(folder, name, true),
    }
}

/// Reads `folder/name`, or `folder/name.gz` if `gzipped`. Returns `None` if it does not exist.
///
/// # Errors
/// Returns an error if the file exists but cannot be read.
pub fn read(folder: &Path, name: &str, gzipped: bool) -> Result<Option<Stored>> {
    let path = folder.join(stored_name(name, gzipped));
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(Stored {
            path,
            gzipped,
            bytes,
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { path, source }),
    }
}

/// `name`, or `name.gz` if `gzipped`.
pub fn stored_name(name: &str, gzipped: bool) -> String {
    let suffix = if gzipped { ".gz" } else { "" };
    format!("{name}{suffix}")
}

/// Loads (training, test) from `data_dir/NAME`.
pub(crate) fn load(dataset: DatasetName, data_dir: &Path) -> Result<(Split, Split)> {
    let folder = Folder {
        dataset,
        path: data_dir.join(dataset.name()),
    };
    match dataset {
        DatasetName::FashionMnist | DatasetName::Mnist => folder.load_idx(),
        DatasetName::Cifar10 => folder.load_cifar(),
    }
}

/// The folder of one data set.
struct Folder {
    dataset: DatasetName,
    path: PathBuf,
}

impl Folder {
    fn load_idx(&self) -> Result<(Split, Split)> {
        let [train_images, train_labels, test_images, test_labels] = IDX_FILES;
        let (_, train) = self.load_pair(train_images, train_labels)?;
        let (path, test) = self.load_pair(test_images, test_labels)?;
        if test.shape != train.shape {
            let (found, expected) = (test.shape, train.shape);
            return Err(self.broken(path)(Malformed::Shape { found, expected }));
        }
        Ok((train, test))
    }

    fn load_pair(&self, images: &'static str, labels: &'static str) -> Result<(PathBuf, Split)> {
        let (images_path, images) = self.require(images)?;
        let (labels_path, labels) = self.require(labels)?;
        let images = idx::images(&images).map_err(self.broken(images_path.clone()))?;
        let labels = idx::labels(&labels, CLASSES).map_err(self.broken(labels_path))?;
        let split = idx::join(images, labels).map_err(self.broken(images_path.clone()))?;
        Ok((images_path, split))
    }

    fn load_cifar(&self) -> Result<(Split, Split)> {
        let (mut train, mut test) = (cifar::empty(), cifar::empty());
        let [batches @ .., test_batch] = CIFAR_FILES;
        for name in batches {
            if let Some((path, bytes)) = self.content(name)? {
                cifar::append(&bytes, &mut train).map_err(self.broken(path))?;
            }
        }
        if train.is_empty() {
            return Err(self.missing(batches[0]));
        }
        let (path, bytes) = self.require(test_batch)?;
        cifar::append(&bytes, &mut test).map_err(self.broken(path))?;
        Ok((train, test))
    }

    /// The path of a file and its unpacked contents, if it exists.
    fn content(&self, name: &str) -> Result<Option<(PathBuf, Vec<u8>)>> {
        let Some(stored) = find(&self.path, name)? else {
            return Ok(None);
        };
        let path = stored.path.clone();
        let content = stored.unpack().map_err(self.broken(path.clone()))?;
        Ok(Some((path, content)))
    }

    fn require(&self, name: &'static str) -> Result<(PathBuf, Vec<u8>)> {
        self.content(name)?.ok_or_else(|| self.missing(name))
    }

    fn missing(&self, file: &'static str) -> Error {
        Error::Missing {
            dataset: self.dataset,
            folder: self.path.clone(),
            file,
        }
    }

    fn broken(&self, path: PathBuf) -> impl FnOnce(Malformed) -> Error {
        let dataset = self.dataset;
        move |problem| Error::Broken {
            dataset,
            path,
            problem,
        }
    }
}
