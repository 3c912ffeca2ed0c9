//! The scale of an optimizer's steps, found online while it trains: Mechanic.
//!
//! Around an optimizer with the updates u, one step with the gradients ∇ of the parameters φ is
//!
//! h = ⟨Δ, ∇⟩, \
//! r_i ← β_i · r_i − s_i · clip(h, −m_i, m_i), \
//! m_i ← max(β_i · m_i, |h| + ε), v_i ← β_i² · v_i + h², \
//! s_i ← (s₀/K · m_i + max(0, r_i)) / (√v_i + ε), S′ = Σ_i s_i, \
//! φ ← φ + (S′ − S) · Δ + S′ · u, Δ ← Δ + u, S ← S′,
//!
//! with β_i = 1 − 10^{−i}, i = 1 … K, and ε = 1e-8. The inner product is over
//! all parameters that have a gradient. Δ, m, v, r and s start at 0. While every parameter has a
//! gradient, φ is φ₀ + S · Δ: the initial parameters plus the scaled sum of all updates.
//!
//! ⟨Δ, ∇⟩ tells whether the loss would fall or rise if all steps so far had been larger. The K
//! learners each bet on it with their own memory; S is what they win together. It starts near s₀
//! and can grow or shrink by orders of magnitude, so that the optimizer needs no learning rate.
//!
//! [`OnlineScale`] is the configuration. Optimizers use it through [`step_each`] in candle ops,
//! which is differentiable in the optimizer's meta-parameters, and through [`FusedScale`] on
//! slices. The state is four slots of the network (m, v, r, s) and one slot of each parameter (Δ).
//!
//! Source: Cutkosky, Defazio and Mehta 2023, arXiv 2306.00144, with the clipping of h of
//! `optax.contrib.mechanize`.

mod fused;
mod ops;

use lopt_core::{Error, Result};
use serde::{Deserialize, Serialize};

pub use fused::FusedScale;
pub use ops::step_each;

/// The configuration of the online scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct OnlineScale {
    /// s₀, the scale of the first step. Later scales are relative to it only while no learner has
    /// won anything. Default: 0.1.
    pub initial: f64,
    /// K, the number of learners. Default: 6.
    pub learners: usize,
}

/// ε
const EPSILON: f64 = 1e-8;
/// Added under square roots, whose derivative at 0 is infinite.
const TINY: f64 = 1e-30;
/// The names of the network's slots: m, v, r, s.
const NETWORK: [&str; 4] = ["scale-max", "scale-square", "scale-reward", "scale"];
/// The name of each parameter's slot Δ, its last.
const SUM: &str = "update-sum";

impl Default for OnlineScale {
    fn default() -> Self {
        Self {
            initial: 0.1,
            learners: 6,
        }
    }
}

impl OnlineScale {
    /// Checks that all values are in range.
    ///
    /// # Errors
    /// Returns [`Error::Mismatch`] with the key whose value is out of range.
    pub fn check(&self) -> Result<()> {
        let problem = |key: &str, must: &str| {
            let problem = format!("`online-scale.{key}` must be {must}");
            Err(Error::Mismatch(problem))
        };
        if !(self.initial > 0.0 && self.initial.is_finite()) {
            return problem("initial", "positive and finite");
        }
        if !(1..=7).contains(&self.learners) {
            return problem("learners", "from 1 to 7");
        }
        Ok(())
    }

    /// Returns β_i for i = 1 … K.
    fn decays(&self) -> impl Iterator<Item = f64> {
        (1..=self.learners as i32).map(|i| 1.0 - 0.1f64.powi(i))
    }
}
