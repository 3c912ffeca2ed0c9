use lopt_core::Rng;
use nalgebra::{DMatrix, DVector, SymmetricEigen};
use rand_distr::{Distribution, StandardNormal};

use crate::{
    Error, Result,
    eigen::{check_symmetric, symmetric_eigenvalues},
};

/// The noisy quadratic model in n dimensions:
///
/// ℓ_t(φ) = ½ (φ − ξ_t)ᵀ H (φ − ξ_t), ξ_t ~ N(0, Σ), independent for each step,
///
/// with the gradient ∇_t = H (φ − ξ_t); φ and ξ are \[n\], H and Σ are \[n, n\]. See section 3 of
/// arXiv 2209.11208.
#[derive(Clone, Debug)]
pub struct Quadratic {
    hessian: DMatrix<f64>,
    noise: DMatrix<f64>,
    /// R with R·Rᵀ = Σ.
    noise_root: DMatrix<f64>,
    /// λ_min(H), λ_max(H).
    extremes: (f64, f64),
}

impl Quadratic {
    /// Creates the model with H = `hessian`, symmetric and positive definite, and Σ = `noise`,
    /// symmetric and positive semidefinite, both \[n, n\].
    ///
    /// # Errors
    /// Returns an error if H or Σ lacks one of these properties, if their sizes differ, or n = 0.
    pub fn new(hessian: DMatrix<f64>, noise: DMatrix<f64>) -> Result<Self> {
        check_symmetric(&hessian, "the Hessian H")?;
        check_symmetric(&noise, "the noise covariance Σ")?;
        if hessian.shape() != noise.shape() || hessian.is_empty() {
            return Err(Error::Unfit(format!(
                "H is {0}×{0} and Σ is {1}×{1}; both must be n×n with n ≥ 1",
                hessian.nrows(),
                noise.nrows()
            )));
        }
        let of_hessian = symmetric_eigenvalues(&hessian);
        let extremes = (of_hessian[0], of_hessian[of_hessian.len() - 1]);
        if extremes.0 <= 0.0 {
            return Err(Error::Unfit(format!(
                "the Hessian H must be positive definite; its smallest eigenvalue is {}",
                extremes.0
            )));
        }
        let of_noise = SymmetricEigen::new(noise.clone());
        let lowest = of_noise.eigenvalues.min();
        if lowest < -1e-12 * noise.amax() {
            return Err(Error::Unfit(format!(
                "the noise covariance Σ must be positive semidefinite; its smallest eigenvalue is \
                 {lowest}"
            )));
        }
        let roots = of_noise.eigenvalues.map(|v| v.max(0.0).sqrt());
        let noise_root = of_noise.eigenvectors * DMatrix::from_diagonal(&roots);
        Ok(Self {
            hessian,
            noise,
            noise_root,
            extremes,
        })
    }

    /// The dimension n.
    pub fn dimension(&self) -> usize {
        self.hessian.nrows()
    }

    /// The Hessian H, \[n, n\].
    pub fn hessian(&self) -> &DMatrix<f64> {
        &self.hessian
    }

    /// (λ_min(H), λ_max(H)).
    pub fn curvatures(&self) -> (f64, f64) {
        self.extremes
    }

    /// The noise covariance Σ, \[n, n\].
    pub fn noise(&self) -> &DMatrix<f64> {
        &self.noise
    }

    /// Draws ξ ~ N(0, Σ), \[n\].
    pub fn sample(&self, rng: &mut Rng) -> DVector<f64> {
        let draw = DVector::from_fn(self.dimension(), |_, _| StandardNormal.sample(rng));
        &self.noise_root * draw
    }

    /// ℓ = ½ (φ − ξ)ᵀ H (φ − ξ).
    ///
    /// # Panics
    /// Panics if φ or ξ is not \[n\].
    pub fn loss(&self, params: &DVector<f64>, noise: &DVector<f64>) -> f64 {
        let distance = params - noise;
        0.5 * distance.dot(&(&self.hessian * &distance))
    }

    /// ∇ = H (φ − ξ), \[n\].
    ///
    /// # Panics
    /// Panics if φ or ξ is not \[n\].
    pub fn gradient(&self, params: &DVector<f64>, noise: &DVector<f64>) -> DVector<f64> {
        &self.hessian * (params - noise)
    }

    /// E ℓ = ½ \[tr(H·S) + tr(H·Σ)\], where S = E φφᵀ is \[n, n\] and ξ is independent of φ.
    ///
    /// # Panics
    /// Panics if S is not \[n, n\].
    pub fn expected_loss(&self, second_moment: &DMatrix<f64>) -> f64 {
        0.5 * (self.hessian.dot(second_moment) + self.hessian.dot(&self.noise))
    }
}
