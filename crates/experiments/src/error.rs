use std::path::PathBuf;

/// The result of an experiment.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of an experiment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller asked to stop. What was finished is kept.
    #[error("stopped; the same experiment resumes from there")]
    Stopped,

    /// A setting of the experiment cannot be used; the message says which and why.
    #[error("{0}")]
    Settings(String),

    /// A meta-training can neither be started nor resumed in its directory.
    #[error(
        "cannot start or resume the meta-training in {}; remove it to start again",
        path.display()
    )]
    MetaTraining {
        /// The run directory.
        path: PathBuf,
        /// The reason.
        source: lopt_meta::Error,
    },

    /// The directory of a meta-training holds a run of another configuration.
    #[error(
        "{} is a run of another configuration, perhaps by another version of the program; remove \
         it or use another output folder",
        path.display()
    )]
    OtherConfiguration {
        /// The run directory.
        path: PathBuf,
    },

    /// The metrics of a meta-training cannot be parsed.
    #[error("cannot parse {}", path.display())]
    Metrics {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: serde_json::Error,
    },

    /// The metrics of a finished meta-training lack some of its held-out evaluations.
    #[error(
        "the metrics.jsonl of {} lacks some of the held-out evaluations; remove the run to repeat it",
        path.display()
    )]
    MissingMetrics {
        /// The run directory.
        path: PathBuf,
    },

    /// A table cannot be written as CSV.
    #[error("cannot write a table as CSV")]
    Csv(#[from] csv::Error),

    /// A meta-training or gradient estimate failed.
    #[error(transparent)]
    Meta(#[from] lopt_meta::Error),

    /// An evaluation failed.
    #[error(transparent)]
    Eval(lopt_eval::Error),

    /// A study of stability failed.
    #[error(transparent)]
    Stability(#[from] lopt_stability::Error),

    /// A task cannot be built or run.
    #[error(transparent)]
    Task(#[from] lopt_tasks::Error),

    /// A file, tensor or optimizer failed.
    #[error(transparent)]
    Core(#[from] lopt_core::Error),
}

impl From<lopt_eval::Error> for Error {
    fn from(error: lopt_eval::Error) -> Self {
        match error {
            lopt_eval::Error::Stopped => Error::Stopped,
            other => Error::Eval(other),
        }
    }
}
