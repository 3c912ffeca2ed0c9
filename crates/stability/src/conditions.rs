//! Conditions of stability that need only the extreme eigenvalues of H and P.
//!
//! Harrison, Metz and Sohl-Dickstein (arXiv 2209.11208), section 3 and its appendix, with the
//! conditions under which they hold. "Stable" is ρ ≤ 1 here: the mean of φ does not grow. Where
//! a bound is reached exactly, ρ = 1.

use nalgebra::DMatrix;

use crate::{
    Error, Result,
    eigen::{check_symmetric, symmetric_eigenvalues},
};

/// What a condition says, with a margin in units of what it bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// A sufficient condition holds, and goes on holding while the bounded numbers move by
    /// less than the margin (≥ 0).
    Stable(f64),
    /// A necessary condition is violated by the margin (> 0).
    Unstable(f64),
    /// The sufficient condition is violated by the margin (> 0), the necessary one holds: the
    /// eigenvectors decide. [`crate::Dynamics::spectral_radius`] tells.
    Undecided(f64),
}

impl Verdict {
    /// Whether stability is certain.
    pub fn is_stable(self) -> bool {
        matches!(self, Verdict::Stable(_))
    }

    /// Whether instability is certain.
    pub fn is_unstable(self) -> bool {
        matches!(self, Verdict::Unstable(_))
    }
}

/// Bounds on the eigenvalues of a symmetric P, between which the dynamics are stable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Sufficient: λ_min(P) ≥ this.
    pub lower: f64,
    /// Sufficient: λ_max(P) ≤ this.
    pub upper: f64,
    /// Necessary: λ_min(P) ≥ this.
    pub necessary_lower: f64,
    /// Necessary: λ_max(P) ≤ this.
    pub necessary_upper: f64,
}

impl Bounds {
    /// What they say of a P with these extreme eigenvalues.
    pub fn verdict(&self, lowest: f64, highest: f64) -> Verdict {
        let margin = (lowest - self.lower).min(self.upper - highest);
        let violation = (self.necessary_lower - lowest).max(highest - self.necessary_upper);
        match (margin >= 0.0, violation > 0.0) {
            (true, _) => Verdict::Stable(margin),
            (false, true) => Verdict::Unstable(violation),
            (false, false) => Verdict::Undecided(-margin),
        }
    }

    /// What they say of P.
    ///
    /// # Errors
    /// If P is not symmetric: for such matrices the bounds say nothing, see [`nominal`].
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
/// The eigenvalues of (αI + P)H are real, with the signs of those of αI + P, and at most
/// λ_max(αI + P)·λ_max(H). Therefore
///
/// * the lower bound is also necessary;
/// * the upper one is necessary if P's top eigenvector is H's too, and not otherwise:
///   H = diag(1, 0.1), P = diag(0, 10), α = 0.1 is stable, though 10 > 1.9. In any case
///   λ_max(P) ≤ 2/λ_min(H) − α is necessary, because the largest eigenvalue of (αI + P)H is at
///   least λ_max(αI + P)·λ_min(H);
/// * for P that are not symmetric, real eigenvalues within the bounds are not even sufficient:
///   P = \[\[0, 100\], \[0, 0\]\] has the eigenvalues 0 and 0, and with H = \[\[1, ½\], \[½, 1\]\]
///   and α = 0.1 the spectral radius is 49.2.
///
/// # Errors
/// If 0 < λ_min(H) ≤ λ_max(H) does not hold or α is not finite.
pub fn nominal(alpha: f64, curvatures: (f64, f64)) -> Result<Bounds> {
    let (lowest, highest) = curvatures;
    if !(lowest > 0.0 && highest >= lowest && highest.is_finite() && alpha.is_finite()) {
        return Err(Error::Unfit(format!(
            "needs 0 < λ_min(H) ≤ λ_max(H) and a finite α, not {lowest}, {highest} and {alpha}"
        )));
    }
    Ok(Bounds {
        lower: -alpha,
        upper: 2.0 / highest - alpha,
        necessary_lower: -alpha,
        necessary_upper: 2.0 / lowest - alpha,
    })
}

/// Lemma 2: with the preconditioner D = H^{−1/2}, A = I − H^{−1/2}(αI + P)H, the bounds are those
/// of [`nominal`] with H^{1/2} in the place of H: the upper one is 2/√λ_max(H) − α, looser
/// than without if and only if λ_max(H) > 1.
///
/// (H^{−1/2}(αI + P)H is similar to (αI + P)H^{1/2}.)
///
/// # Errors
/// As [`nominal`].
pub fn preconditioned(alpha: f64, curvatures: (f64, f64)) -> Result<Bounds> {
    nominal(alpha, curvatures)?;
    nominal(alpha, (curvatures.0.sqrt(), curvatures.1.sqrt()))
}

/// Robust stability: P = ΔP̃ with symmetric P̃ and an unknown Δ = diag(d), 0 < dᵢ ≤ d̄. For
/// A = I − (αI + ΔP̃)H,
///
/// ρ(A) ≤ 1 if λ_min(P̃) ≥ −α/d̄ and λ_max(P̃) ≤ (2/λ_max(H) − α)/d̄,
///
/// for every such Δ that **commutes with H** (H diagonal, or Δ a number times I), with α ≥ 0 and
/// α ≤ 2/λ_max(H). A is then similar to a symmetric matrix. Without that it is not sufficient:
/// Δ = diag(1, 0.01), H of eigenvalues 1 along (cos 60°, sin 60°) and 0.01 across, P̃ of 1.9 along
/// (cos 60°, −sin 60°) and 0 across, α = 0.1 is within the bounds, and ρ = 1.12.
///
/// Violated bounds say nothing of a single Δ; of all Δ up to d̄, which include d̄·I, they are
/// necessary as in [`nominal`] (divided by d̄).
///
/// # Errors
/// As [`nominal`]; if d̄ is not positive, or α not in \[0, 2/λ_max(H)\].
pub fn robust(alpha: f64, curvatures: (f64, f64), largest_error: f64) -> Result<Bounds> {
    let exact = nominal(alpha, curvatures)?;
    if !(largest_error > 0.0 && largest_error.is_finite()) || exact.lower > 0.0 || exact.upper < 0.0
    {
        return Err(Error::Unfit(format!(
            "needs d̄ > 0 and 0 ≤ α ≤ 2/λ_max(H), not d̄ = {largest_error}, α = {alpha}, λ_max(H) = \
             {}",
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

/// The excess term of the cancelling design. P = P\* − αI makes the closed loop I − P\*H; with a
/// relative error of (1 − ε) in P,
///
/// A = I − (αI + (1 − ε)(P\* − αI))H = I − **αεH** − (1 − ε)P\*H:
///
/// what was to cancel is left in part, and the more the larger α. Scaling the nominal term by a
/// learned factor has nothing to cancel.
pub fn cancelling_excess(alpha: f64, error: f64, hessian: &DMatrix<f64>) -> DMatrix<f64> {
    hessian * (alpha * error)
}

/// Heavy ball, u ← μu + ∇, φ ← φ − ηu, on a curvature λ: stable if and only if
/// |μ| < 1 and 0 < ηλ < 2(1 + μ). The margin is that of ηλ.
pub fn heavy_ball(step_curvature: f64, decay: f64) -> Verdict {
    agg_mo(step_curvature, &[decay])
}

/// AggMo, uᵢ ← μᵢuᵢ + ∇, φ ← φ − (η/K)·Σᵢ uᵢ, on a curvature λ, all |μᵢ| < 1: stable if and only
/// if 0 < ηλ < 2K/Σᵢ 1/(1 + μᵢ), twice the harmonic mean of the 1 + μᵢ. The margin is that of
/// ηλ.
///
/// Eigenvalues z ≠ μᵢ of the joint dynamics solve z − 1 + s·Σᵢ z/(z − μᵢ) = 0 with s = ηλ/K. At
/// s = 0 they are 1 and the μᵢ, and for small s > 0 all are inside the unit circle. They can
/// leave it at z = −1, where s·Σ 1/(1 + μᵢ) = 2; at z = 1 only for s = 0; and nowhere else: with
/// z = e^{iω} and Dᵢ = |1 − μᵢe^{−iω}|² the imaginary part asks for s·Σ μᵢ/Dᵢ = 1 and the real
/// part then for s·Σ 1/Dᵢ = 1, but Σ (1 − μᵢ)/Dᵢ > 0.
///
/// A decay |μᵢ| ≥ 1 is unstable by as much as it exceeds 1 (an average that does not forget).
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

/// The bound 2K/Σᵢ 1/(1 + μᵢ) on ηλ of [`agg_mo`]; 2 for no velocity at all.
pub fn agg_mo_bound(decays: &[f64]) -> f64 {
    let inverse: f64 = decays.iter().map(|decay| 1.0 / (1.0 + decay)).sum();
    match decays.len() {
        0 => 2.0,
        count => 2.0 * count as f64 / inverse,
    }
}
