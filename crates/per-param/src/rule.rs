use candle_core::Tensor;
use lopt_core::{Error, Result, StepContext};
use lopt_kernels::per_param::Formula;
use lopt_online_scale::OnlineScale;
use serde::{Serialize, de::DeserializeOwned};

use crate::features::Features;

/// What a learned optimizer adds to the common per-parameter MLP: its configuration, the number of
/// MLP outputs, and the formula that maps these outputs to the step.
///
/// The rule is the configuration that θ files and TOML files contain. [`crate::Learned`] is the
/// optimizer of a rule.
///
/// ```
/// use candle_core::Tensor;
/// use lopt_core::Result;
/// use lopt_per_param::{Evaluation, Learned, Rule};
/// use serde::{Deserialize, Serialize};
///
/// /// Δφ = −0.001 · d, with the direction d as the only output of the MLP.
/// #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
/// struct Direction {}
///
/// impl Rule for Direction {
///     const KIND: &'static str = "direction";
///
///     fn heads(&self) -> usize {
///         1
///     }
///
///     fn step(&self, evaluation: &Evaluation) -> Result<Tensor> {
///         Ok((evaluation.head(0)? * 1e-3)?)
///     }
/// }
///
/// let optimizer = Learned::<Direction>::untrained();
/// assert_eq!(lopt_core::Optimizer::kind(&optimizer), "direction");
/// ```
pub trait Rule:
    Clone + std::fmt::Debug + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// The name in files and configurations.
    const KIND: &'static str;

    /// The factor on the initial weights of the MLP's last layer: 1 as in the reference, or 0 for a
    /// rule that also makes progress with MLP outputs of 0.
    const LAST_LAYER_SCALE: f32 = 1.0;

    /// The widths of the MLP's hidden layers, at most three. There are kernels for two layers of 4,
    /// 8, 16 or 32; other MLPs run in candle ops.
    fn hidden(&self) -> &[usize] {
        &[4, 4]
    }

    /// The number of MLP outputs.
    fn heads(&self) -> usize;

    /// The online scale of the steps, or `None` to take them as they are.
    fn online_scale(&self) -> Option<&OnlineScale> {
        None
    }

    /// Returns the inner step from which the step features are computed at inner step `t`. By
    /// default it is that of [`Rule::timed_formula`], or `t` if there is none.
    fn seen_step(&self, t: u64) -> u64 {
        self.timed_formula().map_or(t, |timed| timed.seen_step(t))
    }

    /// Returns the step of one tensor of n elements, \[1, n\], in candle ops that are
    /// differentiable in θ. The update is Δφ = −η · step with the learning rate η.
    ///
    /// # Errors
    /// Returns an error if a tensor operation fails.
    fn step(&self, evaluation: &Evaluation) -> Result<Tensor>;

    /// Returns the same step for the CPU kernels, or `None` if they cannot express it and the rule
    /// runs in candle ops only. Whether there is a formula must not depend on the step. The kernels
    /// read the direction d from output 0, m_b from output 1 and m_g from output 2; an output that
    /// the MLP does not have counts as 0. The default is that of [`Rule::timed_formula`].
    fn formula(&self, context: &StepContext) -> Option<Formula> {
        Some(self.timed_formula()?.at(context))
    }

    /// Returns the formula of every step, or `None` if a [`TimedFormula`] cannot express it. The CUDA
    /// kernels count steps themselves and need one; without, the rule runs in candle ops on a GPU.
    /// [`Rule::formula`] and [`Rule::seen_step`] must agree with it, as their defaults do.
    fn timed_formula(&self) -> Option<TimedFormula> {
        None
    }

    /// Returns the rule without its blackbox term and with the same layout of θ, or `None` if it
    /// has no nominal term.
    fn nominal_only(&self) -> Option<Self> {
        None
    }
}

/// A [`Formula`] that changes with the inner step t in one way: beyond a time limit L, the MLP reads
/// the step features of L, and the blackbox term is multiplied by L/t.
#[derive(Clone, Debug, PartialEq)]
pub struct TimedFormula {
    /// The coefficients of g, m₁, m₂, m₃, which replace the formula's.
    pub nominal: [f64; 4],
    /// The formula up to the time limit. Its learning rate is ignored: each step has its own.
    pub formula: Formula,
    /// The time limit L in inner steps; `None` for no limit.
    pub time_limit: Option<u64>,
    /// Whether the nominal term is multiplied by √(t/L) beyond the time limit.
    pub grows: bool,
}

impl TimedFormula {
    /// Checks the time limit.
    ///
    /// # Errors
    /// Returns [`Error::Setting`] if it is 0: the nominal term would grow without bound.
    pub fn check(&self) -> Result<()> {
        match self.time_limit {
            Some(0) => Err(Error::Setting("`time-limit` must be at least 1".to_owned())),
            _ => Ok(()),
        }
    }

    /// The inner step whose features the MLP reads at inner step t.
    pub fn seen_step(&self, t: u64) -> u64 {
        self.time_limit.map_or(t, |limit| t.min(limit))
    }

    /// Returns 1 up to the time limit, and limit/t at later inner steps t.
    pub fn fade(&self, t: u64) -> f64 {
        match self.time_limit {
            Some(limit) if limit < t => limit as f64 / t as f64,
            _ => 1.0,
        }
    }

    /// Returns √(t/limit) at inner steps t beyond the time limit if the nominal term grows, else 1.
    pub fn growth(&self, t: u64) -> f64 {
        match self.grows {
            true => self.fade(t).powf(-0.5),
            false => 1.0,
        }
    }

    /// Returns the formula of one step.
    pub fn at(&self, context: &StepContext) -> Formula {
        let (fade, growth) = (self.fade(context.step), self.growth(context.step));
        Formula {
            nominal: self.nominal.map(|c| (c * growth) as f32),
            blackbox: self.formula.blackbox * fade as f32,
            learning_rate: context.learning_rate as f32,
            ..self.formula
        }
    }
}

/// A rule whose crate contains a meta-trained θ.
pub trait Pretrained: Rule {
    /// The content of the θ file.
    const WEIGHTS: &'static [u8];
}

/// The inputs of a [`Rule`]'s step, for one tensor of n elements.
pub struct Evaluation {
    /// The MLP's outputs, \[heads, n\].
    pub heads: Tensor,
    /// The context of the step.
    pub context: StepContext,
    /// The gradient, \[1, n\].
    pub gradient: Tensor,
    /// The parameters, \[1, n\].
    pub parameters: Tensor,
    /// The features, including the momenta.
    pub features: Features,
}

impl Evaluation {
    /// Returns one output of the MLP, \[1, n\].
    ///
    /// # Errors
    /// Returns an error if there is no such output.
    pub fn head(&self, index: usize) -> Result<Tensor> {
        Ok(self.heads.narrow(0, index, 1)?)
    }
}
