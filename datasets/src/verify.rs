//! Compares the files of a data set with the published ones.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{CLASSES, DatasetName, Malformed, Result, canonical, cifar, files, idx};

/// The result of [`verify`] for one data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The data set.
    pub dataset: DatasetName,
    /// One report per canonical file.
    pub files: Vec<FileReport>,
}

/// The result of [`verify`] for one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// The canonical name.
    pub name: &'static str,
    /// Path of the raw or gzipped file, if it exists.
    pub path: Option<PathBuf>,
    /// How the file compares with the canonical one.
    pub finding: Finding,
}

/// How a file compares with the canonical one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The content is the canonical one.
    Canonical,
    /// Well-formed and as long as the canonical file, whose checksum is not known.
    WellFormed,
    /// Well-formed, with fewer images than the canonical file.
    Partial {
        /// Number of images in the file.
        rows: usize,
        /// Number of images in the canonical file.
        of: usize,
    },
    /// Well-formed, but with a different checksum.
    Different {
        /// SHA-256 of the canonical content.
        expected: &'static str,
        /// SHA-256 of the content found.
        found: String,
    },
    /// The content is malformed.
    Broken(Malformed),
    /// The file does not exist.
    Missing,
}

impl Report {
    /// Returns `true` if none of the files exists.
    pub fn is_missing(&self) -> bool {
        self.files
            .iter()
            .all(|file| file.finding == Finding::Missing)
    }

    /// Returns `true` if every file exists, has all of its images, and is not known to differ
    /// from the published one.
    pub fn is_complete(&self) -> bool {
        let whole = |finding: &Finding| matches!(finding, Finding::Canonical | Finding::WellFormed);
        self.files.iter().all(|file| whole(&file.finding))
    }

    /// Returns `true` if the data set can be loaded: the required files exist, are well-formed
    /// and fit together.
    pub fn is_loadable(&self) -> bool {
        let images: Vec<Option<usize>> = self.files.iter().map(FileReport::images).collect();
        let broken = |file: &FileReport| matches!(file.finding, Finding::Broken(_));
        !self.files.iter().any(broken)
            && match images.as_slice() {
                [batches @ .., test] if self.dataset == DatasetName::Cifar10 => {
                    test.is_some() && batches.iter().any(Option::is_some)
                }
                // Each pair is images and their labels.
                pairs => pairs
                    .chunks(2)
                    .all(|pair| pair[0].is_some() && pair.iter().all(|count| *count == pair[0])),
            }
    }

    /// Returns `true` if nothing is wrong: the data set is missing, or it can be loaded and no
    /// file is known to differ from the published one.
    pub fn is_sound(&self) -> bool {
        let differs = |file: &FileReport| matches!(file.finding, Finding::Different { .. });
        self.is_missing() || self.is_loadable() && !self.files.iter().any(differs)
    }
}

impl FileReport {
    /// The number of images or labels in the file, if known.
    fn images(&self) -> Option<usize> {
        match self.finding {
            Finding::Partial { rows, .. } => Some(rows),
            Finding::Missing | Finding::Broken(_) => None,
            _ => Some(canonical::rows(self.name)),
        }
    }
}

/// Examines every file of a data set in `data_dir/NAME`.
///
/// # Errors
/// Returns an error if a file exists but cannot be read.
pub fn verify(dataset: DatasetName, data_dir: &Path) -> Result<Report> {
    let folder = data_dir.join(dataset.name());
    let look = |&name: &&'static str| {
        let stored = files::find(&folder, name)?;
        let path = stored.as_ref().map(|stored| stored.path.clone());
        let finding = match stored.map(files::Stored::unpack) {
            None => Finding::Missing,
            Some(Err(problem)) => Finding::Broken(problem),
            Some(Ok(content)) => examine(dataset, name, &content),
        };
        Ok(FileReport {
            name,
            path,
            finding,
        })
    };
    let files = files::names(dataset)
        .iter()
        .map(look)
        .collect::<Result<_>>()?;
    Ok(Report { dataset, files })
}

/// Compares the unpacked content of the file `name` with the canonical one.
pub fn examine(dataset: DatasetName, name: &str, content: &[u8]) -> Finding {
    let of = canonical::rows(name);
    match rows(dataset, name, content) {
        Err(problem) => Finding::Broken(problem),
        Ok(rows) if rows < of => Finding::Partial { rows, of },
        Ok(_) => compare(canonical::sha256(dataset, name), content),
    }
}

fn rows(dataset: DatasetName, name: &str, content: &[u8]) -> Result<usize, Malformed> {
    match dataset {
        DatasetName::Cifar10 => cifar::rows(content),
        _ if name.contains("labels") => idx::labels(content, CLASSES).map(<[u8]>::len),
        _ => idx::images(content).map(|images| images.count),
    }
}

fn compare(expected: Option<&'static str>, content: &[u8]) -> Finding {
    let Some(expected) = expected else {
        return Finding::WellFormed;
    };
    let found = sha256(content);
    if found == expected {
        Finding::Canonical
    } else {
        Finding::Different { expected, found }
    }
}

/// SHA-256 as a hexadecimal string.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
