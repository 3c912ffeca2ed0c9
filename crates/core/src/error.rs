use std::path::{Path, PathBuf};

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate. The message says what failed, where, and how to fix it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),

    /// A gradient is not finite or too large; it would corrupt the accumulators for all later
    /// steps.
    #[error(
        "the gradient of parameter `{param}` {what}; the step was refused and nothing was changed. \
         Look for a diverged loss or a division by zero in the model, or configure the optimizer \
         to skip such steps"
    )]
    BadGradient {
        /// The name of the parameter.
        param: String,
        /// What is wrong with its gradient.
        what: &'static str,
    },

    /// Parameters, gradients, state or θ do not match each other.
    #[error("{0}")]
    Mismatch(String),

    /// A setting of an optimizer is out of range; the message names it.
    #[error("{0}")]
    Setting(String),

    /// The operating system reported an error.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The attempted action: "read", "write", "create".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },

    /// The content of a file is not valid.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and how to fix it.
        problem: String,
    },

    /// A device is not available.
    #[error("device `{device}`: {problem}")]
    Device {
        /// The name that the user gave.
        device: String,
        /// Why it is not available, and how to fix it.
        problem: String,
    },
}

impl Error {
    /// The error for a state whose slots do not match the optimizer and parameters.
    pub fn other_state() -> Error {
        let problem = "the optimizer's state belongs to other parameters or to another optimizer";
        Error::Mismatch(problem.to_owned())
    }

    /// The error for a setting of an optimizer, such as "β₁", that does not have a value in `range`.
    pub fn setting(optimizer: &str, name: &str, value: f64, range: &str) -> Error {
        Error::Setting(format!(
            "{name} of {optimizer} is {value}; it must be {range}"
        ))
    }

    /// Whether this is [`Error::BadGradient`]: state and parameters are unchanged, and training can
    /// continue.
    pub fn is_bad_gradient(&self) -> bool {
        matches!(self, Error::BadGradient { .. })
    }

    /// Returns a function that makes an [`Error::Io`], for `map_err`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io {
            action,
            path,
            source,
        }
    }

    /// Creates an [`Error::File`].
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
