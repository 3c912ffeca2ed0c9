use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{CLASSES, DatasetName, Result, cifar, files, idx};

/// What was found of one file of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// Its canonical name.
    pub name: &'static str,
    /// Where it was, raw or gzipped.
    pub path: Option<PathBuf>,
    /// How it is.
    pub finding: Finding,
}

/// How a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The canonical content.
    Canonical,
    /// Well-formed; there is no reference checksum to compare it with.
    WellFormed,
    /// Well-formed, but other content than the canonical one.
    Different {
        /// The canonical SHA-256.
        expected: &'static str,
        /// This file's.
        found: String,
    },
    /// Not readable or not well-formed.
    Broken(String),
    /// Not there.
    Missing,
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// SHA-256 of the unpacked canonical file, where it is known.
pub(crate) fn canonical(dataset: DatasetName, name: &str) -> Option<&'static str> {
    let table: &[(&str, &str)] = match dataset {
        DatasetName::FashionMnist => &[
            (
                "train-images-idx3-ubyte",
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            ),
            (
                "train-labels-idx1-ubyte",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            ),
            (
                "t10k-images-idx3-ubyte",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            ),
            (
                "t10k-labels-idx1-ubyte",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        ],
        DatasetName::Mnist => &[
            (
                "train-images-idx3-ubyte",
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ),
            (
                "train-labels-idx1-ubyte",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            ),
            (
                "t10k-images-idx3-ubyte",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            ),
            (
                "t10k-labels-idx1-ubyte",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        ],
        DatasetName::Cifar10 => &[
            (
                "data_batch_1.bin",
                "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
            ),
            (
                "data_batch_2.bin",
                "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
            ),
        ],
    };
    table
        .iter()
        .find(|(file, _)| *file == name)
        .map(|(_, sum)| *sum)
}

/// Looks at every file of a data set in `data_dir/NAME`.
///
/// # Errors
/// If the system refuses to read one that is there.
pub fn verify(dataset: DatasetName, data_dir: &Path) -> Result<Vec<FileReport>> {
    let folder = data_dir.join(dataset.name());
    let look = |&name: &&'static str| {
        let report = |path, finding| FileReport {
            name,
            path,
            finding,
        };
        match files::read(&folder, name) {
            Ok(None) => Ok(report(None, Finding::Missing)),
            Ok(Some((path, bytes))) => Ok(report(Some(path), examine(dataset, name, &bytes))),
            Err(crate::Error::Broken { path, problem }) => {
                Ok(report(Some(path), Finding::Broken(problem)))
            }
            Err(error) => Err(error),
        }
    };
    files::names(dataset).iter().map(look).collect()
}

/// How the unpacked content of one file is.
pub fn examine(dataset: DatasetName, name: &str, bytes: &[u8]) -> Finding {
    let well_formed = match dataset {
        DatasetName::Cifar10 => cifar::append(bytes, &mut cifar::empty()),
        _ if name.contains("labels") => idx::check_labels(bytes, CLASSES),
        _ => idx::check_images(bytes),
    };
    if let Err(problem) = well_formed {
        return Finding::Broken(problem);
    }
    match canonical(dataset, name) {
        None => Finding::WellFormed,
        Some(expected) => {
            let found = sha256(bytes);
            if found == expected {
                Finding::Canonical
            } else {
                Finding::Different { expected, found }
            }
        }
    }
}
