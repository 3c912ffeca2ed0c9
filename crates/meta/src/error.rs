/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of meta-training. The message says what failed, where, and how to fix it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is not valid; the message names the value and the reason.
    #[error("{0}")]
    Config(String),

    /// The run directory cannot be used.
    #[error("run directory {}: {problem}", path.display())]
    RunDir {
        /// The run directory.
        path: std::path::PathBuf,
        /// What is wrong and how to fix it.
        problem: String,
    },

    /// θ is no longer finite; checkpoints contain only finite θ.
    #[error(
        "θ overflowed in outer step {outer_step}; start again with a smaller outer.learning-rate or \
         outer.weight-decay"
    )]
    Diverged {
        /// The outer step that failed; the first is 1.
        outer_step: u64,
    },

    /// Another rank cannot be reached or sent invalid data.
    #[error("{0}")]
    Ranks(String),

    /// A task or its data failed.
    #[error(transparent)]
    Task(#[from] lopt_tasks::Error),

    /// A file, tensor operation or optimizer failed.
    #[error(transparent)]
    Core(#[from] lopt_core::Error),
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Error::Core(error.into())
    }
}
