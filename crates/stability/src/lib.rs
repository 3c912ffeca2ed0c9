//! Why learned optimizers diverge and what keeps them stable: the first half of Harrison, Metz
//! and Sohl-Dickstein (arXiv 2209.11208).
//!
//! * [`Quadratic`] is the noisy quadratic model ℓ_t(φ) = ½ (φ − ξ_t)ᵀ H (φ − ξ_t) in any
//!   dimension, and [`LinearUpdate`] an optimizer that is linear in the gradients and their
//!   moving averages. Together they form [`Dynamics`], a linear system whose spectral radius
//!   decides stability. Mean, covariance, stationary covariance and expected losses are exact, and
//!   so is the gradient of the meta-loss with respect to the learned matrix
//!   ([`expected_meta_gradient`]).
//! * [`conditions`]: the paper's theorems, their assumptions, and the cases they leave open.
//! * [`studies`]: the parameter sweeps behind the stability figures.
//! * [`training`]: the stability of a real optimizer in a training run, by linearization.
//!
//! ```
//! use lopt_stability::{Dynamics, LinearUpdate, Quadratic, conditions};
//! use nalgebra::{DMatrix, dmatrix};
//!
//! let model = Quadratic::new(dmatrix![1.0, 0.2; 0.2, 0.5], DMatrix::identity(2, 2))?;
//! let learned = dmatrix![-0.3, 0.1; 0.1, 0.4];
//! // Unstable alone, stable in sum with gradient descent of step size 0.5.
//! let alone = Dynamics::new(&model, &LinearUpdate::new(0.0, learned.clone()))?;
//! let with_nominal = Dynamics::new(&model, &LinearUpdate::new(0.5, learned.clone()))?;
//! assert!(alone.spectral_radius()? > 1.0 && with_nominal.spectral_radius()? < 1.0);
//! let bounds = conditions::nominal(0.5, model.curvatures())?;
//! assert!(bounds.verdict_of(&learned)?.is_stable());
//! # Ok::<(), lopt_stability::Error>(())
//! ```

mod arnoldi;
pub mod conditions;
mod eigen;
mod error;
mod meta_gradient;
mod moments;
mod quadratic;
pub mod studies;
pub mod training;
mod update;

pub use arnoldi::{Effort, Leading, leading_eigenvalues};
pub use eigen::{eigenvalues, spectral_radius};
pub use error::{Error, Result};
pub use meta_gradient::{MetaGradient, expected_meta_gradient, sampled_meta_gradient};
pub use moments::{Moments, Trajectory};
pub use quadratic::Quadratic;
pub use update::{Dynamics, Hidden, LinearUpdate};
