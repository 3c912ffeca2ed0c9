//! Where an optimizer's slots are in the device's memory.

use candle_core::{DType, Tensor};
use lopt_core::{Error, Result, Slot, State};
use lopt_cuda::{NetworkSlots, Rule, Slots, bytes::bytes_of, layout::Address};

use crate::Kernels;

/// The boundary of each slot.
const ALIGNMENT: usize = 256;

/// All slots one after another in one allocation, in the order of [`State::all_slots`].
pub struct SlotLayout {
    /// The state with names and shapes, but a single value in memory.
    shapes: State,
    /// The offset of each slot.
    offsets: Vec<usize>,
    bytes: usize,
}

impl SlotLayout {
    pub fn new(state: &State) -> Result<Self> {
        let mut shapes = state.clone();
        let (mut offsets, mut bytes) = (vec![], 0);
        for slot in shapes.all_slots_mut() {
            let dims = slot.value.dims().to_vec();
            offsets.push(bytes);
            bytes += (slot.value.elem_count() * size_of::<f32>()).next_multiple_of(ALIGNMENT);
            let zero = Tensor::zeros((), DType::F32, &candle_core::Device::Cpu)?;
            slot.value = zero.broadcast_as(dims)?;
        }
        Ok(Self {
            shapes,
            offsets,
            bytes,
        })
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Each slot with its offset.
    pub fn iter(&self) -> impl Iterator<Item = (&Slot, usize)> {
        self.shapes.all_slots().zip(self.offsets.iter().copied())
    }

    /// The addresses, if the memory begins at `base`, of an optimizer with these kernels and
    /// parameters of these shapes.
    ///
    /// # Errors
    /// Returns [`Error::Mismatch`] if the kernels need other slots: they do not check sizes.
    pub fn places(
        &self,
        base: Address,
        kernels: &Kernels,
        shapes: &[Vec<usize>],
    ) -> Result<(NetworkSlots, Vec<Slots>)> {
        if self.shapes.slots.len() != shapes.len() {
            return Err(Error::other_state());
        }
        let mut at = self.offsets.iter().map(|offset| base + *offset as Address);
        let mut network = NetworkSlots::default();
        let needed = needed_by_network(kernels);
        place(&self.shapes.network, &needed, &mut network, &mut at)?;
        let tensors = self.shapes.slots.iter().zip(shapes).map(|(slots, dims)| {
            let mut tensor = Slots::default();
            place(
                slots,
                &needed_by_tensor(kernels, dims)?,
                &mut tensor,
                &mut at,
            )?;
            Ok(tensor)
        });
        let tensors = tensors.collect::<Result<_>>()?;
        Ok((network, tensors))
    }

    /// Returns the values of each slot of a state.
    ///
    /// # Errors
    /// Returns [`Error::Mismatch`] if it has other slots.
    pub fn values(&self, state: &State) -> Result<Vec<Vec<f32>>> {
        if self.shapes.shapes() != state.shapes() {
            return Err(Error::other_state());
        }
        let values = |slot: &Slot| Ok(slot.value.flatten_all()?.to_vec1::<f32>()?);
        state.all_slots().map(values).collect()
    }

    /// Returns the memory with the values of each slot.
    pub fn content(&self, values: &[Vec<f32>]) -> Vec<u8> {
        let mut content = vec![0; self.bytes];
        for (values, at) in values.iter().zip(&self.offsets) {
            let bytes = bytes_of(values);
            content[*at..at + bytes.len()].copy_from_slice(&bytes);
        }
        content
    }

    /// Returns the state with values that `read` gives for a slot and its offset.
    pub fn state(
        &self,
        step: u64,
        mut read: impl FnMut(&Tensor, usize) -> Result<Tensor>,
    ) -> Result<State> {
        let mut state = State {
            step,
            ..self.shapes.clone()
        };
        for (slot, at) in state.all_slots_mut().zip(&self.offsets) {
            slot.value = read(&slot.value, *at)?;
        }
        Ok(state)
    }
}

/// A slot that the kernels need: its name, its number of values, and the place of its address.
type Needed<P> = (&'static str, usize, fn(&mut P) -> &mut Address);

/// Sets the addresses of slots, which must be those needed, in their order.
fn place<P>(
    slots: &[Slot],
    needed: &[Needed<P>],
    places: &mut P,
    addresses: &mut impl Iterator<Item = Address>,
) -> Result<()> {
    let sizes = slots
        .iter()
        .map(|slot| (slot.name, slot.value.elem_count()));
    if !sizes.eq(needed.iter().map(|(name, count, _)| (*name, *count))) {
        return Err(Error::Mismatch(format!(
            "the state of a parameter has the slots {:?}, but its CUDA kernels need {:?}",
            slots.iter().map(|slot| slot.name).collect::<Vec<_>>(),
            needed.iter().map(|(name, ..)| name).collect::<Vec<_>>(),
        )));
    }
    for ((_, _, place), at) in needed.iter().zip(addresses) {
        *place(places) = at;
    }
    Ok(())
}

fn needed_by_network(kernels: &Kernels) -> Vec<Needed<NetworkSlots>> {
    let Some(scale) = &kernels.scale else {
        return vec![];
    };
    let mut needed: Vec<Needed<NetworkSlots>> = vec![];
    if scale.gradient_rms.is_some() {
        needed.push(("gradient-square", 2, |slots| &mut slots.gradient_square));
    }
    needed.push(("scale-learners", 4 * scale.learners, |slots| {
        &mut slots.learners
    }));
    needed
}

fn needed_by_tensor(kernels: &Kernels, dims: &[usize]) -> Result<Vec<Needed<Slots>>> {
    let n: usize = dims.iter().product();
    let without = |dim: usize| -> usize {
        let others = dims.iter().enumerate().filter(|(other, _)| *other != dim);
        others.map(|(_, size)| size).product()
    };
    let mut needed: Vec<Needed<Slots>> = vec![];
    match kernels.rule {
        Rule::Adam(_) => {
            needed.push(("m", n, |slots| &mut slots.momentum));
            needed.push(("v", n, |slots| &mut slots.rms));
        }
        Rule::PerParameter(_) => {
            needed.push(("momentum", 3 * n, |slots| &mut slots.momentum));
            needed.push(("rms", n, |slots| &mut slots.rms));
            if let Some((second, largest)) = kernels.factored(dims)? {
                needed.push(("factored_row", 3 * without(largest), |slots| &mut slots.row));
                needed.push(("factored_col", 3 * without(second), |slots| &mut slots.col));
            } else {
                needed.push(("factored_diag", 3 * n, |slots| &mut slots.diagonal));
            }
        }
    }
    if let Some(scale) = &kernels.scale {
        needed.push(("scale-learners", 4 * scale.learners, |slots| {
            &mut slots.learners
        }));
        needed.push(("update-sum", n, |slots| &mut slots.sum));
    }
    Ok(needed)
}
