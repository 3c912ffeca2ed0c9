use std::path::{Path, PathBuf};

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, with what, where and the way out in its message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),

    /// A gradient that would poison the optimizer's accumulators for good.
    #[error(
        "the gradient of parameter `{param}` {what}; the step was refused and nothing was changed. \
         Look for a diverged loss or a division by zero in the model, or ask the optimizer to skip such steps"
    )]
    BadGradient {
        /// Name of the parameter.
        param: String,
        /// What is wrong with its gradient.
        what: &'static str,
    },

    /// Parameters, gradients, state or θ do not fit together.
    #[error("{0}")]
    Mismatch(String),

    /// The operating system refused to read or write.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: "read", "write", "create".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },

    /// A file is not what it should be.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },

    /// A device that cannot be had.
    #[error("device `{device}`: {problem}")]
    Device {
        /// As the user named it.
        device: String,
        /// Why not, and what to do.
        problem: String,
    },
}

impl Error {
    /// A state whose slots are not those of the optimizer and parameters at hand.
    pub fn other_state() -> Error {
        let problem = "the optimizer's state belongs to other parameters or to another optimizer";
        Error::Mismatch(problem.to_owned())
    }

    /// Whether this is a refused gradient: the step did not happen, state and parameters
    /// are as before, and training may go on.
    pub fn is_bad_gradient(&self) -> bool {
        matches!(self, Error::BadGradient { .. })
    }

    /// An [`Error::Io`], for `map_err`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io {
            action,
            path,
            source,
        }
    }

    /// An [`Error::File`].
    pub fn file(path: &Path, problem: impl Into<String>) -> Error {
        Error::File {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(error) => error,
            other => candle_core::Error::wrap(other),
        }
    }
}
