use std::path::PathBuf;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why data cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A full data set is not in its folder.
    #[error(
        "{dataset}: no {} (nor {file}.gz); run `cargo xtask data fetch {dataset}`, or name a \
         folder that holds {dataset}/{file} by --data-dir or LOPT_DATA_DIR",
        folder.join(file).display()
    )]
    Missing {
        /// Which data set.
        dataset: &'static str,
        /// Where it was looked for.
        folder: PathBuf,
        /// The first file that is missing.
        file: String,
    },

    /// A data set that does not come with the program.
    #[error(
        "{0} does not come with the program; ask for source \"full\" and run `cargo xtask data \
         fetch {0}`"
    )]
    NotEmbedded(&'static str),

    /// A file is not what it should be.
    #[error(
        "{}: {problem}; take another copy, for example by `cargo xtask data fetch`",
        path.display()
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// The system refused to read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },

    /// An image size that reduction cannot give.
    #[error(
        "image size {size}: images of {from}×{from} can be reduced to 1 to {from} pixels a side"
    )]
    ImageSize {
        /// As asked.
        size: usize,
        /// The images' own.
        from: usize,
    },
}

impl Error {
    /// Whether the data are just not there, so that a suite may go on without them.
    pub fn is_missing(&self) -> bool {
        matches!(self, Error::Missing { .. } | Error::NotEmbedded(_))
    }
}
