//! STAR with the reference's inner weight decay, which is not in the paper.

use candle_core::Tensor;
use lopt_core::{Grads, LearnedOptimizer, Optimizer, Params, Result, State, Theta};
use lopt_per_param::{Evaluation, PerParam};
use lopt_tests::{Golden, theta};
use serde_json::Value;

/// The reference's `MLPNomLOpt` with all four outputs of its MLP: direction d and
/// magnitudes m_b, m_g and m_r.
///
/// Δφ = −\[ β_b · exp(e₀ · m_b) · d · r + β_g · exp(e₁ · m_g) · g̃ + wd · exp(e₂ · m_r) · φ \],
/// where r = (v + 1e-6)^{-1/2} and g̃ is the mean of the preconditioned momenta; m_r is 0 without
/// the regularisation controller. Other settings of the reference panic.
#[derive(Clone)]
pub struct WithWeightDecay {
    theta: Theta,
    settings: Value,
}

impl WithWeightDecay {
    /// Reads θ below `prefix`; `settings` has the reference's names.
    pub fn new(golden: &Golden, prefix: &str, settings: &Value) -> Self {
        for needed in ["nominal_controller", "normalize_blackbox"] {
            assert_eq!(settings[needed], true, "{needed}");
        }
        assert_eq!(settings["selfnormalize_blackbox"], false);
        assert_eq!(settings["nominal_grad_estimator"], "AdamAggMo");
        let kind = "star with inner weight decay";
        Self {
            theta: theta(golden, prefix, kind, settings.clone(), 4),
            settings: settings.clone(),
        }
    }

    fn per_param() -> PerParam {
        PerParam::new(&[4, 4], 4)
    }

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

    fn delta(&self, evaluation: &Evaluation) -> Result<Tensor> {
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
        Ok(step.neg()?)
    }
}

impl Optimizer for WithWeightDecay {
    fn kind(&self) -> &'static str {
        "star with inner weight decay"
    }

    fn init(&self, params: &Params) -> Result<State> {
        Self::per_param().init_state(params)
    }

    fn update(&self, state: &mut State, params: &mut Params, grads: &Grads) -> Result<()> {
        let p = &params.tensors()[0];
        let theta = self.theta.tensors(p.dtype(), p.device())?;
        self.update_with(&theta, state, params, grads)
    }

    fn learning_rate(&self) -> f64 {
        1.0
    }

    fn set_learning_rate(&mut self, _: f64) {}
}

impl LearnedOptimizer for WithWeightDecay {
    fn theta(&self) -> &Theta {
        &self.theta
    }

    fn with_values(&self, values: Vec<f32>) -> Result<Box<dyn LearnedOptimizer>> {
        Ok(Box::new(Self {
            theta: self.theta.with_values(values)?,
            ..self.clone()
        }))
    }

    fn update_with(
        &self,
        theta: &[Tensor],
        state: &mut State,
        params: &mut Params,
        grads: &Grads,
    ) -> Result<()> {
        Self::per_param().step(theta, state, params, grads, |evaluation| {
            self.delta(evaluation)
        })
    }
}
