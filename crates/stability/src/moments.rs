use lopt_core::Rng;
use nalgebra::{DMatrix, DVector};

use crate::{Dynamics, Error, Result};

/// The Gaussian distribution of z = (φ, m₁, …, m_K) after some number of steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// E z, \[n·(1 + K)\].
    pub mean: DVector<f64>,
    /// Cov z, \[n·(1 + K), n·(1 + K)\].
    pub covariance: DMatrix<f64>,
}

/// A simulated training run of T steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Trajectory {
    /// φ_0 … φ_T, each \[n\].
    pub params: Vec<DVector<f64>>,
    /// ℓ_0(φ_0) … ℓ_{T−1}(φ_{T−1}).
    pub losses: Vec<f64>,
}

impl Dynamics {
    /// Simulates `steps` steps from φ₀ = `params`, \[n\].
    ///
    /// # Errors
    /// Returns an error if φ₀ does not have the dimension of the model.
    pub fn simulate(
        &self,
        params: &DVector<f64>,
        steps: usize,
        rng: &mut Rng,
    ) -> Result<Trajectory> {
        let mut joint = self.start(params)?;
        let mut trajectory = Trajectory {
            params: vec![params.clone()],
            losses: vec![],
        };
        for _ in 0..steps {
            let noise = self.model().sample(rng);
            let before = &trajectory.params[trajectory.losses.len()];
            trajectory.losses.push(self.model().loss(before, &noise));
            joint = self.step(&joint, &noise);
            trajectory.params.push(self.params(&joint));
        }
        Ok(trajectory)
    }

    /// E z_t = Mᵗ z₀ and Cov z_t = Σ_{k<t} Mᵏ N Σ Nᵀ (Mᵏ)ᵀ for t = 0 … `steps`, from
    /// φ₀ = `params`, \[n\].
    ///
    /// # Errors
    /// Returns an error if φ₀ does not have the dimension of the model.
    pub fn moments(&self, params: &DVector<f64>, steps: usize) -> Result<Vec<Moments>> {
        let size = self.matrix().nrows();
        let mut all = vec![Moments {
            mean: self.start(params)?,
            covariance: DMatrix::zeros(size, size),
        }];
        let fresh = self.fresh_covariance();
        for t in 0..steps {
            let before = &all[t];
            let mean = self.matrix() * &before.mean;
            let covariance = self.matrix() * &before.covariance * self.matrix().transpose();
            all.push(Moments {
                mean,
                covariance: covariance + &fresh,
            });
        }
        Ok(all)
    }

    /// N Σ Nᵀ, which the noise of one step adds to the covariance.
    pub(crate) fn fresh_covariance(&self) -> DMatrix<f64> {
        self.noise_input() * self.model().noise() * self.noise_input().transpose()
    }

    /// E ℓ_t(φ_t) for t = 0 … `steps` − 1, from φ₀ = `params`, \[n\].
    ///
    /// # Errors
    /// Returns an error if φ₀ does not have the dimension of the model.
    pub fn expected_losses(&self, params: &DVector<f64>, steps: usize) -> Result<Vec<f64>> {
        let n = self.model().dimension();
        let loss = |moments: &Moments| {
            let mean = moments.mean.rows(0, n);
            let second = moments.covariance.view((0, 0), (n, n)) + mean * mean.transpose();
            self.model().expected_loss(&second)
        };
        Ok(self.moments(params, steps)?[..steps]
            .iter()
            .map(loss)
            .collect())
    }

    /// The solution X of the discrete Lyapunov equation X = M X Mᵀ + N Σ Nᵀ: the limit of
    /// Cov z_t for t → ∞.
    ///
    /// Computed by doubling, X ← X + B X Bᵀ, B ← B², from X = NΣNᵀ and B = M, which sums 2ᵏ terms
    /// of the series in k iterations.
    ///
    /// # Errors
    /// Returns [`Error::Unstable`] if ρ(M) ≥ 1, or so close to 1 that the sum does not converge in
    /// f64.
    pub fn stationary_covariance(&self) -> Result<DMatrix<f64>> {
        let radius = self.spectral_radius()?;
        if radius >= 1.0 {
            return Err(Error::Unstable(radius));
        }
        let fresh = self.fresh_covariance();
        let (mut sum, mut power) = (fresh, self.matrix().clone());
        // ρ^(2^64) is 0 for every f64 ρ below 1.
        for _ in 0..64 {
            let more = &power * &sum * power.transpose();
            sum += &more;
            if !sum.iter().all(|x| x.is_finite()) {
                return Err(Error::Unstable(radius));
            }
            if more.amax() <= f64::EPSILON * sum.amax() {
                return Ok(sum);
            }
            power = &power * &power;
        }
        Err(Error::Unstable(radius))
    }
}
