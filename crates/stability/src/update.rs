use nalgebra::{Complex, DMatrix, DVector};

use crate::{
    Error, Quadratic, Result,
    eigen::{check_square, eigenvalues, spectral_radius},
};

/// A moving average of gradients, m ← β·m + c·∇, \[n\]. The step includes B·m with the new m.
#[derive(Clone, Debug, PartialEq)]
pub struct Hidden {
    /// The decay β. An average with |β| < 1 is stable by itself.
    pub decay: f64,
    /// The input factor c: 1 for a velocity, 1 − β for an exponential moving average.
    pub input: f64,
    /// The weight B, \[n, n\].
    pub weight: DMatrix<f64>,
}

/// A linear optimizer,
///
/// φ ← φ − D·\[(αI + P)·∇ + Σᵢ Bᵢ·mᵢ\],
///
/// with the nominal step size α, the learned matrix P, the preconditioner D, and averages mᵢ
/// with weights Bᵢ. See section 3 of arXiv 2209.11208.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearUpdate {
    /// The nominal step size α.
    pub nominal: f64,
    /// The learned matrix P, \[n, n\].
    pub learned: DMatrix<f64>,
    /// The preconditioner D, \[n, n\]; `None` for the identity.
    pub preconditioner: Option<DMatrix<f64>>,
    /// The averages mᵢ and their weights Bᵢ.
    pub hidden: Vec<Hidden>,
}

impl LinearUpdate {
    /// φ ← φ − (αI + P)·∇: gradient descent with step size α plus a learned term P \[n, n\].
    pub fn new(nominal: f64, learned: DMatrix<f64>) -> Self {
        Self {
            nominal,
            learned,
            preconditioner: None,
            hidden: vec![],
        }
    }

    /// Preconditions the whole step with D, \[n, n\].
    pub fn preconditioned(self, preconditioner: DMatrix<f64>) -> Self {
        Self {
            preconditioner: Some(preconditioner),
            ..self
        }
    }

    /// Heavy ball in n dimensions: u ← μu + ∇, φ ← φ − ηu, with η = `step_size`, μ = `decay`.
    pub fn heavy_ball(n: usize, step_size: f64, decay: f64) -> Self {
        Self::agg_mo(n, step_size, &[decay])
    }

    /// AggMo with K velocities: uᵢ ← μᵢuᵢ + ∇, φ ← φ − η/K·Σᵢ uᵢ, with η = `step_size` and
    /// `decays` μ₁ … μ_K (Lucas et al., arXiv 1804.00325).
    pub fn agg_mo(n: usize, step_size: f64, decays: &[f64]) -> Self {
        let share = step_size / decays.len().max(1) as f64;
        let velocity = |&decay: &f64| Hidden {
            decay,
            input: 1.0,
            weight: DMatrix::from_diagonal_element(n, n, share),
        };
        Self {
            hidden: decays.iter().map(velocity).collect(),
            ..Self::new(0.0, DMatrix::zeros(n, n))
        }
    }

    /// Adds B·m to the step, with the exponential moving average m ← βm + (1 − β)∇, β = `decay`
    /// and B = `weight`, \[n, n\].
    pub fn with_average(mut self, decay: f64, weight: DMatrix<f64>) -> Self {
        self.hidden.push(Hidden {
            decay,
            input: 1.0 - decay,
            weight,
        });
        self
    }

    pub(crate) fn check(&self, n: usize) -> Result<()> {
        let mut matrices = vec![(&self.learned, "the learned matrix P")];
        matrices.extend(
            self.preconditioner
                .iter()
                .map(|d| (d, "the preconditioner D")),
        );
        let weights = self
            .hidden
            .iter()
            .map(|h| (&h.weight, "the weight B of an average"));
        matrices.extend(weights);
        for (matrix, what) in matrices {
            check_square(matrix, what)?;
            if matrix.nrows() != n {
                return Err(Error::Unfit(format!(
                    "{what} is {0}×{0}, but the model has {n} dimensions",
                    matrix.nrows()
                )));
            }
        }
        let numbers = self.hidden.iter().flat_map(|h| [h.decay, h.input]);
        if numbers.chain([self.nominal]).any(|x| !x.is_finite()) {
            return Err(Error::Unfit(
                "the step size, decays and inputs must be finite".to_owned(),
            ));
        }
        Ok(())
    }
}

/// A linear optimizer on the noisy quadratic model, as a linear system in the parameters and
/// averages z = (φ, m₁, …, m_K):
///
/// z_{t+1} = M·z_t + N·ξ_t, N = (I − M)·(I, 0, …, 0)ᵀ.
///
/// z is \[n·(1 + K)\], M is \[n·(1 + K), n·(1 + K)\], and N is \[n·(1 + K), n\]. Without averages,
/// M = A = I − D(αI + P)H.
#[derive(Clone, Debug)]
pub struct Dynamics {
    model: Quadratic,
    matrix: DMatrix<f64>,
    noise_input: DMatrix<f64>,
}

impl Dynamics {
    /// Creates the joint dynamics of `update` on `model`.
    ///
    /// # Errors
    /// Returns an error if a matrix of the update is not \[n, n\], or a value is not finite.
    pub fn new(model: &Quadratic, update: &LinearUpdate) -> Result<Self> {
        let n = model.dimension();
        update.check(n)?;
        let size = n * (1 + update.hidden.len());
        let identity = DMatrix::<f64>::identity(n, n);
        let preconditioner = update.preconditioner.as_ref().unwrap_or(&identity);
        // The factor of ∇ = Hφ in the step, including the part that enters through the averages.
        let mut of_gradient = &update.learned + &identity * update.nominal;
        let mut matrix = DMatrix::zeros(size, size);
        for (i, hidden) in update.hidden.iter().enumerate() {
            let at = n * (1 + i);
            of_gradient += &hidden.weight * hidden.input;
            let own = preconditioner * &hidden.weight * -hidden.decay;
            matrix.view_mut((0, at), (n, n)).copy_from(&own);
            let taken = model.hessian() * hidden.input;
            matrix.view_mut((at, 0), (n, n)).copy_from(&taken);
            let kept = &identity * hidden.decay;
            matrix.view_mut((at, at), (n, n)).copy_from(&kept);
        }
        let of_params = &identity - preconditioner * of_gradient * model.hessian();
        matrix.view_mut((0, 0), (n, n)).copy_from(&of_params);
        let noise_input = DMatrix::identity(size, n) - matrix.columns(0, n);
        Ok(Self {
            model: model.clone(),
            matrix,
            noise_input,
        })
    }

    /// The quadratic model.
    pub fn model(&self) -> &Quadratic {
        &self.model
    }

    /// The matrix M, \[n·(1 + K), n·(1 + K)\].
    pub fn matrix(&self) -> &DMatrix<f64> {
        &self.matrix
    }

    /// The matrix N, \[n·(1 + K), n\].
    pub fn noise_input(&self) -> &DMatrix<f64> {
        &self.noise_input
    }

    /// All eigenvalues of M, in descending order of absolute value.
    ///
    /// # Errors
    /// Returns the errors of [`crate::eigenvalues`].
    pub fn eigenvalues(&self) -> Result<Vec<Complex<f64>>> {
        eigenvalues(&self.matrix)
    }

    /// ρ(M). Below 1, the mean of z converges to 0 and its covariance to
    /// [`Dynamics::stationary_covariance`]; above 1, both diverge from almost every start.
    ///
    /// # Errors
    /// Returns the errors of [`crate::eigenvalues`].
    pub fn spectral_radius(&self) -> Result<f64> {
        spectral_radius(&self.matrix)
    }

    /// z₀ = (φ₀, 0, …, 0) for φ₀ = `params`, \[n\].
    ///
    /// # Errors
    /// Returns an error if φ₀ does not have the dimension of the model.
    pub fn start(&self, params: &DVector<f64>) -> Result<DVector<f64>> {
        let n = self.model.dimension();
        if params.len() != n {
            return Err(Error::Unfit(format!(
                "φ₀ has {} entries, but the model has {n} dimensions",
                params.len()
            )));
        }
        let mut joint = DVector::zeros(self.matrix.nrows());
        joint.rows_mut(0, n).copy_from(params);
        Ok(joint)
    }

    /// One step, z ← M·z + N·ξ.
    ///
    /// # Panics
    /// Panics if z is not \[n·(1 + K)\] or ξ is not \[n\].
    pub fn step(&self, joint: &DVector<f64>, noise: &DVector<f64>) -> DVector<f64> {
        &self.matrix * joint + &self.noise_input * noise
    }

    /// The parameters φ, \[n\], of z.
    ///
    /// # Panics
    /// Panics if z has fewer than n entries.
    pub fn params(&self, joint: &DVector<f64>) -> DVector<f64> {
        joint.rows(0, self.model.dimension()).into_owned()
    }
}
