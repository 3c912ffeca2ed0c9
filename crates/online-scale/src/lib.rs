//! The scale of an optimizer's steps, found online while it trains.
//!
//! Around an optimizer with the updates u, the scaled sum Δ of all updates moves the parameters φ.
//! K learners observe the slope h = ⟨Δ, ∇⟩ of the loss in the scale of Δ, and bet on it:
//!
//! r_i ← β_i · r_i − s_i · clip(h, −m_i, m_i), \
//! m_i ← max(β_i · m_i, |h| + ε), v_i ← β_i² · v_i + h², \
//! s_i ← (s₀/K · m_i + max(0, r_i)) / (√v_i + ε), S = Σ_i s_i,
//!
//! with β_i = 1 − 10^{−i}, i = 1 … K, and ε = 1e-8. There are K learners for the whole network,
//! whose h is the sum over all parameters that have a gradient, and K for each tensor. The scale S
//! of a tensor is (1 − w) · S_network + w · S_tensor, and a step is
//!
//! φ ← φ + (S′ − S) · Δ + S′ · u, Δ ← Δ + u,
//!
//! with S before and S′ after the learners' update. Δ, m, v, r and s start at 0. While every
//! parameter has a gradient, φ is φ₀ + S · Δ: the initial parameters plus the scaled sum of all
//! updates.
//!
//! The slope tells whether the loss would fall or rise if all steps so far had been larger. Each
//! learner bets what it has won, with its own memory; S is what they win together. It starts near s₀
//! and can grow or shrink by orders of magnitude, so that the optimizer needs no learning rate. The
//! network's slope is the least noisy; those of the tensors find out which of them should move
//! further than the others.
//!
//! [`OnlineScale`] is the configuration. Optimizers use it through [`init`] and [`step_each`] in candle ops,
//! which is differentiable in the optimizer's meta-parameters, and through [`FusedScale`] on
//! slices. The state is one slot of the network, \[4, K\] with the rows m, v, r and s, and two slots
//! of each parameter: its own \[4, K\], and Δ.
//!
//! Source: Mechanic, Cutkosky, Defazio and Mehta 2023, arXiv 2306.00144, as in
//! `optax.contrib.mechanize` without its weight decay. The learners of the tensors are not in the
//! paper.

mod fused;
mod ops;

use lopt_core::{Error, Result};
use serde::{Deserialize, Serialize};

pub use fused::FusedScale;
pub use ops::{init, step_each};

/// The configuration of the online scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct OnlineScale {
    /// s₀, the scale of the first step. Default: 0.1.
    pub initial: f64,
    /// K, the number of learners. Default: 6.
    pub learners: usize,
    /// w, the weight of a tensor's own scale beside that of the network, from 0 to 1. Default: 0.5.
    pub tensor_weight: f64,
}

/// ε
const EPSILON: f64 = 1e-8;
/// Added under square roots, whose derivative at 0 is infinite.
const TINY: f64 = 1e-30;
/// The slot \[4, K\] of m, v, r and s.
const LEARNERS: &str = "scale-learners";
/// The slot of Δ, the last of each parameter.
const SUM: &str = "update-sum";

impl Default for OnlineScale {
    fn default() -> Self {
        Self {
            initial: 0.1,
            learners: 6,
            tensor_weight: 0.5,
        }
    }
}

impl OnlineScale {
    /// Checks that all values are in range.
    ///
    /// # Errors
    /// Returns [`Error::Setting`] with the key whose value is out of range.
    pub fn check(&self) -> Result<()> {
        let problem = |key: &str, must: &str| {
            let problem = format!("`online-scale.{key}` must be {must}");
            Err(Error::Setting(problem))
        };
        if !(self.initial > 0.0 && self.initial.is_finite()) {
            return problem("initial", "positive and finite");
        }
        if !(1..=7).contains(&self.learners) {
            return problem("learners", "from 1 to 7");
        }
        if !(0.0..=1.0).contains(&self.tensor_weight) {
            return problem("tensor-weight", "from 0 to 1");
        }
        Ok(())
    }

    /// Returns β_i for i = 1 … K.
    fn decays(&self) -> impl Iterator<Item = f64> {
        (1..=self.learners as i32).map(|i| 1.0 - 0.1f64.powi(i))
    }
}
