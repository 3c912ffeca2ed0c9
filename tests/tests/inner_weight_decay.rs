//! STAR with the reference's inner weight decay, which is not in the paper.

use candle_core::Tensor;
use lopt_core::Result;
use lopt_per_param::{Evaluation, Learned, Rule};
use lopt_tests::{Golden, theta};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The reference's `MLPNomLOpt` with all four outputs of its MLP: direction d and
/// magnitudes m_b, m_g and m_r.
///
/// Δφ = −\[ β_b · exp(e₀ · m_b) · d · r + β_g · exp(e₁ · m_g) · g̃ + wd · exp(e₂ · m_r) · φ \],
/// where r = (v + 1e-6)^{-1/2} and g̃ is the mean of the preconditioned momenta; m_r is 0 without
/// the regularization controller. Other settings of the reference panic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WithWeightDecay {
    settings: Value,
}

/// θ below `prefix`, and the reference's names of its settings.
pub fn with_weight_decay(
    golden: &Golden,
    prefix: &str,
    settings: &Value,
) -> Learned<WithWeightDecay> {
    for needed in ["nominal_controller", "normalize_blackbox"] {
        assert_eq!(settings[needed], true, "{needed}");
    }
    assert_eq!(settings["selfnormalize_blackbox"], false);
    assert_eq!(settings["nominal_grad_estimator"], "AdamAggMo");
    let (kind, heads) = (WithWeightDecay::KIND, 4);
    Learned::new(theta(golden, prefix, kind, settings.clone(), heads)).unwrap()
}

impl WithWeightDecay {
    fn is(&self, key: &str) -> bool {
        self.settings[key].as_bool().unwrap()
    }

    fn number(&self, key: &str) -> f64 {
        self.settings[key].as_f64().unwrap()
    }

    /// exp(e · m), \[1, n\], or \[1, 1\] if `aggregate` averages m over the tensor.
    fn factor(&self, magnitude: Tensor, index: usize, aggregate: &str) -> Result<Tensor> {
        let exp = self.settings["exp_mult"][index].as_f64().unwrap();
        let magnitude = if self.is(aggregate) {
            magnitude.mean_keepdim(1)?
        } else {
            magnitude
        };
        Ok((magnitude * exp)?.exp()?)
    }
}

impl Rule for WithWeightDecay {
    const KIND: &'static str = "star with inner weight decay";

    fn heads(&self) -> usize {
        4
    }

    fn step(&self, evaluation: &Evaluation) -> Result<Tensor> {
        let mut decay_magnitude = evaluation.head(3)?;
        if !self.is("regularization_controller") {
            decay_magnitude = decay_magnitude.zeros_like()?;
        }
        let features = &evaluation.features;
        let direction = (evaluation.head(0)? * &features.rsqrt)?;
        let nominal = features.preconditioned_momentum.mean_keepdim(0)?;
        let terms = [
            (
                direction,
                evaluation.head(1)?,
                "aggregate_magnitude",
                "step_mult",
            ),
            (
                nominal,
                evaluation.head(2)?,
                "aggregate_nom_magnitude",
                "nominal_stepsize",
            ),
            (
                evaluation.parameters.clone(),
                decay_magnitude,
                "aggregate_reg_magnitude",
                "weight_decay",
            ),
        ];
        let mut step = evaluation.parameters.zeros_like()?;
        for (index, (term, magnitude, aggregate, scale)) in terms.into_iter().enumerate() {
            let factor = self.factor(magnitude, index, aggregate)?;
            step = (step + (term.broadcast_mul(&factor)? * self.number(scale))?)?;
        }
        Ok(step)
    }
}
