//! The blackbox baseline: a learned optimizer whose MLP determines the whole step.
//!
//! The per-parameter MLP 39 → 4 → 4 → 2 gives a direction d and a log-magnitude m_b, and
//!
//! Δφ = −η · β₁ · d · exp(β₂ · m_b), β₁ = β₂ = 0.001, η = 1.
//!
//! θ has 197 meta-parameters: 190 weights and 7 decay offsets. The state of a parameter tensor is
//! described in [`lopt_per_param::accumulators`]. A step with a gradient that is not finite returns
//! an error.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use candle_nn::Optimizer;
//! use lopt_blackbox::BlackboxOptimizer;
//!
//! let w = Var::from_tensor(&Tensor::new(&[1f32, -2.0], &Device::Cpu)?)?;
//! let mut optimizer = BlackboxOptimizer::new(vec![w.clone()], Default::default())?;
//! optimizer.backward_step(&w.sqr()?.sum_all()?)?;
//! # Ok::<(), candle_core::Error>(())
//! ```
//!
//! Source: `small_fc_lopt` of Metz et al. 2022, arXiv 2203.11860.

use candle_core::Tensor;
use lopt_core::Result;
use lopt_per_param::{Evaluation, Exponent, Formula, Learned, Pretrained, Rule, TimedFormula};
use serde::{Deserialize, Serialize};

pub use lopt_core::{
    Clip, DropIn, DropInConfig, Group, LossScale, NonFinite, Schedule, Theta, Workers,
};
pub use lopt_online_scale::OnlineScale;

/// The blackbox optimizer with its θ.
pub type Blackbox = Learned<Config>;

/// [`Blackbox`] as a [`candle_nn::Optimizer`](https://docs.rs/candle-nn).
pub type BlackboxOptimizer = DropIn<Blackbox>;

/// The indices of the MLP's outputs.
pub mod heads {
    /// The direction d.
    pub const DIRECTION: usize = 0;
    /// The log-magnitude m_b of the blackbox term.
    pub const MAGNITUDE: usize = 1;
}

/// The configuration of the blackbox, fixed before meta-training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The widths of the MLP's hidden layers. Default: 4, 4.
    pub hidden: Vec<usize>,
    /// β₁, the scale of the step. Default: 0.001.
    pub step_multiplier: f64,
    /// β₂, the scale of the log-magnitude. Default: 0.001.
    pub exp_multiplier: f64,
    /// If set, the scale of the steps is found online; see [`lopt_online_scale`]. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online_scale: Option<OnlineScale>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden: vec![4, 4],
            step_multiplier: 1e-3,
            exp_multiplier: 1e-3,
            online_scale: None,
        }
    }
}

impl Rule for Config {
    const KIND: &'static str = "blackbox";

    fn hidden(&self) -> &[usize] {
        &self.hidden
    }

    fn heads(&self) -> usize {
        2
    }

    fn online_scale(&self) -> Option<&OnlineScale> {
        self.online_scale.as_ref()
    }

    fn step(&self, evaluation: &Evaluation) -> Result<Tensor> {
        let direction = evaluation.head(heads::DIRECTION)?;
        let magnitude = evaluation.head(heads::MAGNITUDE)?;
        term(
            &direction,
            &magnitude,
            self.step_multiplier,
            self.exp_multiplier,
        )
    }

    fn timed_formula(&self) -> Option<TimedFormula> {
        let exponent = |scale: f64| Exponent {
            scale: scale as f32,
            shift: 0.0,
            per_tensor: false,
        };
        Some(TimedFormula {
            nominal: [0.0; 4],
            formula: Formula {
                nominal: [0.0; 4],
                nominal_preconditioned: false,
                nominal_exponent: exponent(0.0),
                blackbox: self.step_multiplier as f32,
                blackbox_preconditioned: false,
                blackbox_exponent: exponent(self.exp_multiplier),
                learning_rate: 1.0,
            },
            time_limit: None,
            grows: false,
        })
    }
}

/// A θ meta-trained by lopt in the same way as that of STAR: on a mixture of small tasks with an
/// online scale. Described in `weights/README.md`.
impl Pretrained for Config {
    const WEIGHTS: &'static [u8] = include_bytes!("../weights/blackbox.safetensors");
}

/// Returns the blackbox without an online scale, meta-trained by lopt on the task of the STAR
/// paper, an MLP 784-128-128-10 on Fashion-MNIST. Described in `weights/README.md`.
pub fn paper() -> Blackbox {
    Blackbox::embedded(include_bytes!("../weights/paper.safetensors"))
}

/// Returns the blackbox term β₁ · d · exp(β₂ · m_b), \[1, n\], which STAR uses too.
///
/// # Errors
/// Returns an error if the shapes do not match.
pub fn term(
    direction: &Tensor,
    magnitude: &Tensor,
    step_multiplier: f64,
    exp_multiplier: f64,
) -> Result<Tensor> {
    let magnitude = (magnitude * exp_multiplier)?.exp()?;
    Ok((direction.broadcast_mul(&magnitude)? * step_multiplier)?)
}
