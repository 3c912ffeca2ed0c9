use candle_core::Tensor;
use lopt_core::{Result, StepContext};
use lopt_kernels::per_param::Formula;
use serde::{Serialize, de::DeserializeOwned};

use crate::features::Features;

/// What one learned optimizer adds to the common per-parameter MLP: its configuration, how many
/// outputs the MLP has, and the formula from these outputs to the step.
///
/// The configuration *is* the rule: it is what θ files and TOML files hold. [`crate::Learned`]
/// makes an optimizer of it.
///
/// ```
/// use candle_core::Tensor;
/// use lopt_core::{Result, StepContext};
/// use lopt_per_param::{Evaluation, Formula, Learned, Rule};
/// use serde::{Deserialize, Serialize};
///
/// /// Δφ = −0.001 · d, with the direction d as the only output of the MLP.
/// #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
/// struct Direction;
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
    /// The kind that files and configurations name.
    const KIND: &'static str;

    /// The factor on the initial weights of the MLP's last layer before meta-training: 1 as in the
    /// reference, or 0 for a rule that trains without any output of the MLP.
    const LAST_LAYER_SCALE: f32 = 1.0;

    /// Widths of the MLP's hidden layers, at most three. There are kernels for two layers of 4, 8,
    /// 16 or 32; others run in candle ops.
    fn hidden(&self) -> &[usize] {
        &[4, 4]
    }

    /// Outputs of the MLP.
    fn heads(&self) -> usize;

    /// The inner step that the step features show at inner step `t`.
    fn seen_step(&self, t: u64) -> u64 {
        t
    }

    /// The step of one tensor of n elements, \[1, n\], in candle ops that are differentiable in θ.
    /// Δφ is the step times −η with the learning rate η.
    ///
    /// # Errors
    /// Returns an error if a tensor operation fails.
    fn step(&self, evaluation: &Evaluation) -> Result<Tensor>;

    /// The same step as the CPU kernels take it; `None` if they cannot express it, and it runs in
    /// candle ops.
    fn formula(&self, _context: &StepContext) -> Option<Formula> {
        None
    }

    /// The rule without its blackbox term, of the same layout of θ, if it has a nominal term.
    fn nominal_only(&self) -> Option<Self> {
        None
    }
}

/// A rule that has meta-trained weights in its crate.
pub trait Pretrained: Rule {
    /// A θ file.
    const WEIGHTS: &'static [u8];
}

/// What a [`Rule`] computes its step from, for one tensor of n elements.
pub struct Evaluation {
    /// The MLP's outputs, \[heads, n\].
    pub heads: Tensor,
    /// Which step it is.
    pub context: StepContext,
    /// The gradient, \[1, n\].
    pub gradient: Tensor,
    /// The parameters, \[1, n\].
    pub parameters: Tensor,
    /// Momenta and second moments.
    pub features: Features,
}

impl Evaluation {
    /// One output of the MLP, \[1, n\].
    ///
    /// # Errors
    /// Returns an error if there is no such output.
    pub fn head(&self, index: usize) -> Result<Tensor> {
        Ok(self.heads.narrow(0, index, 1)?)
    }
}
