use candle_core::Tensor;
use lopt_core::Result;
use lopt_online_scale::OnlineScale;
use lopt_per_param::Evaluation;
use serde::{Deserialize, Serialize};

/// The configuration of STAR. Each switch is an ablation in section 4 of the paper, arXiv
/// 2209.11208.
///
/// Only [`Config::hidden`] and [`Nominal::Off`] change the layout of θ. With the other switches
/// some outputs of the MLP have no effect, so the same θ can be run with and without them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The widths of the MLP's hidden layers. Default: 4, 4.
    pub hidden: Vec<usize>,
    /// The descent direction g̃ of the nominal term. Default: [`Nominal::AdamAggMo`].
    pub nominal: Nominal,
    /// Whether the magnitude of the nominal term is learned; if not, its factor is exp(β₂).
    /// Default: true.
    pub magnitude_control: bool,
    /// The granularity of the learned magnitude of the nominal term. Default: per parameter.
    pub nominal_magnitude: Magnitude,
    /// Whether there is a blackbox term. Without it, STAR only controls the step size of the
    /// nominal term (a hyperparameter controller). Default: true.
    pub blackbox_term: bool,
    /// Whether the blackbox term is preconditioned by (v + 1e-6)^{-1/2}. Default: true.
    pub precondition_blackbox: bool,
    /// The granularity of the learned magnitude of the blackbox term. Default: per parameter.
    pub blackbox_magnitude: Magnitude,
    /// If set, the 11 step features are constant from this inner step on, so that the MLP never
    /// sees values that it was not trained on. At later steps t the blackbox term, which could
    /// drift, is multiplied by limit/t: in the end, the nominal term descends alone. With an online
    /// scale, the nominal term is multiplied by √(t/limit): the scale multiplies the sum of all
    /// updates, and without this, new updates would matter less and less beside the old ones. A
    /// limit at the longest horizon of meta-training changes nothing within that horizon. Not in
    /// the paper; `REPRODUCTION.md` measures its effect. At least 1. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_limit: Option<u64>,
    /// If set, the scale of the steps is found online; see [`lopt_online_scale`]. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online_scale: Option<OnlineScale>,
    /// The scales β₁ … β₄ of the two terms.
    pub multipliers: Multipliers,
}

impl Default for Config {
    /// Returns the STAR of the paper.
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
            online_scale: None,
            multipliers: Multipliers::default(),
        }
    }
}

/// The fixed scales of STAR's two terms. Default: 0.001 each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Multipliers {
    /// β₁, the scale of the nominal term.
    pub nominal_step: f64,
    /// β₂, the scale of the nominal term's log-magnitude.
    pub nominal_exp: f64,
    /// β₃, the scale of the blackbox term.
    pub blackbox_step: f64,
    /// β₄, the scale of the blackbox term's log-magnitude.
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

/// The descent direction g̃ of the nominal term. m₁, m₂, m₃ are the momenta with decays 0.9, 0.99
/// and 0.999 before meta-training, v is the second moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nominal {
    /// No nominal term. The MLP then has two outputs, like that of the blackbox.
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
    /// Returns g̃ of one tensor, \[1, n\].
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
    /// Returns the coefficients of g, m₁, m₂ and m₃ in g̃ before preconditioning.
    pub(crate) fn weights(self) -> [f64; 4] {
        match self {
            Nominal::Off => [0.0; 4],
            Nominal::Sgd => [1.0, 0.0, 0.0, 0.0],
            Nominal::Sgdm | Nominal::Adam => [0.0, 0.0, 0.0, 1.0],
            Nominal::AggMo | Nominal::AdamAggMo => [0.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0],
        }
    }

    /// Whether g̃ includes Adam's preconditioner.
    pub(crate) fn is_preconditioned(self) -> bool {
        matches!(self, Nominal::Adam | Nominal::AdamAggMo)
    }
}

/// The granularity of a learned magnitude.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Magnitude {
    /// One magnitude for each scalar parameter.
    PerParameter,
    /// One magnitude for each tensor, the mean of its elements' outputs.
    PerTensor,
}

impl Magnitude {
    /// Returns the magnitudes: \[1, n\] per parameter, \[1, 1\] per tensor.
    pub(crate) fn of(self, head: Tensor) -> Result<Tensor> {
        Ok(match self {
            Magnitude::PerParameter => head,
            Magnitude::PerTensor => head.mean_keepdim(1)?,
        })
    }
}
