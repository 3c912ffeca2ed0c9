//! The optimizers that have kernels.

use lopt_kernels::per_param;

use crate::layout::{Exponent, LEARNERS, Settings};

/// An optimizer, with the scale of its steps if that is found online.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimizer {
    /// Its update.
    pub rule: Rule,
    /// The online scale, or none.
    pub scale: Option<Scale>,
}

/// The update of an optimizer.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// STAR, the blackbox, and others with the same features.
    PerParameter(PerParameter),
    /// Adam.
    Adam(Adam),
}

/// A learned optimizer with two hidden layers. θ has the offsets of the decays and the weights; see
/// [`theta`](crate::theta).
///
/// At step t beyond the time limit L, the blackbox term is multiplied by L/t, and the nominal term
/// by √(t/L) if it grows.
#[derive(Clone, Debug, PartialEq)]
pub struct PerParameter {
    /// The width of the hidden layers.
    pub hidden: Hidden,
    /// The coefficients of g, m₁, m₂, m₃, which replace the formula's.
    pub nominal: [f64; 4],
    /// The formula up to the time limit. Its learning rate is not used: each step has one.
    pub formula: per_param::Formula,
    /// L
    pub time_limit: Option<u64>,
    /// Whether the nominal term grows beyond the time limit.
    pub grows: bool,
}

/// The width of the hidden layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Hidden {
    H4 = 4,
    H8 = 8,
    H16 = 16,
    H32 = 32,
}

impl Hidden {
    /// Returns the width that is this number, if there are kernels for it.
    pub fn of(width: usize) -> Option<Self> {
        let all = [Self::H4, Self::H8, Self::H16, Self::H32];
        all.into_iter().find(|hidden| *hidden as usize == width)
    }
}

/// The constants of Adam.
#[derive(Clone, Debug, PartialEq)]
pub struct Adam {
    /// β₁, the decay of the first moment.
    pub beta1: f64,
    /// β₂, the decay of the second moment.
    pub beta2: f64,
    /// ε, added to the root of the second moment.
    pub epsilon: f64,
}

/// The online scale, with the values of `lopt_online_scale::OnlineScale`.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// s₀, the scale of the first step.
    pub initial: f64,
    /// K, the number of learners, at most 7.
    pub learners: usize,
    /// w, the weight of a tensor's own scale.
    pub tensor_weight: f64,
    /// κ, the bound of a slope in multiples of the largest before it.
    pub slope_limit: f64,
    /// ρ, the root mean square to which gradients are scaled, or none.
    pub gradient_rms: Option<f64>,
}

fn exponent(of: &per_param::Exponent) -> Exponent {
    Exponent {
        scale: of.scale,
        shift: of.shift,
        per_tensor: of.per_tensor.into(),
    }
}

impl Optimizer {
    /// The width of the hidden layers, or 0.
    pub fn hidden(&self) -> usize {
        match &self.rule {
            Rule::PerParameter(rule) => rule.hidden as usize,
            Rule::Adam(_) => 0,
        }
    }

    /// Whether a magnitude is the mean over a tensor.
    pub fn is_per_tensor(&self) -> bool {
        match &self.rule {
            Rule::PerParameter(PerParameter { formula, .. }) => {
                formula.nominal_exponent.per_tensor || formula.blackbox_exponent.per_tensor
            }
            Rule::Adam(_) => false,
        }
    }

    /// Whether gradients are scaled.
    pub(crate) fn scales_gradients(&self) -> bool {
        let scale = self.scale.as_ref();
        scale.is_some_and(|scale| scale.gradient_rms.is_some())
    }

    pub(crate) fn settings(&self) -> Settings {
        let mut settings = match &self.rule {
            Rule::PerParameter(rule) => Settings {
                nominal: rule.nominal,
                time_limit: rule.time_limit.unwrap_or(u64::MAX),
                nominal_exponent: exponent(&rule.formula.nominal_exponent),
                blackbox_exponent: exponent(&rule.formula.blackbox_exponent),
                blackbox: rule.formula.blackbox,
                nominal_preconditioned: rule.formula.nominal_preconditioned.into(),
                blackbox_preconditioned: rule.formula.blackbox_preconditioned.into(),
                grows: rule.grows.into(),
                ..Settings::default()
            },
            Rule::Adam(adam) => Settings {
                beta1: adam.beta1,
                beta2: adam.beta2,
                time_limit: u64::MAX,
                one_minus_beta1: (1.0 - adam.beta1) as f32,
                one_minus_beta2: (1.0 - adam.beta2) as f32,
                epsilon: adam.epsilon as f32,
                ..Settings::default()
            },
        };
        if let Some(scale) = &self.scale {
            let count = scale.learners.min(LEARNERS);
            settings.learners = count as u32;
            settings.tensor_weight = scale.tensor_weight as f32;
            settings.slope_limit = scale.slope_limit as f32;
            settings.gradient_rms = scale.gradient_rms.unwrap_or(0.0);
            settings.start = (scale.initial / count as f64) as f32;
            for (i, beta) in settings.betas[..count].iter_mut().enumerate() {
                *beta = (1.0 - 0.1f64.powi(i as i32 + 1)) as f32;
            }
        }
        settings
    }
}
