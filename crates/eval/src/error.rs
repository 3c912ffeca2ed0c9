/// The result of evaluating.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong while evaluating.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings, or the output folder, cannot be used.
    #[error("{0}")]
    Settings(String),

    /// A figure cannot be drawn.
    #[error(transparent)]
    Plot(#[from] lopt_plot::Error),

    /// Someone asked to stop; what was finished is kept.
    #[error("stopped; the finished tasks are kept, and the same command goes on from there")]
    Stopped,

    /// A task cannot be made.
    #[error(transparent)]
    Task(#[from] lopt_tasks::Error),

    /// A file, tensor or optimizer failed.
    #[error(transparent)]
    Core(#[from] lopt_core::Error),
}
