//! Stability conditions that depend only on the extreme eigenvalues of H and P.
//!
//! They follow Harrison, Metz and Sohl-Dickstein (arXiv 2209.11208), section 3 and its appendix,
//! and state the assumptions under which they hold. "Stable" means ρ ≤ 1: the mean of φ does not
//! grow. Where a bound is attained, ρ = 1.

use nalgebra::DMatrix;

use crate::{
    Error, Result,
    eigen::{check_symmetric, symmetric_eigenvalues},
};

/// What a condition implies, with a margin in units of the bounded quantity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// A sufficient condition holds, and keeps holding while the bounded quantities change by
    /// less than the margin (≥ 0).
    Stable(f64),
    /// A necessary condition is violated by the margin (> 0), or an argument is NaN, as is the margin.
    Unstable(f64),
    /// The sufficient condition is violated by the margin (> 0), but the necessary one holds.
    /// Stability depends on the eigenvectors: see [`crate::Dynamics::spectral_radius`].
    Undecided(f64),
}

impl Verdict {
    /// Returns `true` if stability is certain.
    pub fn is_stable(self) -> bool {
        matches!(self, Verdict::Stable(_))
    }

    /// Returns `true` if instability is certain.
    pub fn is_unstable(self) -> bool {
        matches!(self, Verdict::Unstable(_))
    }
}

/// Bounds on the eigenvalues of a symmetric P: if all lie in \[`lower`, `upper`\], the dynamics
/// are stable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Sufficient: λ_min(P) ≥ `lower`.
    pub lower: f64,
    /// Sufficient: λ_max(P) ≤ `upper`.
    pub upper: f64,
    /// Necessary: λ_min(P) ≥ `necessary_lower`.
    pub necessary_lower: f64,
    /// Necessary: λ_max(P) ≤ `necessary_upper`.
    pub necessary_upper: f64,
}

impl Bounds {
    /// The verdict for a P with λ_min(P) = `lowest` and λ_max(P) = `highest`.
    pub fn verdict(&self, lowest: f64, highest: f64) -> Verdict {
        if lowest.is_nan() || highest.is_nan() {
            return Verdict::Unstable(f64::NAN);
        }
        let margin = (lowest - self.lower).min(self.upper - highest);
        let violation = (self.necessary_lower - lowest).max(highest - self.necessary_upper);
        match (margin >= 0.0, violation > 0.0) {
            (true, _) => Verdict::Stable(margin),
            (false, true) => Verdict::Unstable(violation),
            (false, false) => Verdict::Undecided(-margin),
        }
    }

    /// The verdict for P, \[n, n\].
    ///
    /// # Errors
    /// Returns an error if P is empty, is not finite, or is not symmetric: the bounds do not apply
    /// to such matrices, see [`nominal`].
    pub fn verdict_of(&self, learned: &DMatrix<f64>) -> Result<Verdict> {
        check_symmetric(learned, "the learned matrix P")?;
        let values = symmetric_eigenvalues(learned);
        match values.as_slice() {
            [] => Err(Error::Unfit("the learned matrix P is empty".to_owned())),
            values => Ok(self.verdict(values[0], values[values.len() - 1])),
        }
    }
}

/// Theorem 1: a nominal term shifts the stable region. For A = I − (αI + P)H with symmetric P,
///
/// ρ(A) ≤ 1 if λ_min(P) ≥ −α and λ_max(P) ≤ 2/λ_max(H) − α.
///
/// `curvatures` is (λ_min(H), λ_max(H)).
///
/// The eigenvalues of (αI + P)H are real, have the signs of those of αI + P, and are at most
/// λ_max(αI + P)·λ_max(H). Therefore:
///
/// * The lower bound is also necessary.
/// * The upper bound is necessary if the top eigenvector of P is also that of H, but not in
///   general: H = diag(1, 0.1), P = diag(0, 10), α = 0.1 is stable, although 10 > 1.9. The bound
///   λ_max(P) ≤ 2/λ_min(H) − α is always necessary, because the largest eigenvalue of (αI + P)H
///   is at least λ_max(αI + P)·λ_min(H).
/// * If P is not symmetric, real eigenvalues within the bounds are not even sufficient:
///   P = \[\[0, 100\], \[0, 0\]\] has the eigenvalues 0 and 0, but with H = \[\[1, ½\], \[½, 1\]\]
///   and α = 0.1 the spectral radius is 49.2.
///
/// # Errors
/// Returns an error unless 0 < λ_min(H) ≤ λ_max(H) and all arguments are finite.
pub fn nominal(alpha: f64, curvatures: (f64, f64)) -> Result<Bounds> {
    let (lowest, highest) = curvatures;
    if !(lowest > 0.0 && highest >= lowest && highest.is_finite() && alpha.is_finite()) {
        return Err(Error::Unfit(format!(
            "0 < λ_min(H) ≤ λ_max(H) and a finite α are required, not {lowest}, {highest} and \
             {alpha}"
        )));
    }
    Ok(Bounds {
        lower: -alpha,
        upper: 2.0 / highest - alpha,
        necessary_lower: -alpha,
        necessary_upper: 2.0 / lowest - alpha,
    })
}

/// Lemma 2: with the preconditioner D = H^{−1/2}, A = I − H^{−1/2}(αI + P)H,
///
/// ρ(A) ≤ 1 if λ_min(P) ≥ −α and λ_max(P) ≤ 2/√λ_max(H) − α.
///
/// These are the bounds of [`nominal`] with H^{1/2} in place of H, because H^{−1/2}(αI + P)H is
/// similar to (αI + P)H^{1/2}. The upper bound is looser than without the preconditioner if and
/// only if λ_max(H) > 1. `curvatures` is (λ_min(H), λ_max(H)).
///
/// # Errors
/// Returns the errors of [`nominal`].
pub fn preconditioned(alpha: f64, curvatures: (f64, f64)) -> Result<Bounds> {
    nominal(alpha, curvatures)?;
    nominal(alpha, (curvatures.0.sqrt(), curvatures.1.sqrt()))
}

/// Robust stability: P = ΔP̃ with symmetric P̃ and an unknown Δ = diag(d), 0 < dᵢ ≤ d̄. For
/// A = I − (αI + ΔP̃)H and 0 ≤ α ≤ 2/λ_max(H),
///
/// ρ(A) ≤ 1 if λ_min(P̃) ≥ −α/d̄ and λ_max(P̃) ≤ (2/λ_max(H) − α)/d̄,
///
/// for every such Δ that **commutes with H** (H is diagonal, or Δ is a multiple of I), because A
/// is then similar to a symmetric matrix. For other Δ the bounds are not sufficient:
/// Δ = diag(1, 0.01); H with eigenvalue 1 along (cos 60°, sin 60°) and 0.01 across; P̃ with 1.9
/// along (cos 60°, −sin 60°) and 0 across; α = 0.1 satisfies the bounds, but ρ = 1.12.
///
/// A violated bound implies nothing for a single Δ. For all Δ up to d̄, which include d̄·I, the
/// necessary bounds are those of [`nominal`] divided by d̄. `curvatures` is
/// (λ_min(H), λ_max(H)); `largest_error` is d̄.
///
/// # Errors
/// Returns the errors of [`nominal`], and an error if d̄ is not positive and finite or α is not in
/// \[0, 2/λ_max(H)\].
pub fn robust(alpha: f64, curvatures: (f64, f64), largest_error: f64) -> Result<Bounds> {
    let exact = nominal(alpha, curvatures)?;
    if !(largest_error > 0.0 && largest_error.is_finite()) || exact.lower > 0.0 || exact.upper < 0.0
    {
        return Err(Error::Unfit(format!(
            "d̄ > 0 and 0 ≤ α ≤ 2/λ_max(H) are required, not d̄ = {largest_error}, α = {alpha}, \
             λ_max(H) = {}",
            curvatures.1
        )));
    }
    Ok(Bounds {
        lower: exact.lower / largest_error,
        upper: exact.upper / largest_error,
        necessary_lower: exact.necessary_lower / largest_error,
        necessary_upper: exact.necessary_upper / largest_error,
    })
}

/// αεH, the excess term that is left when P must cancel the nominal term; `hessian` is H,
/// \[n, n\].
///
/// P = P\* − αI gives A = I − P\*H. If P is off by a factor of 1 − ε,
///
/// A = I − (αI + (1 − ε)(P\* − αI))H = I − **αεH** − (1 − ε)P\*H:
///
/// part of the nominal term remains, in proportion to α. An optimizer that scales the nominal
/// term by a learned factor has nothing to cancel.
pub fn cancelling_excess(alpha: f64, error: f64, hessian: &DMatrix<f64>) -> DMatrix<f64> {
    hessian * (alpha * error)
}

/// Heavy ball (Polyak, 1964), u ← μu + ∇, φ ← φ − ηu, on a curvature λ: stable if and only if
/// |μ| < 1 and 0 < ηλ < 2(1 + μ).
///
/// `step_curvature` is ηλ and `decay` is μ. The margin is in units of ηλ.
pub fn heavy_ball(step_curvature: f64, decay: f64) -> Verdict {
    agg_mo(step_curvature, &[decay])
}

/// AggMo (Lucas et al., arXiv 1804.00325), uᵢ ← μᵢuᵢ + ∇, φ ← φ − (η/K)·Σᵢ uᵢ, on a curvature λ
/// with all |μᵢ| < 1: stable if and only if
///
/// 0 < ηλ < 2K/Σᵢ 1/(1 + μᵢ),
///
/// twice the harmonic mean of the 1 + μᵢ.
///
/// `step_curvature` is ηλ; `decays` are μ₁ … μ_K. The margin is in units of ηλ. If some
/// |μᵢ| ≥ 1, the verdict is unstable with the margin max |μᵢ| − 1.
///
/// Proof: eigenvalues z ≠ μᵢ of the joint dynamics solve z − 1 + s·Σᵢ z/(z − μᵢ) = 0 with
/// s = ηλ/K. At s = 0 they are 1 and the μᵢ, and for small s > 0 all are inside the unit circle.
/// They can leave it at z = −1, where s·Σ 1/(1 + μᵢ) = 2; at z = 1 only for s = 0; and nowhere
/// else: with z = e^{iω} and Dᵢ = |1 − μᵢe^{−iω}|² the imaginary part requires s·Σ μᵢ/Dᵢ = 1, and
/// the real part then requires s·Σ 1/Dᵢ = 1, but Σ (1 − μᵢ)/Dᵢ > 0.
pub fn agg_mo(step_curvature: f64, decays: &[f64]) -> Verdict {
    let largest = decays
        .iter()
        .fold(0.0_f64, |max, decay| max.max(decay.abs()));
    if largest >= 1.0 || step_curvature.is_nan() || decays.iter().any(|d| d.is_nan()) {
        return Verdict::Unstable(largest - 1.0);
    }
    let bound = agg_mo_bound(decays);
    let margin = step_curvature.min(bound - step_curvature);
    match margin > 0.0 {
        true => Verdict::Stable(margin),
        false => Verdict::Unstable(-margin),
    }
}

/// 2K/Σᵢ 1/(1 + μᵢ), the upper bound on ηλ in [`agg_mo`]. Returns 2, the bound of gradient
/// descent, if `decays` is empty.
pub fn agg_mo_bound(decays: &[f64]) -> f64 {
    let inverse: f64 = decays.iter().map(|decay| 1.0 / (1.0 + decay)).sum();
    match decays.len() {
        0 => 2.0,
        count => 2.0 * count as f64 / inverse,
    }
}
