//! The online scale in candle ops.

use candle_core::{DType, Device, Tensor};
use lopt_core::{Error, Grads, Params, Result, Slot, State};

use crate::{EPSILON, NETWORK, OnlineScale, SUM, TINY};

/// Updates every non-empty parameter that has a gradient, and increments the step number. `step`
/// maps (value, slots, gradient) of a parameter to its update u and its new slots. With a scale, φ
/// moves as described in the [crate documentation](crate); without, φ ← φ + u.
///
/// # Errors
/// Returns the errors of [`State::step_each`]; state and parameters are then unchanged.
pub fn step_each(
    scale: Option<&OnlineScale>,
    state: &mut State,
    params: &mut Params,
    grads: &Grads,
    step: impl Fn(&Tensor, &[Slot], &Tensor) -> Result<(Tensor, Vec<Slot>)>,
) -> Result<()> {
    let Some(scale) = scale else {
        return state.step_each(params, grads, |p, slots, g| {
            let (update, slots) = step(p, slots, g)?;
            Ok(((p + update)?, slots))
        });
    };
    grads.check(params)?;
    let (network, moved) = scale.next(state, grads)?;
    state.step_each(params, grads, |p, slots, g| {
        let (sum, slots) = split(slots)?;
        let (update, mut slots) = step(p, slots, g)?;
        let change = moved.change.to_dtype(p.dtype())?;
        let factor = moved.scale.to_dtype(p.dtype())?;
        let moved = (sum.broadcast_mul(&change)? + update.broadcast_mul(&factor)?)?;
        slots.push(Slot {
            name: SUM,
            value: (sum + update)?,
        });
        Ok(((p + moved)?, slots))
    })?;
    state.network = network;
    Ok(())
}

/// Returns Δ, the last slot, and the slots before it.
fn split(slots: &[Slot]) -> Result<(&Tensor, &[Slot])> {
    match slots.split_last() {
        Some((sum, slots)) if sum.name == SUM => Ok((&sum.value, slots)),
        _ => Err(Error::other_state()),
    }
}

/// The scale of one step: S′ − S and S′, both scalars.
struct Moved {
    change: Tensor,
    scale: Tensor,
}

impl OnlineScale {
    /// Adds the slots of the online scale to an optimizer's initial state.
    ///
    /// # Errors
    /// Returns an error if a tensor cannot be allocated.
    pub fn init(&self, mut state: State, params: &Params) -> Result<State> {
        let first = params.tensors().first();
        let (dtype, device) = first.map_or((DType::F32, Device::Cpu), |p| {
            (p.dtype(), p.device().clone())
        });
        for name in NETWORK {
            let value = Tensor::zeros(self.learners, dtype, &device)?;
            state.network.push(Slot { name, value });
        }
        for (slots, p) in state.slots.iter_mut().zip(params.tensors()) {
            let value = p.zeros_like()?;
            slots.push(Slot { name: SUM, value });
        }
        Ok(state)
    }

    /// Returns the network's new slots and the scale of the step.
    fn next(&self, state: &State, grads: &Grads) -> Result<(Vec<Slot>, Moved)> {
        let [m, v, r, s] = state.network.as_slice() else {
            return Err(Error::other_state());
        };
        let [m, v, r, s] = [m, v, r, s].map(|slot| &slot.value);
        let old = s.sum_all()?;
        let h = Self::slope(state, grads, &old)?.broadcast_as(self.learners)?;
        let decays: Vec<f64> = self.decays().collect();
        let betas = Tensor::new(decays, s.device())?.to_dtype(s.dtype())?;
        let clipped = h.maximum(&m.neg()?)?.minimum(m)?;
        let r = ((&betas * r)? - (s * clipped)?)?;
        let m = (&betas * m)?.maximum(&(h.abs()? + EPSILON)?)?;
        let v = ((betas.sqr()? * v)? + h.sqr()?)?;
        let wealth = ((&m * (self.initial / self.learners as f64))? + r.relu()?)?;
        let s = (wealth / ((&v + TINY)?.sqrt()? + EPSILON)?)?;
        let scale = s.sum_all()?;
        let change = (&scale - old)?;
        let slots = NETWORK.into_iter().zip([m, v, r, s]);
        let slots = slots.map(|(name, value)| Slot { name, value }).collect();
        Ok((slots, Moved { change, scale }))
    }

    /// Returns h = ⟨Δ, ∇⟩, a scalar of the type and device of `like`.
    fn slope(state: &State, grads: &Grads, like: &Tensor) -> Result<Tensor> {
        let mut slope = like.zeros_like()?;
        for (slots, g) in state.slots.iter().zip(grads.tensors()) {
            if let Some(g) = g.as_ref().filter(|g| g.elem_count() > 0) {
                let (sum, _) = split(slots)?;
                slope = (slope + (sum * g)?.sum_all()?.to_dtype(like.dtype())?)?;
            }
        }
        Ok(slope)
    }
}
