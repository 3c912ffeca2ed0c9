/// The result of creating tasks.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A task or a task family could not be created.
///
/// The message says which value or file is wrong and what would be right.
/// [`Error::is_missing_data`] distinguishes data that are not installed from all other errors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data are missing or damaged.
    #[error(transparent)]
    Data(#[from] lopt_datasets::Error),

    /// The configuration is not valid; the message names the key.
    #[error("{0}")]
    Config(String),

    /// A full data set is not the one that a run or evaluation was started with.
    #[error(
        "`{dataset}` is another data set than before: the SHA-256 of its images starts with \
         {found}, not {expected}; use the data of before, or start anew in another folder"
    )]
    OtherData {
        /// The data set.
        dataset: lopt_datasets::DatasetName,
        /// The start of the checksum of before.
        expected: String,
        /// The start of the checksum of now.
        found: String,
    },

    /// A tensor operation failed.
    #[error(transparent)]
    Core(#[from] lopt_core::Error),
}

impl Error {
    /// Whether the data set is not installed, so that a suite may skip the task.
    pub fn is_missing_data(&self) -> bool {
        matches!(self, Error::Data(error) if error.is_missing())
    }

    /// The same error, where a configuration's message starts with `place`.
    pub(crate) fn within(self, place: &str) -> Self {
        match self {
            Error::Config(text) => Error::Config(format!("{place}: {text}")),
            other => other,
        }
    }
}

/// The largest size in a configuration: no network here needs more, and the memory for a wrong digit
/// too many would not be there.
const LARGEST_SIZE: usize = 65_536;

/// Returns an error if a size in the configuration's `key` is 0 or above [`LARGEST_SIZE`].
pub(crate) fn sizes_in_range(key: &str, sizes: &[usize]) -> Result<()> {
    let range = format!("from 1 to {LARGEST_SIZE}");
    let good = |size: &usize| (1..=LARGEST_SIZE).contains(size);
    match sizes {
        [size] if !good(size) => Err(Error::Config(format!(
            "`{key}` is {size}; it must be {range}"
        ))),
        _ if !sizes.iter().all(good) => Err(Error::Config(format!(
            "`{key}` is {sizes:?}; each entry must be {range}"
        ))),
        _ => Ok(()),
    }
}

/// Returns an error if a number in the configuration's `key`, which may be 0, is above
/// [`LARGEST_SIZE`].
pub(crate) fn at_most_largest(key: &str, number: usize) -> Result<()> {
    match number {
        0..=LARGEST_SIZE => Ok(()),
        _ => Err(Error::Config(format!(
            "`{key}` is {number}; it must be at most {LARGEST_SIZE}"
        ))),
    }
}

/// Returns an error if the list in the configuration's `key` is empty.
pub(crate) fn not_empty<T>(key: &str, list: &[T]) -> Result<()> {
    match list {
        [] => Err(Error::Config(format!(
            "`{key}` is empty; it needs at least one entry"
        ))),
        _ => Ok(()),
    }
}
