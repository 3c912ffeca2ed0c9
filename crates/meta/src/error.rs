/// The result of meta-training.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong while meta-training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot be used; the message says which value and why.
    #[error("{0}")]
    Config(String),

    /// The run directory cannot be used.
    #[error("run directory {}: {problem}", path.display())]
    RunDir {
        /// Which.
        path: std::path::PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },

    /// θ is no longer finite; it was not kept.
    #[error(
        "θ overflowed in the step after outer step {outer_step}; start again with a smaller \
         outer.learning-rate or outer.weight-decay"
    )]
    Diverged {
        /// The last good outer step.
        outer_step: u64,
    },

    /// The other ranks cannot be reached, or what came from one makes no sense.
    #[error("{0}")]
    Ranks(String),

    /// A task cannot be made.
    #[error(transparent)]
    Task(#[from] lopt_tasks::Error),

    /// A file, tensor or optimizer failed.
    #[error(transparent)]
    Core(#[from] lopt_core::Error),
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Error::Core(error.into())
    }
}
