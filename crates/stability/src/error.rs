use thiserror::Error as ThisError;

/// An error of this crate: what failed, in which matrix or number, and what it should be.
#[derive(Debug, ThisError)]
pub enum Error {
    /// A matrix or number is invalid.
    #[error("{0}")]
    Unfit(String),
    /// The QR iteration for the eigenvalues of a matrix of this size did not converge.
    #[error(
        "cannot compute the eigenvalues of a {0}×{0} matrix: the QR iteration did not converge"
    )]
    NoEigenvalues(usize),
    /// The dynamics with this spectral radius have no stationary covariance.
    #[error("there is no stationary covariance: the spectral radius is {0}, not below 1")]
    Unstable(f64),
    /// The task or the optimizer failed.
    #[error(transparent)]
    Core(#[from] lopt_core::Error),
    /// Linearizing an inner step failed.
    #[error(transparent)]
    Meta(#[from] lopt_meta::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// [`std::result::Result`] with [`Error`] as the default error.
pub type Result<T, E = Error> = std::result::Result<T, E>;
