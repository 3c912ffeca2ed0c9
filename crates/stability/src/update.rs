use nalgebra::{Complex, DMatrix, DVector};

use crate::{
    Error, Quadratic, Result,
    eigen::{check_square, eigenvalues, spectral_radius},
};

/// A moving average of gradients, one number for each parameter:
/// m ← decay·m + input·∇, of which the step takes `weight`·m (the new one).
#[derive(Clone, Debug, PartialEq)]
pub struct Hidden {
    /// β; an average with |β| < 1 is stable by itself.
    pub decay: f64,
    /// 1 for a velocity, 1 − β for an exponential moving average.
    pub input: f64,
    /// \[n, n\].
    pub weight: DMatrix<f64>,
}

/// A linear optimizer,
///
/// φ ← φ − D·\[(αI + P)·∇ + Σᵢ Bᵢ·mᵢ\],
///
/// with the nominal step size α, the learned matrix P, the preconditioner D and averages mᵢ.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearUpdate {
    /// α.
    pub nominal: f64,
    /// P \[n, n\].
    pub learned: DMatrix<f64>,
    /// D \[n, n\]; none for the identity.
    pub preconditioner: Option<DMatrix<f64>>,
    /// mᵢ and Bᵢ.
    pub hidden: Vec<Hidden>,
}

impl LinearUpdate {
    /// φ ← φ − (αI + P)·∇: a learned term P beside gradient descent with step size α.
    pub fn new(nominal: f64, learned: DMatrix<f64>) -> Self {
        Self {
            nominal,
            learned,
            preconditioner: None,
            hidden: vec![],
        }
    }

    /// The same with a preconditioner D on all of the step.
    pub fn preconditioned(self, preconditioner: DMatrix<f64>) -> Self {
        Self {
            preconditioner: Some(preconditioner),
            ..self
        }
    }

    /// Heavy ball in n dimensions: u ← μu + ∇, φ ← φ − ηu.
    pub fn heavy_ball(n: usize, step_size: f64, decay: f64) -> Self {
        Self::agg_mo(n, step_size, &[decay])
    }

    /// AggMo of K velocities: uᵢ ← μᵢuᵢ + ∇, φ ← φ − η/K·Σᵢ uᵢ.
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

    /// The same with B times the exponential moving average m ← βm + (1 − β)∇.
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
            .map(|h| (&h.weight, "an average's weight B"));
        matrices.extend(weights);
        for (matrix, what) in matrices {
            check_square(matrix, what)?;
            if matrix.nrows() != n {
                return Err(Error::Unfit(format!(
                    "{what} is {0}×{0}, the model has {n} dimensions",
                    matrix.nrows()
                )));
            }
        }
        let numbers = self.hidden.iter().flat_map(|h| [h.decay, h.input]);
        if numbers.chain([self.nominal]).any(|x| !x.is_finite()) {
            return Err(Error::Unfit(
                "step size, decays and inputs must be finite".to_owned(),
            ));
        }
        Ok(())
    }
}

/// A linear optimizer on the noisy quadratic model, as one linear system of the parameters and
/// the averages, z = (φ, m₁, …, m_K):
///
/// z_{t+1} = M·z_t + N·ξ_t, N = (I − M)·(I, 0, …, 0)ᵀ.
///
/// Without averages M = A = I − D(αI + P)H.
#[derive(Clone, Debug)]
pub struct Dynamics {
    model: Quadratic,
    matrix: DMatrix<f64>,
    noise_input: DMatrix<f64>,
}

impl Dynamics {
    /// The joint dynamics.
    ///
    /// # Errors
    /// If the update is not of the model's dimension.
    pub fn new(model: &Quadratic, update: &LinearUpdate) -> Result<Self> {
        let n = model.dimension();
        update.check(n)?;
        let size = n * (1 + update.hidden.len());
        let identity = DMatrix::<f64>::identity(n, n);
        let preconditioner = update.preconditioner.as_ref().unwrap_or(&identity);
        // Of ∇ = Hφ in the step, with what the averages take of it.
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

    /// The model.
    pub fn model(&self) -> &Quadratic {
        &self.model
    }

    /// M.
    pub fn matrix(&self) -> &DMatrix<f64> {
        &self.matrix
    }

    /// N.
    pub fn noise_input(&self) -> &DMatrix<f64> {
        &self.noise_input
    }

    /// All eigenvalues of M, the largest first.
    ///
    /// # Errors
    /// If they are not found.
    pub fn eigenvalues(&self) -> Result<Vec<Complex<f64>>> {
        eigenvalues(&self.matrix)
    }

    /// ρ(M): below 1 the mean of z goes to 0 and its covariance to a stationary one, above 1
    /// both grow without bound (from almost every start).
    ///
    /// # Errors
    /// If the eigenvalues are not found.
    pub fn spectral_radius(&self) -> Result<f64> {
        spectral_radius(&self.matrix)
    }

    /// z₀ = (φ₀, 0, …, 0).
    ///
    /// # Errors
    /// If φ₀ is of another dimension.
    pub fn start(&self, params: &DVector<f64>) -> Result<DVector<f64>> {
        let n = self.model.dimension();
        if params.len() != n {
            return Err(Error::Unfit(format!(
                "φ₀ has {} entries, the model {n} dimensions",
                params.len()
            )));
        }
        let mut joint = DVector::zeros(self.matrix.nrows());
        joint.rows_mut(0, n).copy_from(params);
        Ok(joint)
    }

    /// One step.
    pub fn step(&self, joint: &DVector<f64>, noise: &DVector<f64>) -> DVector<f64> {
        &self.matrix * joint + &self.noise_input * noise
    }

    /// φ of z.
    pub fn params(&self, joint: &DVector<f64>) -> DVector<f64> {
        joint.rows(0, self.model.dimension()).into_owned()
    }
}
