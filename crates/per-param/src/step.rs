use candle_core::Tensor;
use lopt_core::{Error, Grads, Layout, Params, Result, Rng, Slot, State, Theta};
use serde_json::Value;

use crate::{
    accumulators::{Accumulators, Decays, accumulate, working_shape},
    features::{Features, features, normalizer},
    mlp::{self, Mlp},
};

/// The shared part of the learned optimizers: an MLP 39 → hidden → heads with ReLU over
/// the features of each scalar parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerParam {
    sizes: Vec<usize>,
    time_limit: u64,
}

/// What the update formula of an optimizer is made of, for one tensor of n elements.
pub struct Evaluation {
    /// The MLP's outputs, \[heads, n\].
    pub heads: Tensor,
    /// 1 up to the time limit, limit / t at a later inner step t.
    pub fade: f64,
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
    /// If there is no such head.
    pub fn head(&self, index: usize) -> Result<Tensor> {
        Ok(self.heads.narrow(0, index, 1)?)
    }
}

impl PerParam {
    /// With these hidden layers and outputs.
    pub fn new(hidden: &[usize], heads: usize) -> Self {
        Self {
            sizes: mlp::sizes(hidden, heads),
            time_limit: u64::MAX,
        }
    }

    /// Step features that stay as they are from inner step `limit` on; [`Evaluation::fade`]
    /// tells how far beyond it the step is.
    pub fn with_time_limit(self, limit: u64) -> Self {
        Self {
            time_limit: limit,
            ..self
        }
    }

    /// The step that the step features show at inner step `t`, and [`Evaluation::fade`].
    pub(crate) fn clock(&self, t: u64) -> (u64, f64) {
        let seen = t.min(self.time_limit);
        let fade = if seen < t {
            seen as f64 / t as f64
        } else {
            1.0
        };
        (seen, fade)
    }

    /// Sizes of the MLP's layers: 39, the hidden ones, the heads.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// Names and shapes of θ: offsets of the decays, weights \[in, out\] and biases.
    pub fn layout(&self) -> Layout {
        mlp::layout(&self.sizes)
    }

    /// A fresh θ: weights truncated normal with σ = 1/√fan_in, the last layer's times
    /// `last_layer_scale`; biases and offsets 0.
    ///
    /// # Errors
    /// None in practice.
    pub fn init_theta(
        &self,
        kind: &str,
        config: Value,
        last_layer_scale: f32,
        rng: &mut Rng,
    ) -> Result<Theta> {
        let values = mlp::initial_values(&self.sizes, last_layer_scale, rng);
        Theta::new(kind, config, self.layout(), values)
    }

    /// Refuses a θ of another layout.
    ///
    /// # Errors
    /// [`Error::Mismatch`] that says what differs, or that there are more than ten layers,
    /// whose names would not be in order.
    pub fn check_layout(&self, theta: &Theta) -> Result<()> {
        if self.sizes.len() > 11 {
            return Err(Error::Mismatch(format!(
                "the per-parameter MLP has {} hidden layers; at most 9 can be",
                self.sizes.len() - 2
            )));
        }
        let (has, needs) = (theta.layout(), self.layout());
        if *has != needs {
            return Err(Error::Mismatch(format!(
                "this θ of `{}` has the parts {:?}, its configuration asks for {:?}",
                theta.kind(),
                has.parts()
                    .map(|(name, shape, _)| (name, shape))
                    .collect::<Vec<_>>(),
                needs
                    .parts()
                    .map(|(name, shape, _)| (name, shape))
                    .collect::<Vec<_>>(),
            )));
        }
        Ok(())
    }

    /// The accumulators before the first step: zero.
    ///
    /// # Errors
    /// Those of candle.
    pub fn init_state(&self, params: &Params) -> Result<State> {
        let slots = params
            .tensors()
            .iter()
            .map(|p| Ok(Accumulators::zeros(p.dims(), p.dtype(), p.device())?.into_slots()));
        Ok(State {
            step: 0,
            slots: slots.collect::<Result<_>>()?,
        })
    }

    /// One step φ ← φ + Δφ, where `update` gives Δφ \[1, n\] of each tensor.
    ///
    /// # Errors
    /// If gradients, θ or state do not fit, or a gradient is not finite; nothing has then
    /// changed.
    pub fn step(
        &self,
        theta: &[Tensor],
        state: &mut State,
        params: &mut Params,
        grads: &Grads,
        update: impl Fn(&Evaluation) -> Result<Tensor>,
    ) -> Result<()> {
        grads.check(params)?;
        if state.slots.len() != params.len() {
            return Err(Error::Mismatch(format!(
                "state of {} parameters for {} parameters",
                state.slots.len(),
                params.len()
            )));
        }
        let (seen, fade) = self.clock(state.step);
        let (decays, mlp) = self.at_step(theta, seen)?;
        let mut tensors = params.tensors().to_vec();
        let mut slots = state.slots.clone();
        for ((p, slots), g) in tensors.iter_mut().zip(&mut slots).zip(grads.tensors()) {
            let Some(g) = g else { continue };
            if p.elem_count() == 0 {
                continue;
            }
            let (accumulators, evaluation) = evaluate(&decays, &mlp, fade, slots, p, g)?;
            let delta = update(&evaluation)?;
            *p = (&*p + delta.reshape(p.shape())?)?;
            *slots = accumulators.into_slots();
        }
        *params = params.with_tensors(tensors)?;
        state.slots = slots;
        state.step += 1;
        Ok(())
    }

    /// Takes θ's parts (in layout order) apart.
    fn at_step(&self, theta: &[Tensor], t: u64) -> Result<(Decays, Mlp)> {
        let count = self.sizes.len() - 1;
        // Name order: adafactor and momentum decays, biases, weights, rms decay.
        let [adafactor, momentum, nn @ .., rms] = theta else {
            return Err(Error::Mismatch(format!("θ has only {} parts", theta.len())));
        };
        if nn.len() != 2 * count {
            return Err(Error::Mismatch(format!(
                "θ has {} weights and biases, not {}",
                nn.len(),
                2 * count
            )));
        }
        let decays = Decays::new(momentum, rms, adafactor)?;
        let (biases, weights) = nn.split_at(count);
        let layers: Vec<_> = weights.iter().zip(biases).collect();
        Ok((decays, Mlp::at_step(&layers, t)?))
    }
}

fn evaluate(
    decays: &Decays,
    mlp: &Mlp,
    fade: f64,
    slots: &[Slot],
    p: &Tensor,
    g: &Tensor,
) -> Result<(Accumulators, Evaluation)> {
    let shape = working_shape(p.dims());
    let (p, g) = (p.reshape(shape.as_slice())?, g.reshape(shape.as_slice())?);
    let old = Accumulators::from_slots(slots)
        .ok_or_else(|| Error::Mismatch("the state is of another kind of optimizer".to_owned()))?;
    let accumulators = accumulate(&old, decays, &g)?;
    let features = features(&p, &g, &accumulators)?;
    let n = g.elem_count();
    let evaluation = Evaluation {
        heads: mlp.forward(&features.raw, &normalizer(&features.raw)?)?,
        fade,
        gradient: g.reshape((1, n))?,
        parameters: p.reshape((1, n))?,
        features,
    };
    Ok((accumulators, evaluation))
}
