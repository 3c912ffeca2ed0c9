use thiserror::Error as ThisError;

/// What can go wrong.
#[derive(Debug, ThisError)]
pub enum Error {
    /// A matrix or number does not fit.
    #[error("{0}")]
    Unfit(String),
    /// An iteration did not arrive.
    #[error(
        "the eigenvalues of a {0}×{0} matrix were not found: the QR iteration did not converge"
    )]
    NoEigenvalues(usize),
    /// There is no stationary state.
    #[error("there is no stationary covariance: the spectral radius is {0}, not below 1")]
    Unstable(f64),
    /// Of the task or the optimizer.
    #[error(transparent)]
    Core(#[from] lopt_core::Error),
    /// Of the adjoint of an inner step.
    #[error(transparent)]
    Meta(#[from] lopt_meta::Error),
    /// Of candle.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// [`std::result::Result`] with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
