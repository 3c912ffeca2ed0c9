/// The result of an evaluation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of an evaluation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings or the output folder cannot be used; the message names the value or folder.
    #[error("{0}")]
    Settings(String),

    /// The data of all tasks are missing; the message says how to get them.
    #[error("nothing was evaluated: {0}")]
    NothingEvaluated(String),

    /// A figure cannot be drawn.
    #[error(transparent)]
    Plot(#[from] lopt_plot::Error),

    /// The caller asked to stop. Finished tasks and long training runs are kept.
    #[error("stopped; what is finished is kept, and the same evaluation resumes after it")]
    Stopped,

    /// `report.csv` cannot be written.
    #[error("cannot write report.csv")]
    Csv(#[from] csv::Error),

    /// A task cannot be built or run.
    #[error(transparent)]
    Task(#[from] lopt_tasks::Error),

    /// A file, tensor or optimizer failed.
    #[error(transparent)]
    Core(#[from] lopt_core::Error),
}
