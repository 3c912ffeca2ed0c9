//! The update in candle ops.

use candle_core::Tensor;
use lopt_core::{Error, Grads, Params, Result, Slot, State, StepContext};
use lopt_kernels::per_param::theta::Parts;
use lopt_online_scale::step_each;

use crate::{
    Evaluation, Rule,
    accumulators::{Accumulators, Decays, accumulate, working_shape},
    features::{features, normalizer},
    mlp::Mlp,
};

/// Takes one step of every tensor with a gradient, with the update −η·step. `theta` holds θ's parts in layout
/// order.
pub fn update(
    rule: &impl Rule,
    sizes: &[usize],
    theta: &[Tensor],
    context: &StepContext,
    state: &mut State,
    params: &mut Params,
    grads: &Grads,
) -> Result<()> {
    let layers = sizes.len() - 1;
    let parts = Parts::in_name_order(theta, layers).ok_or_else(|| {
        let (count, needed) = (theta.len(), 3 + 2 * layers);
        Error::Mismatch(format!("θ has {count} parts, not {needed}"))
    })?;
    let decays = Decays::new(parts.momentum, parts.rms, parts.adafactor)?;
    let mlp = Mlp::at_step(&parts.layers, rule.seen_step(context.step))?;
    step_each(rule.online_scale(), state, params, grads, |p, slots, g| {
        let (accumulators, evaluation) = evaluate(&decays, &mlp, context, slots, p, g)?;
        let update = (rule.step(&evaluation)? * -context.learning_rate)?;
        Ok((update.reshape(p.shape())?, accumulators.into_slots()))
    })
}

fn evaluate(
    decays: &Decays,
    mlp: &Mlp,
    context: &StepContext,
    slots: &[Slot],
    p: &Tensor,
    g: &Tensor,
) -> Result<(Accumulators, Evaluation)> {
    let shape = working_shape(p.dims());
    let (p, g) = (p.reshape(shape.as_slice())?, g.reshape(shape.as_slice())?);
    let old = Accumulators::from_slots(slots).ok_or_else(Error::other_state)?;
    let accumulators = accumulate(&old, decays, &g)?;
    let features = features(&p, &g, &accumulators)?;
    let n = g.elem_count();
    let evaluation = Evaluation {
        heads: mlp.forward(&features.raw, &normalizer(&features.raw)?)?,
        context: *context,
        gradient: g.reshape((1, n))?,
        parameters: p.reshape((1, n))?,
        features,
    };
    Ok((accumulators, evaluation))
}
