/// The result of making tasks.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a task cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Its data cannot be had.
    #[error(transparent)]
    Data(#[from] lopt_datasets::Error),

    /// Its configuration makes no sense.
    #[error("{0}")]
    Config(String),

    /// A tensor operation failed.
    #[error(transparent)]
    Core(#[from] lopt_core::Error),
}

impl Error {
    /// Whether the data are just not there, so that a suite may skip the task.
    pub fn is_missing_data(&self) -> bool {
        matches!(self, Error::Data(error) if error.is_missing())
    }
}
