//! The online scale in candle ops.

use candle_core::{DType, Device, Tensor};
use lopt_core::{Error, Grads, Params, Result, Slot, State};

use crate::{
    EPSILON, GRADIENT, GRADIENT_DECAY, LARGEST_SLOPE, LARGEST_SQUARE, LEARNERS, OnlineScale, SUM,
    TINY,
};

/// Adds the slots of the online scale, if there is one, to an optimizer's initial state.
///
/// # Errors
/// Returns an error if a tensor cannot be allocated.
pub fn init(scale: Option<&OnlineScale>, state: State, params: &Params) -> Result<State> {
    match scale {
        Some(scale) => scale.add_slots(state, params),
        None => Ok(state),
    }
}

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
    let (learners, network) = scale.of_network(state, grads)?;
    let (gradient, factor) = scale.gradient_factor(state, grads)?.unzip();
    state.step_each_checked(params, grads, |p, slots, g| {
        let (slots, old, sum) = split(slots)?;
        let (learners, tensor) = scale.advance_ops(old, &(sum * g)?.sum_all()?)?;
        let moved = network.mean(&tensor, scale.tensor_weight)?;
        let g = match &factor {
            Some(factor) => &g.broadcast_mul(&like(factor, g)?)?,
            None => g,
        };
        let (update, mut slots) = step(p, slots, g)?;
        let moved = (sum.broadcast_mul(&moved.change)? + update.broadcast_mul(&moved.scale)?)?;
        slots.extend([slot(LEARNERS, learners), slot(SUM, (sum + update)?)]);
        Ok(((p + moved)?, slots))
    })?;
    if let Some(last) = state.network.last_mut() {
        last.value = learners;
    }
    if let (Some(gradient), Some([old, _])) = (gradient, state.network.last_chunk_mut()) {
        old.value = gradient;
    }
    Ok(())
}

/// Returns a scalar with the type and device of `other`.
fn like(scalar: &Tensor, other: &Tensor) -> Result<Tensor> {
    Ok(scalar.to_device(other.device())?.to_dtype(other.dtype())?)
}

fn slot(name: &'static str, value: Tensor) -> Slot {
    Slot { name, value }
}

/// Returns the optimizer's own slots of a parameter, the learners, and Δ.
fn split(slots: &[Slot]) -> Result<(&[Slot], &Tensor, &Tensor)> {
    match slots.split_last_chunk() {
        Some((slots, [learners, sum])) if sum.name == SUM => {
            Ok((slots, &learners.value, &sum.value))
        }
        _ => Err(Error::other_state()),
    }
}

/// S′ − S and S′ of one step, scalars.
struct Moved {
    change: Tensor,
    scale: Tensor,
}

impl Moved {
    /// Returns (1 − w) · self + w · other, with the type and device of the other.
    fn mean(&self, other: &Self, w: f64) -> Result<Self> {
        let mean = |ours: &Tensor, others: &Tensor| -> Result<Tensor> {
            Ok(((like(ours, others)? * (1.0 - w))? + (others * w)?)?)
        };
        Ok(Self {
            change: mean(&self.change, &other.change)?,
            scale: mean(&self.scale, &other.scale)?,
        })
    }
}

impl OnlineScale {
    fn add_slots(&self, mut state: State, params: &Params) -> Result<State> {
        let learners = |dtype, device: &Device| -> Result<Slot> {
            let value = Tensor::zeros((4, self.learners), dtype, device)?;
            Ok(slot(LEARNERS, value))
        };
        let first = params.tensors().first();
        let (dtype, device) = match first {
            Some(p) => (p.dtype(), p.device()),
            None => (DType::F32, &Device::Cpu),
        };
        if self.gradient_rms.is_some() {
            let gradient = Tensor::zeros(2, dtype, device)?;
            state.network.push(slot(GRADIENT, gradient));
        }
        state.network.push(learners(dtype, device)?);
        for (slots, p) in state.slots.iter_mut().zip(params.tensors()) {
            let learners = learners(p.dtype(), p.device())?;
            slots.extend([learners, slot(SUM, p.zeros_like()?)]);
        }
        Ok(state)
    }

    /// Returns the network's learners after their update with the sum of all slopes, and the scale.
    fn of_network(&self, state: &State, grads: &Grads) -> Result<(Tensor, Moved)> {
        let last = state.network.last().filter(|slot| slot.name == LEARNERS);
        let learners = &last.ok_or_else(Error::other_state)?.value;
        let mut slope = Tensor::zeros((), learners.dtype(), learners.device())?;
        for (slots, g) in state.slots.iter().zip(grads.tensors()) {
            if let Some(g) = g.as_ref().filter(|g| g.elem_count() > 0) {
                let (_, _, sum) = split(slots)?;
                slope = (&slope + like(&(sum * g)?.sum_all()?, &slope)?)?;
            }
        }
        self.advance_ops(learners, &slope)
    }

    /// Returns (q, w) after their update with the gradients, and ρ/R, if gradients are scaled.
    fn gradient_factor(&self, state: &State, grads: &Grads) -> Result<Option<(Tensor, Tensor)>> {
        let Some(rms) = self.gradient_rms else {
            return Ok(None);
        };
        let old = match state.network.last_chunk() {
            Some([gradient, _]) if gradient.name == GRADIENT => &gradient.value,
            _ => return Err(Error::other_state()),
        };
        let mut sum = Tensor::zeros((), old.dtype(), old.device())?;
        let mut count = 0;
        for g in grads.tensors().iter().flatten() {
            sum = (&sum + like(&g.sqr()?.sum_all()?, &sum)?)?;
            count += g.elem_count();
        }
        if count == 0 {
            return Ok(None);
        }
        let mean = (sum / count as f64)?.minimum(LARGEST_SQUARE)?;
        let fresh = Tensor::stack(&[&mean, &mean.ones_like()?], 0)?;
        let new = ((old * GRADIENT_DECAY)? + (fresh * (1.0 - GRADIENT_DECAY))?)?;
        let ratio = (new.get(0)? / new.get(1)?)?;
        let factor = ((ratio + TINY)?.sqrt()?.recip()? * rms)?;
        Ok(Some((new, factor)))
    }

    /// Returns the learners, \[4, K\], after their update with the slope h, and the scale.
    fn advance_ops(&self, learners: &Tensor, slope: &Tensor) -> Result<(Tensor, Moved)> {
        if learners.dims() != [4, self.learners] {
            return Err(Error::other_state());
        }
        let row = |index: usize| learners.get(index);
        let (m, v, r, s) = (row(0)?, row(1)?, row(2)?, row(3)?);
        let old = s.sum_all()?;
        let h = slope.maximum(-LARGEST_SLOPE)?.minimum(LARGEST_SLOPE)?;
        let h = h.broadcast_as(self.learners)?;
        let bound = m
            .gt(EPSILON)?
            .where_cond(&(&m * self.slope_limit)?, &h.abs()?)?;
        let h = h.maximum(&bound.neg()?)?.minimum(&bound)?;
        let decays: Vec<f64> = self.decays().collect();
        let betas = Tensor::new(decays, s.device())?.to_dtype(s.dtype())?;
        let clipped = h.maximum(&m.neg()?)?.minimum(&m)?;
        let r = ((&betas * r)? - (s * clipped)?)?;
        let m = (&betas * m)?.maximum(&(h.abs()? + EPSILON)?)?;
        let v = ((betas.sqr()? * v)? + h.sqr()?)?;
        let wealth = ((&m * (self.initial / self.learners as f64))? + r.relu()?)?;
        let s = (wealth / ((&v + TINY)?.sqrt()? + EPSILON)?)?;
        let scale = s.sum_all()?;
        let moved = Moved {
            change: (&scale - old)?,
            scale,
        };
        Ok((Tensor::stack(&[m, v, r, s], 0)?, moved))
    }
}
