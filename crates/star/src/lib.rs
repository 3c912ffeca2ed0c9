//! STAR: a learned optimizer that is stabilized by three ideas from dynamical systems.
//!
//! The per-parameter MLP 39 → 4 → 4 → 3 gives a direction d and the log-magnitudes m_b and m_g, and
//!
//! Δφ = −η · \[ β₁ · exp(β₂ · m_g) · g̃ + β₃ · (d · (v + 1e-6)^{-1/2}) · exp(β₄ · m_b) \],
//!
//! β₁ = β₂ = β₃ = β₄ = 0.001, η = 1, where g̃ is the mean of m_i · (v + 1e-6)^{-1/2} over the three
//! momenta m_i: AggMo with Adam's preconditioner. To [`lopt_blackbox`], STAR adds
//!
//! 1. a **nominal term** that is a descent direction by itself, with a learned magnitude;
//! 2. the nominal term's **preconditioner** in the blackbox term;
//! 3. strong weight decay on θ during meta-training (see `lopt-meta`).
//!
//! Each part can be switched off ([`Config`]); with the nominal term and the preconditioner off,
//! STAR is the blackbox, bit for bit. With [`Config::online_scale`], which the paper does not have,
//! the scale of the steps is found while the network trains; the shipped STAR uses it and needs no
//! learning rate on any network.
//!
//! θ has 202 meta-parameters: 195 weights and 7 decay offsets. The state of a parameter tensor is
//! described in [`lopt_per_param::accumulators`]. A step with a gradient that is not finite returns
//! an error.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use candle_nn::Optimizer;
//! use lopt_star::StarOptimizer;
//!
//! let w = Var::from_tensor(&Tensor::new(&[1f32, -2.0], &Device::Cpu)?)?;
//! let mut optimizer = StarOptimizer::new(vec![w.clone()], Default::default())?;
//! optimizer.backward_step(&w.sqr()?.sum_all()?)?;
//! assert!(w.get(0)?.to_scalar::<f32>()? < 1.0);
//! # Ok::<(), candle_core::Error>(())
//! ```
//!
//! Source: Harrison, Metz and Sohl-Dickstein, NeurIPS 2022, arXiv 2209.11208.

mod config;

use candle_core::Tensor;
use lopt_blackbox::{
    heads::{DIRECTION, MAGNITUDE},
    term,
};
use lopt_core::Result;
use lopt_per_param::{Evaluation, Exponent, Formula, Learned, Pretrained, Rule, TimedFormula};

pub use config::{Config, Magnitude, Multipliers, Nominal};
pub use lopt_core::{
    Clip, DropIn, DropInConfig, Group, LossScale, NonFinite, Schedule, Theta, Workers,
};
pub use lopt_online_scale::OnlineScale;

/// STAR with its θ.
pub type Star = Learned<Config>;

/// [`Star`] as a [`candle_nn::Optimizer`](https://docs.rs/candle-nn).
pub type StarOptimizer = DropIn<Star>;

/// The index of the output m_g, after the two of the blackbox.
const NOMINAL_MAGNITUDE: usize = 2;

impl Rule for Config {
    const KIND: &'static str = "star";

    /// With 0, meta-training starts from the nominal term alone, which is stable.
    const LAST_LAYER_SCALE: f32 = 0.0;

    fn hidden(&self) -> &[usize] {
        &self.hidden
    }

    fn heads(&self) -> usize {
        if self.nominal == Nominal::Off { 2 } else { 3 }
    }

    fn online_scale(&self) -> Option<&OnlineScale> {
        self.online_scale.as_ref()
    }

    fn step(&self, evaluation: &Evaluation) -> Result<Tensor> {
        let blackbox = self.blackbox_term.then(|| self.blackbox(evaluation));
        let nominal = self.nominal_term(evaluation).transpose()?;
        Ok(match (nominal, blackbox.transpose()?) {
            (Some(nominal), Some(blackbox)) => (nominal + blackbox)?,
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => evaluation.gradient.zeros_like()?,
        })
    }

    fn timed_formula(&self) -> Option<TimedFormula> {
        Some(self.timed())
    }

    fn nominal_only(&self) -> Option<Self> {
        (self.nominal != Nominal::Off).then(|| Self {
            blackbox_term: false,
            ..self.clone()
        })
    }
}

impl Config {
    /// The formula of every step. Terms that are switched off have a factor of 0.
    fn timed(&self) -> TimedFormula {
        let Multipliers {
            nominal_step,
            nominal_exp,
            blackbox_step,
            blackbox_exp,
        } = self.multipliers;
        let exponent = |scale: f64, shift: f64, magnitude| Exponent {
            scale: scale as f32,
            shift: shift as f32,
            per_tensor: magnitude == Magnitude::PerTensor,
        };
        let (scale, shift) = match self.magnitude_control {
            true => (nominal_exp, 0.0),
            false => (0.0, nominal_exp),
        };
        let blackbox = match self.blackbox_term {
            true => blackbox_step as f32,
            false => 0.0,
        };
        let nominal = self.nominal.weights().map(|w| w * nominal_step);
        TimedFormula {
            nominal,
            formula: Formula {
                nominal: nominal.map(|c| c as f32),
                nominal_preconditioned: self.nominal.is_preconditioned(),
                nominal_exponent: exponent(scale, shift, self.nominal_magnitude),
                blackbox,
                blackbox_preconditioned: self.precondition_blackbox,
                blackbox_exponent: exponent(blackbox_exp, 0.0, self.blackbox_magnitude),
                learning_rate: 1.0,
            },
            time_limit: self.time_limit,
            grows: self.online_scale.is_some(),
        }
    }

    /// Returns β₃ · (d · (v + 1e-6)^{-1/2}) · exp(β₄ · m_b), times limit/t beyond the time limit.
    fn blackbox(&self, evaluation: &Evaluation) -> Result<Tensor> {
        let mut direction = evaluation.head(DIRECTION)?;
        if self.precondition_blackbox {
            direction = (direction * &evaluation.features.rsqrt)?;
        }
        let magnitude = self.blackbox_magnitude.of(evaluation.head(MAGNITUDE)?)?;
        let Multipliers {
            blackbox_step,
            blackbox_exp,
            ..
        } = self.multipliers;
        let fade = self.timed().fade(evaluation.context.step);
        term(&direction, &magnitude, blackbox_step * fade, blackbox_exp)
    }

    /// Returns β₁ · exp(β₂ · m_g) · g̃, times √(t/limit) beyond the time limit if there is an online
    /// scale. Without magnitude control, m_g is 1.
    fn nominal_term(&self, evaluation: &Evaluation) -> Option<Result<Tensor>> {
        let estimate = self.nominal.estimate(evaluation)?;
        let magnitude = || {
            let head = evaluation.head(NOMINAL_MAGNITUDE)?;
            match self.magnitude_control {
                true => self.nominal_magnitude.of(head),
                false => Ok(head.ones_like()?),
            }
        };
        let Multipliers {
            nominal_step,
            nominal_exp,
            ..
        } = self.multipliers;
        let step = nominal_step * self.timed().growth(evaluation.context.step);
        Some(estimate.and_then(|g| term(&g, &magnitude()?, step, nominal_exp)))
    }
}

/// One θ for networks of any kind, meta-trained by lopt on a mixture of small tasks with an online
/// scale ([`Config::online_scale`]). Described in `weights/README.md`.
impl Pretrained for Config {
    const WEIGHTS: &'static [u8] = include_bytes!("../weights/star.safetensors");
}

/// Returns the STAR of the paper: without an online scale, meta-trained by lopt on the paper's
/// task, an MLP 784-128-128-10 on Fashion-MNIST. Described in `weights/PAPER.md`.
///
/// Its steps have the size that is right for that task; [`Star::pretrained`](Learned::pretrained)
/// is the one to use on other networks.
pub fn paper() -> Star {
    Star::embedded(include_bytes!("../weights/paper.safetensors"))
}
