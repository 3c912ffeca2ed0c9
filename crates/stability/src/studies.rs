//! The numbers behind the figures of `cargo xtask stability`.

use lopt_core::Rng;
use nalgebra::{Complex, DMatrix, DVector};
use rand_distr::{Distribution, StandardNormal, Uniform};

use crate::{
    Dynamics, LinearUpdate, Quadratic, Result, expected_meta_gradient, sampled_meta_gradient,
};

/// One of the means against instability, or several.
#[derive(Clone, Debug, PartialEq)]
pub struct Means {
    /// What it is.
    pub name: &'static str,
    /// α, the nominal term.
    pub nominal: f64,
    /// The factor that weight decay has left of P.
    pub decayed: f64,
    /// Whether D = H^{−1/2} in place of I.
    pub preconditioned: bool,
}

/// A random model and a random learned matrix: H of n random directions with curvatures spread
/// logarithmically over `curvatures`, and P of independent entries N(0, `scale`²/n).
#[derive(Clone, Debug)]
pub struct RandomLearned {
    /// H, and no noise.
    pub model: Quadratic,
    /// H^{−1/2}.
    pub preconditioner: DMatrix<f64>,
    /// P.
    pub learned: DMatrix<f64>,
}

impl RandomLearned {
    /// Draws both.
    ///
    /// # Errors
    /// If `n` is 0 or the curvatures are not positive and ascending.
    pub fn new(n: usize, curvatures: (f64, f64), scale: f64, rng: &mut Rng) -> Result<Self> {
        let mut gaussian = || DMatrix::<f64>::from_fn(n, n, |_, _| StandardNormal.sample(rng));
        let directions = gaussian().qr().q();
        let learned = gaussian() * (scale / (n as f64).sqrt());
        let (low, high) = (curvatures.0.ln(), curvatures.1.ln());
        let spread = Uniform::new_inclusive(low, high).map_err(|_| {
            crate::Error::Unfit("curvatures must be positive and ascend".to_owned())
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

    /// The eigenvalues of A = I − D(αI + P)H with these means.
    ///
    /// # Errors
    /// If they are not found.
    pub fn eigenvalues(&self, means: &Means) -> Result<Vec<Complex<f64>>> {
        let update = LinearUpdate::new(means.nominal, &self.learned * means.decayed);
        let update = match means.preconditioned {
            true => update.preconditioned(self.preconditioner.clone()),
            false => update,
        };
        Dynamics::new(&self.model, &update)?.eigenvalues()
    }
}

/// Of the orientations of a symmetric 2×2 P with the given eigenvalues, the share with ρ(A) ≤ 1,
/// for H = diag(`curvatures`) and A = I − (αI + P)H.
pub fn stable_share(alpha: f64, curvatures: (f64, f64), learned: (f64, f64)) -> f64 {
    const ANGLES: u32 = 90;
    let stable = |angle: u32| {
        // P = R·diag(p)·Rᵀ, half a turn of which is all of them.
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
        // Eigenvalues are real: (αI + P)H is similar to a symmetric matrix.
        let root = (half_trace * half_trace - determinant).max(0.0).sqrt();
        half_trace.abs() + root <= 1.0 + 1e-12
    };
    f64::from((0..ANGLES).filter(|&angle| stable(angle)).count() as u32) / f64::from(ANGLES)
}

/// Mean and spread of the meta-gradient of unrolls of some length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// T.
    pub steps: usize,
    /// ‖E dL/dP‖ (Frobenius), exact.
    pub mean: f64,
    /// The root of the summed variances of the entries of dL/dP, from samples.
    pub deviation: f64,
    /// Half of the 95 % confidence interval of `deviation`.
    pub deviation_error: f64,
}

/// [`Growth`] of unrolls of `steps` steps from φ₀, with `samples` trainings.
///
/// The interval is 1.96 standard errors of the mean of the squared distances to the exact mean,
/// by the delta method.
///
/// # Errors
/// If sizes do not fit.
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

/// Expected losses E ℓ_t(φ_t) while the nominal term shrinks, α_t = α·`factor`ᵗ, from φ₀.
///
/// # Errors
/// If sizes do not fit.
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

/// ρ of the joint dynamics of AggMo on one curvature; see [`crate::conditions::agg_mo`].
///
/// # Errors
/// If the eigenvalues are not found.
pub fn agg_mo_radius(step_curvature: f64, decays: &[f64]) -> Result<f64> {
    let one = DMatrix::from_element(1, 1, 1.0);
    let model = Quadratic::new(one.clone(), one)?;
    Dynamics::new(&model, &LinearUpdate::agg_mo(1, step_curvature, decays))?.spectral_radius()
}
