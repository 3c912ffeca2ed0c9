use candle_core::Tensor;
use lopt_core::Result;
use lopt_per_param::Evaluation;
use serde::{Deserialize, Serialize};

/// The switches of STAR, each an ablation of the paper (arXiv 2209.11208, section 4).
///
/// Only [`Config::nominal`] `= off` and [`Config::hidden`] change θ's layout; the others
/// leave a head without effect, so that the same θ can be run with and without.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Hidden layers of the per-parameter MLP.
    pub hidden: Vec<usize>,
    /// The nominal term's descent direction g̃, or none.
    pub nominal: Nominal,
    /// Whether the nominal term's magnitude is learned; without, its factor is exp(β₂).
    pub magnitude_control: bool,
    /// Whether the learned magnitude of the nominal term is per parameter or per tensor.
    pub nominal_magnitude: Magnitude,
    /// Whether there is a blackbox term; without, STAR only controls the nominal term's
    /// step size (a hyperparameter controller).
    pub blackbox_term: bool,
    /// Whether the blackbox term is preconditioned by (v + 1e-6)^{-1/2}.
    pub precondition_blackbox: bool,
    /// Whether the learned magnitude of the blackbox term is per parameter or per tensor.
    pub blackbox_magnitude: Magnitude,
    /// If given, from this inner step on the 11 step features stay as they are, and the blackbox
    /// term is multiplied by limit / t. With the longest horizon of meta-training as the limit
    /// nothing changes within it. Beyond it the MLP does not see values that it was never trained
    /// on, and the term that nothing keeps from drifting fades out, so that in the end the nominal
    /// term descends alone. Not in the paper; `REPRODUCTION.md` (C3) has its effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_limit: Option<u64>,
    /// β₁ … β₄.
    pub multipliers: Multipliers,
}

impl Default for Config {
    /// The paper's STAR.
    fn default() -> Self {
        Self {
            hidden: vec![4, 4],
            nominal: Nominal::AdamAggMo,
            magnitude_control: true,
            nominal_magnitude: Magnitude::PerParameter,
            blackbox_term: true,
            precondition_blackbox: true,
            blackbox_magnitude: Magnitude::PerParameter,
            time_limit: None,
            multipliers: Multipliers::default(),
        }
    }
}

/// The fixed scales of STAR's two terms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Multipliers {
    /// β₁.
    pub nominal_step: f64,
    /// β₂.
    pub nominal_exp: f64,
    /// β₃.
    pub blackbox_step: f64,
    /// β₄.
    pub blackbox_exp: f64,
}

impl Default for Multipliers {
    fn default() -> Self {
        Self {
            nominal_step: 1e-3,
            nominal_exp: 1e-3,
            blackbox_step: 1e-3,
            blackbox_exp: 1e-3,
        }
    }
}

/// The estimator g̃ of the nominal term. m₁, m₂, m₃ are the momenta with decays 0.9, 0.99
/// and 0.999 (before meta-training), v the second moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nominal {
    /// No nominal term; the MLP then has two heads, as the blackbox.
    Off,
    /// g
    Sgd,
    /// m₃
    Sgdm,
    /// (m₁ + m₂ + m₃)/3
    #[serde(rename = "aggmo")]
    AggMo,
    /// m₃ · (v + 1e-6)^{-1/2}
    Adam,
    /// (m₁ + m₂ + m₃)/3 · (v + 1e-6)^{-1/2}
    #[serde(rename = "adam-aggmo")]
    AdamAggMo,
}

impl Nominal {
    /// g̃ of one tensor, \[1, n\].
    pub(crate) fn estimate(self, evaluation: &Evaluation) -> Option<Result<Tensor>> {
        let features = &evaluation.features;
        let slowest = |momenta: &Tensor| momenta.narrow(0, 2, 1);
        let estimate = match self {
            Nominal::Off => return None,
            Nominal::Sgd => Ok(evaluation.gradient.clone()),
            Nominal::Sgdm => slowest(&features.momentum),
            Nominal::AggMo => features.momentum.mean_keepdim(0),
            Nominal::Adam => slowest(&features.preconditioned_momentum),
            Nominal::AdamAggMo => features.preconditioned_momentum.mean_keepdim(0),
        };
        Some(estimate.map_err(Into::into))
    }
}

impl Nominal {
    /// g̃ as a sum of g, m₁, m₂ and m₃, before the preconditioner.
    pub(crate) fn weights(self) -> [f64; 4] {
        match self {
            Nominal::Off => [0.0; 4],
            Nominal::Sgd => [1.0, 0.0, 0.0, 0.0],
            Nominal::Sgdm | Nominal::Adam => [0.0, 0.0, 0.0, 1.0],
            Nominal::AggMo | Nominal::AdamAggMo => [0.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0],
        }
    }

    /// Whether g̃ has Adam's preconditioner.
    pub(crate) fn is_preconditioned(self) -> bool {
        matches!(self, Nominal::Adam | Nominal::AdamAggMo)
    }
}

/// What one learned magnitude stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Magnitude {
    /// One scalar parameter.
    PerParameter,
    /// A whole tensor: the mean of its parameters' outputs.
    PerTensor,
}

impl Magnitude {
    /// \[1, n\], or \[1, 1\] per tensor.
    pub(crate) fn of(self, head: Tensor) -> Result<Tensor> {
        Ok(match self {
            Magnitude::PerParameter => head,
            Magnitude::PerTensor => head.mean_keepdim(1)?,
        })
    }
}
