use lopt_core::{Error, Result};
use lopt_cuda::{Number, Optimizer, Rule, Scale, Spec, theta};
use lopt_online_scale::OnlineScale;

/// An optimizer in the form that the kernels need.
#[derive(Clone, Debug)]
pub struct Kernels {
    /// The update.
    pub rule: Rule,
    /// The online scale, or none.
    pub scale: Option<OnlineScale>,
    /// The number of outputs of the MLP; 0 without one.
    pub heads: usize,
    /// θ; empty for an optimizer without one.
    pub theta: Vec<f32>,
    /// Returns the second largest and the largest dimension of a shape of rank ≥ 2.
    pub factored_dims: fn(&[usize]) -> Option<(usize, usize)>,
}

impl Kernels {
    pub(crate) fn optimizer(&self) -> Optimizer {
        let scale = self.scale.as_ref().map(|scale| Scale {
            initial: scale.initial,
            learners: scale.learners,
            tensor_weight: scale.tensor_weight,
            slope_limit: scale.slope_limit,
            gradient_rms: scale.gradient_rms,
        });
        Optimizer {
            rule: self.rule.clone(),
            scale,
        }
    }

    pub(crate) fn spec(&self, dims: &[usize], number: Number) -> Result<Spec> {
        Ok(Spec {
            dims: dims.to_vec(),
            factored: self.factored(dims)?,
            number,
        })
    }

    /// The two dimensions over which second moments are factored.
    pub(crate) fn factored(&self, dims: &[usize]) -> Result<Option<(usize, usize)>> {
        let found = (self.factored_dims)(dims);
        match found {
            Some((a, b)) if a == b || a.max(b) >= dims.len() => Err(Error::Mismatch(format!(
                "{a} and {b} are not two dimensions of the shape {dims:?}"
            ))),
            _ => Ok(found),
        }
    }

    /// Returns these values of θ as the kernels read them.
    pub(crate) fn decoded(&self, values: &[f32]) -> Result<Vec<f32>> {
        let decoded = match &self.rule {
            Rule::PerParameter(rule) => theta::decoded(values, rule.hidden, self.heads),
            Rule::Adam(_) => values.is_empty().then(Vec::new),
        };
        decoded.ok_or_else(|| {
            let (given, needed) = (values.len(), self.theta.len());
            Error::Mismatch(format!(
                "{given} values of θ for an optimizer with {needed} meta-parameters"
            ))
        })
    }
}
