//! Where an optimizer's slots are in the device's memory.

use candle_core::{DType, Tensor};
use lopt_core::{Error, Result, Slot, State};
use lopt_cuda::{NetworkSlots, Slots, layout::Address};

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

    /// The addresses, if the memory begins at `base`.
    pub fn places(&self, base: Address) -> Result<(NetworkSlots, Vec<Slots>)> {
        let mut offsets = self.offsets.iter().map(|at| base + *at as Address);
        let (mut network, mut tensors) = (NetworkSlots::default(), vec![]);
        let mut put = |slots: &[Slot], place: &mut dyn FnMut(&str, Address) -> bool| {
            let mut pairs = slots.iter().zip(&mut offsets);
            match pairs.find(|(slot, at)| !place(slot.name, *at)) {
                None => Ok(()),
                Some((slot, _)) => Err(unknown(slot.name)),
            }
        };
        put(&self.shapes.network, &mut |name, at| {
            place_of_network(&mut network, name, at)
        })?;
        for slots in &self.shapes.slots {
            let mut tensor = Slots::default();
            put(slots, &mut |name, at| place(&mut tensor, name, at))?;
            tensors.push(tensor);
        }
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

fn unknown(name: &str) -> Error {
    Error::Mismatch(format!("the CUDA kernels do not know the state `{name}`"))
}

/// Sets the address of a slot; returns whether the kernels know it.
fn place_of_network(slots: &mut NetworkSlots, name: &str, at: Address) -> bool {
    let place = match name {
        "gradient-square" => &mut slots.gradient_square,
        "scale-learners" => &mut slots.learners,
        _ => return false,
    };
    *place = at;
    true
}

/// Sets the address of a slot of a tensor; returns whether the kernels know it.
fn place(slots: &mut Slots, name: &str, at: Address) -> bool {
    let place = match name {
        "momentum" | "m" => &mut slots.momentum,
        "rms" | "v" => &mut slots.rms,
        "factored_row" => &mut slots.row,
        "factored_col" => &mut slots.col,
        "factored_diag" => &mut slots.diagonal,
        "scale-learners" => &mut slots.learners,
        "update-sum" => &mut slots.sum,
        _ => return false,
    };
    *place = at;
    true
}
