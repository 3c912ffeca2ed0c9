//! What the files of a data set are, compared with the published ones.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{CLASSES, DatasetName, Malformed, Result, canonical, cifar, files, idx};

/// What was found of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which.
    pub dataset: DatasetName,
    /// One for each canonical file.
    pub files: Vec<FileReport>,
}

/// What was found of one file of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// Its canonical name.
    pub name: &'static str,
    /// Where it is, raw or gzipped.
    pub path: Option<PathBuf>,
    /// How it is.
    pub finding: Finding,
}

/// How a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The canonical content.
    Canonical,
    /// Well-formed and as long as the canonical file, for which no checksum is known.
    WellFormed,
    /// Well-formed, with fewer images than the canonical file.
    Partial {
        /// How many there are.
        rows: usize,
        /// How many the canonical file has.
        of: usize,
    },
    /// Well-formed, but other content than the canonical one.
    Different {
        /// The canonical SHA-256.
        expected: &'static str,
        /// This file's.
        found: String,
    },
    /// Not well-formed.
    Broken(Malformed),
    /// Not there.
    Missing,
}

impl Report {
    /// Whether none of the files is there.
    pub fn is_missing(&self) -> bool {
        self.files
            .iter()
            .all(|file| file.finding == Finding::Missing)
    }

    /// Whether all files are there, with all of their images, and none is known to differ
    /// from the published one.
    pub fn is_complete(&self) -> bool {
        let whole = |finding: &Finding| matches!(finding, Finding::Canonical | Finding::WellFormed);
        self.files.iter().all(|file| whole(&file.finding))
    }

    /// Whether the data set can be loaded: its necessary files are there, well-formed, and
    /// fit together.
    pub fn is_loadable(&self) -> bool {
        let images: Vec<Option<usize>> = self.files.iter().map(FileReport::images).collect();
        let broken = |file: &FileReport| matches!(file.finding, Finding::Broken(_));
        !self.files.iter().any(broken)
            && match images.as_slice() {
                [batches @ .., test] if self.dataset == DatasetName::Cifar10 => {
                    test.is_some() && batches.iter().any(Option::is_some)
                }
                // Images and their labels.
                pairs => pairs
                    .chunks(2)
                    .all(|pair| pair[0].is_some() && pair.iter().all(|count| *count == pair[0])),
            }
    }

    /// Whether nothing is wrong: no file is damaged or other than the published one, and
    /// if there is any, the data set can be loaded.
    pub fn is_sound(&self) -> bool {
        let differs = |file: &FileReport| matches!(file.finding, Finding::Different { .. });
        self.is_missing() || self.is_loadable() && !self.files.iter().any(differs)
    }
}

impl FileReport {
    /// How many images the file has, as far as it can be told.
    fn images(&self) -> Option<usize> {
        match self.finding {
            Finding::Partial { rows, .. } => Some(rows),
            Finding::Missing | Finding::Broken(_) => None,
            _ => Some(canonical::rows(self.name)),
        }
    }
}

/// Looks at every file of a data set in `data_dir/NAME`.
///
/// # Errors
/// If the system refuses to read one that is there.
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

/// How the unpacked content of one file is.
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

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
