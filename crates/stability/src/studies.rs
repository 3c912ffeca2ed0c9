//! Parameter sweeps on the noisy quadratic model: the data of the stability figures.

use lopt_core::Rng;
use nalgebra::{Complex, DMatrix, DVector};
use rand_distr::{Distribution, StandardNormal, Uniform};

use crate::{
    Dynamics, LinearUpdate, Quadratic, Result, expected_meta_gradient, sampled_meta_gradient,
};

/// A combination of stabilizing measures.
#[derive(Clone, Debug, PartialEq)]
pub struct Means {
    /// Name in the figure.
    pub name: &'static str,
    /// Step size α of the nominal term; 0 for none.
    pub nominal: f64,
    /// Factor by which weight decay has shrunk P; 1 for no weight decay.
    pub decayed: f64,
    /// Whether the preconditioner D is H^{−1/2} instead of I.
    pub preconditioned: bool,
}

/// A random model and a random learned matrix.
///
/// H = Q·diag(h)·Qᵀ with a random orthogonal Q and log-uniform hᵢ; the entries of P are
/// independent, Pᵢⱼ ~ N(0, `scale`²/n).
#[derive(Clone, Debug)]
pub struct RandomLearned {
    /// The model of H, without noise.
    pub model: Quadratic,
    /// H^{−1/2}, \[n, n\].
    pub preconditioner: DMatrix<f64>,
    /// P, \[n, n\].
    pub learned: DMatrix<f64>,
}

impl RandomLearned {
    /// Draws H, with eigenvalues between `curvatures.0` and `curvatures.1`, and P.
    ///
    /// # Errors
    /// Returns an error if `n` is 0 or the curvatures are not positive and ascending.
    pub fn new(n: usize, curvatures: (f64, f64), scale: f64, rng: &mut Rng) -> Result<Self> {
        let mut gaussian = || DMatrix::<f64>::from_fn(n, n, |_, _| StandardNormal.sample(rng));
        let directions = gaussian().qr().q();
        let learned = gaussian() * (scale / (n as f64).sqrt());
        let (low, high) = (curvatures.0.ln(), curvatures.1.ln());
        let spread = Uniform::new_inclusive(low, high).map_err(|_| {
            crate::Error::Unfit("the curvatures must be positive and ascending".to_owned())
        })?;
        let values = DVector::from_fn(n, |_, _| f64::exp(spread.sample(rng)));
        let of = |values: DVector<f64>| {
            let matrix = &directions * DMatrix::from_diagonal(&values) * directions.transpose();
            (&matrix + matrix.transpose()) * 0.5
        };
        Ok(Self {
            preconditioner: of(values.map(|v| v.sqrt().recip())),
            model: Quadratic::new(of(values), DMatrix::zeros(n, n))?,
            learned,
        })
    }

    /// The eigenvalues of A = I − D(αI + c·P)H, where `means` gives α, the decay factor c and D.
    ///
    /// # Errors
    /// Returns the errors of [`crate::eigenvalues`].
    pub fn eigenvalues(&self, means: &Means) -> Result<Vec<Complex<f64>>> {
        let update = LinearUpdate::new(means.nominal, &self.learned * means.decayed);
        let update = match means.preconditioned {
            true => update.preconditioned(self.preconditioner.clone()),
            false => update,
        };
        Dynamics::new(&self.model, &update)?.eigenvalues()
    }
}

/// The fraction of orientations of P with ρ(A) ≤ 1, where A = I − (αI + P)H,
/// H = diag(`curvatures`), and P is symmetric, 2×2, with the eigenvalues `learned`.
pub fn stable_share(alpha: f64, curvatures: (f64, f64), learned: (f64, f64)) -> f64 {
    const ANGLES: u32 = 90;
    let stable = |angle: u32| {
        // P = R·diag(p)·Rᵀ; half a turn covers all orientations.
        let angle = std::f64::consts::PI * f64::from(angle) / f64::from(ANGLES);
        let (sin, cos) = angle.sin_cos();
        let (p, q) = learned;
        let (xx, yy) = (p * cos * cos + q * sin * sin, p * sin * sin + q * cos * cos);
        let xy = (p - q) * sin * cos;
        let (h, k) = curvatures;
        let a = 1.0 - (alpha + xx) * h;
        let d = 1.0 - (alpha + yy) * k;
        // The off-diagonal entries are −xy·k and −xy·h.
        let (half_trace, determinant) = (0.5 * (a + d), a * d - xy * xy * h * k);
        // The eigenvalues are real: (αI + P)H is similar to a symmetric matrix.
        let root = (half_trace * half_trace - determinant).max(0.0).sqrt();
        half_trace.abs() + root <= 1.0 + 1e-12
    };
    f64::from((0..ANGLES).filter(|&angle| stable(angle)).count() as u32) / f64::from(ANGLES)
}

/// Mean and spread of the meta-gradient dL/dP of an unroll.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// Length T of the unroll in inner steps.
    pub steps: usize,
    /// ‖E dL/dP‖ (Frobenius), exact.
    pub mean: f64,
    /// (Σᵢⱼ Var dL/dPᵢⱼ)^½, estimated from samples.
    pub deviation: f64,
    /// Half the width of the 95 % confidence interval of `deviation`.
    pub deviation_error: f64,
}

/// Computes the [`Growth`] of unrolls of `steps` steps from φ₀ = `params` \[n\], with `samples`
/// sampled training runs.
///
/// The deviation is the root of the mean squared distance to the exact mean; its confidence
/// interval is 1.96 standard errors of that mean, by the delta method.
///
/// # Errors
/// Returns an error if φ₀ or the update does not have the dimension of the model.
pub fn meta_gradient_growth(
    model: &Quadratic,
    update: &LinearUpdate,
    params: &DVector<f64>,
    steps: usize,
    samples: usize,
    rng: &mut Rng,
) -> Result<Growth> {
    let exact = expected_meta_gradient(model, update, params, steps)?.gradient;
    let (mut sum, mut squares) = (0.0, 0.0);
    for _ in 0..samples {
        let noises: Vec<_> = (0..steps).map(|_| model.sample(rng)).collect();
        let one = sampled_meta_gradient(model, update, params, &noises)?.gradient;
        let distance = (one - &exact).norm_squared();
        sum += distance;
        squares += distance * distance;
    }
    let count = samples.max(1) as f64;
    let variance = sum / count;
    let error = ((squares / count - variance * variance).max(0.0) / count).sqrt();
    Ok(Growth {
        steps,
        mean: exact.norm(),
        deviation: variance.sqrt(),
        deviation_error: 1.96 * error / (2.0 * variance.sqrt()).max(f64::MIN_POSITIVE),
    })
}

/// Expected losses E ℓ_t(φ_t), t = 0 … `steps` − 1, with a shrinking nominal term
/// α_t = α·`factor`ᵗ, from φ₀ = `params` \[n\]; P = `learned` is \[n, n\].
///
/// # Errors
/// Returns an error if P does not have the dimension of the model.
pub fn shrinking_nominal(
    model: &Quadratic,
    learned: &DMatrix<f64>,
    (alpha, factor): (f64, f64),
    params: &DVector<f64>,
    steps: usize,
) -> Result<Vec<f64>> {
    let mut second = params * params.transpose();
    let mut losses = vec![];
    let mut alpha = alpha;
    for _ in 0..steps {
        losses.push(model.expected_loss(&second));
        let dynamics = Dynamics::new(model, &LinearUpdate::new(alpha, learned.clone()))?;
        second = dynamics.matrix() * second * dynamics.matrix().transpose()
            + dynamics.fresh_covariance();
        alpha *= factor;
    }
    Ok(losses)
}

/// ρ of the joint dynamics of AggMo on one curvature λ, where `step_curvature` is ηλ and `decays`
/// are the μᵢ; see [`crate::conditions::agg_mo`].
///
/// # Errors
/// Returns the errors of [`crate::eigenvalues`].
pub fn agg_mo_radius(step_curvature: f64, decays: &[f64]) -> Result<f64> {
    let one = DMatrix::from_element(1, 1, 1.0);
    let model = Quadratic::new(one.clone(), one)?;
    Dynamics::new(&model, &LinearUpdate::agg_mo(1, step_curvature, decays))?.spectral_radius()
}
