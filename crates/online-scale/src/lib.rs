//! The scale of an optimizer's steps, found online while it trains.
//!
//! The parameters φ are moved by the sum Δ of all updates u of an optimizer, times a scale S. K
//! learners observe h = ⟨Δ, ∇⟩, the slope of the loss with respect to S, and bet on it:
//!
//! h_i = clip(h, −κ·m_i, κ·m_i) if m_i > ε, else h, \
//! r_i ← β_i · r_i − s_i · clip(h_i, −m_i, m_i), \
//! m_i ← max(β_i · m_i, |h_i| + ε), v_i ← β_i² · v_i + h_i², \
//! s_i ← (s₀/K · m_i + max(0, r_i)) / (√v_i + ε), S = Σ_i s_i,
//!
//! with β_i = 1 − 10^{−i}, i = 1 … K, and ε = 1e-12. There are K learners for the whole network,
//! whose h is the sum over all parameters that have a gradient, and K for each tensor. The scale S
//! of a tensor is (1 − w) · S_network + w · S_tensor, and a step is
//!
//! φ ← φ + (S′ − S) · Δ + S′ · u, Δ ← Δ + u,
//!
//! with S before and S′ after the learners' update. Δ, m, v, r and s start at 0. While every
//! parameter has a gradient and nothing else changes φ, such as weight decay, φ is φ₀ + S · Δ: the
//! initial parameters plus the scaled sum of all updates.
//!
//! The slope tells whether the loss would fall or rise if all steps so far had been larger. Each
//! learner bets what it has won, with its own memory; S is what they win together. It starts near s₀
//! and can grow or shrink by orders of magnitude, so that the optimizer needs no learning rate. The
//! network's slope is the least noisy; those of the tensors find out which of them should move
//! further than the others.
//!
//! One slope that is much larger than all before it would take S back to s₀ at once, and φ with it:
//! an unusual minibatch could throw the network far from where it was. So a slope counts for at most
//! κ times the largest that a learner remembers, and at most for 1e18, whose square is finite in f32.
//!
//! With [`OnlineScale::gradient_rms`] the optimizer reads rescaled gradients ∇ · ρ/R, where R is the
//! running root mean square of the gradients of the whole network: q ← 0.99·q +
//! 0.01·mean ∇² with the mean at most 1e36, w ← 0.99·w + 0.01, R = √(q/w). Training is then the same
//! for a loss in any unit, and constants such as the 1e-6 in STAR's preconditioner mean the same for
//! every network and throughout training. The slopes are not changed.
//!
//! [`OnlineScale`] is the configuration. Optimizers use it through [`init`] and [`step_each`] in candle
//! ops, which are differentiable in the optimizer's meta-parameters, and through [`FusedScale`] on
//! slices. The state consists of one slot of the network, \[4, K\] with the rows m, v, r and s,
//! preceded by a slot (q, w) if gradients are scaled, and of two slots of each parameter: its own
//! \[4, K\], and Δ.
//!
//! Source: Mechanic, Cutkosky, Defazio and Mehta 2023, arXiv 2306.00144, as in
//! `optax.contrib.mechanize` without its weight decay and with a smaller ε. The learners of the
//! tensors, the bound of the slopes and the unit of the gradients are not in the paper.

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
    /// κ, the bound of a slope in multiples of the largest before it, more than 1. Default: 1.2.
    pub slope_limit: f64,
    /// ρ, the root mean square to which gradients are scaled; without, the optimizer reads them as
    /// they are. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gradient_rms: Option<f64>,
}

/// ε
const EPSILON: f64 = 1e-12;
/// Added under square roots: their derivative at 0 is infinite, and R a divisor.
const TINY: f64 = 1e-36;
/// The decay of q and w.
const GRADIENT_DECAY: f64 = 0.99;
/// The largest mean square of a gradient; the sum of squares of accepted gradients can overflow.
const LARGEST_SQUARE: f64 = 1e36;
/// The largest slope that a learner is told, whose square is finite in f32.
const LARGEST_SLOPE: f64 = 1e18;
/// The slot \[2\] of q and w.
const GRADIENT: &str = "gradient-square";
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
            slope_limit: 1.2,
            gradient_rms: None,
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
        if !(self.slope_limit > 1.0 && self.slope_limit.is_finite()) {
            return problem("slope-limit", "more than 1 and finite");
        }
        if !self
            .gradient_rms
            .is_none_or(|rms| (1e-6..=1e6).contains(&rms))
        {
            return problem("gradient-rms", "from 1e-6 to 1e6");
        }
        Ok(())
    }

    /// Returns β_i for i = 1 … K.
    fn decays(&self) -> impl Iterator<Item = f64> {
        (1..=self.learners as i32).map(|i| 1.0 - 0.1f64.powi(i))
    }
}
