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

/// Returns an error if a size in the configuration's `key` is 0.
pub(crate) fn at_least_1(key: &str, sizes: &[usize]) -> Result<()> {
    match sizes {
        [0] => Err(Error::Config(format!(
            "`{key}` is 0; it must be at least 1"
        ))),
        _ if sizes.contains(&0) => Err(Error::Config(format!(
            "`{key}` is {sizes:?}; each entry must be at least 1"
        ))),
        _ => Ok(()),
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
