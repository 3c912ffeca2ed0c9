use std::{collections::BTreeMap, path::Path};

use candle_core::Tensor;
use serde_json::{Value, json};

use crate::{Error, Grads, Optimizer, Params, Result, file};

/// A named tensor of an optimizer's state, such as a momentum.
#[derive(Clone, Debug)]
pub struct Slot {
    /// The name of what it accumulates, without `/`.
    pub name: &'static str,
    /// The accumulated tensor.
    pub value: Tensor,
}

/// An optimizer's state: the number of steps taken, the slots of the whole network, and the slots
/// of each parameter.
#[derive(Clone, Debug)]
pub struct State {
    /// The number of steps taken so far.
    pub step: u64,
    /// The slots of the whole network.
    pub network: Vec<Slot>,
    /// The slots of each parameter, in the order of the [`Params`].
    pub slots: Vec<Vec<Slot>>,
}

impl State {
    /// Creates a state before the first step, with slots of the parameters only.
    pub fn of_parameters(slots: Vec<Vec<Slot>>) -> Self {
        Self {
            step: 0,
            network: vec![],
            slots,
        }
    }

    /// Iterates over all slots: those of the network, then those of each parameter.
    pub fn all_slots(&self) -> impl Iterator<Item = &Slot> {
        self.network.iter().chain(self.slots.iter().flatten())
    }

    /// Iterates mutably over all slots, in the order of [`State::all_slots`].
    pub fn all_slots_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        let of_parameters = self.slots.iter_mut().flatten();
        self.network.iter_mut().chain(of_parameters)
    }

    /// Returns the shape of each slot: those of the network, then those of each parameter.
    pub fn shapes(&self) -> Vec<Vec<&[usize]>> {
        let groups = std::iter::once(&self.network).chain(&self.slots);
        groups
            .map(|slots| slots.iter().map(|slot| slot.value.dims()).collect())
            .collect()
    }

    /// Updates every non-empty parameter that has a gradient, and increments the step number. `step`
    /// maps (value, slots, gradient) of a parameter to its new value and slots.
    ///
    /// # Errors
    /// Returns an error if a gradient is invalid (see [`Grads::check`]), the state belongs to other
    /// parameters, or `step` fails; state and parameters are then unchanged.
    pub fn step_each(
        &mut self,
        params: &mut Params,
        grads: &Grads,
        step: impl Fn(&Tensor, &[Slot], &Tensor) -> Result<(Tensor, Vec<Slot>)>,
    ) -> Result<()> {
        grads.check(params)?;
        self.step_each_checked(params, grads, step)
    }

    /// [`State::step_each`] for gradients that passed [`Grads::check`], which reads all of them.
    ///
    /// # Errors
    /// Returns the other errors of [`State::step_each`].
    pub fn step_each_checked(
        &mut self,
        params: &mut Params,
        grads: &Grads,
        step: impl Fn(&Tensor, &[Slot], &Tensor) -> Result<(Tensor, Vec<Slot>)>,
    ) -> Result<()> {
        if self.slots.len() != params.len() {
            return Err(Error::other_state());
        }
        let mut tensors = params.tensors().to_vec();
        let mut all_slots = self.slots.clone();
        for ((p, slots), g) in tensors.iter_mut().zip(&mut all_slots).zip(grads.tensors()) {
            if let Some(g) = g.as_ref().filter(|g| g.elem_count() > 0) {
                (*p, *slots) = step(p, slots, g)?;
            }
        }
        *params = params.with_tensors(tensors)?;
        self.slots = all_slots;
        self.step += 1;
        Ok(())
    }

    /// The name of each slot in files; see [`State::named_tensors`].
    fn names(&self, params: &Params) -> Vec<String> {
        let of_network = self.network.iter().map(|slot| slot.name.to_owned());
        let of_parameters = params.names().iter().zip(&self.slots);
        let of_parameters = of_parameters.flat_map(|(param, slots)| {
            let name = move |slot: &Slot| format!("{}/{param}", slot.name);
            slots.iter().map(name)
        });
        of_network.chain(of_parameters).collect()
    }

    /// Returns all slots with their names in files: `slot` for slots of the network,
    /// `slot/parameter` for slots of a parameter.
    pub fn named_tensors(&self, params: &Params) -> Vec<(String, Tensor)> {
        let values = self.all_slots().map(|slot| slot.value.clone());
        self.names(params).into_iter().zip(values).collect()
    }

    /// Takes the values of this state's slots from `tensors`, by name, and moves them to the device
    /// of `self`.
    ///
    /// # Errors
    /// Returns an error if a tensor is missing or its type or shape is not that of the slot; `self`
    /// is then unchanged.
    pub fn restore(
        &mut self,
        step: u64,
        params: &Params,
        tensors: &mut BTreeMap<String, Tensor>,
        path: &Path,
    ) -> Result<()> {
        let mut restored = self.clone();
        for (slot, name) in restored.all_slots_mut().zip(self.names(params)) {
            let value = tensors.remove(&name).ok_or_else(|| {
                let problem = "it may belong to another model or optimizer";
                Error::file(path, format!("has no state `{name}`; {problem}"))
            })?;
            if value.shape() != slot.value.shape() || value.dtype() != slot.value.dtype() {
                return Err(Error::file(
                    path,
                    format!(
                        "state `{name}` is {:?} {:?}, but the model needs {:?} {:?}",
                        value.dtype(),
                        value.dims(),
                        slot.value.dtype(),
                        slot.value.dims()
                    ),
                ));
            }
            slot.value = value.to_device(slot.value.device())?;
        }
        restored.step = step;
        *self = restored;
        Ok(())
    }

    /// Writes the state to a safetensors file atomically, with the optimizer's learning rate and a
    /// digest of its θ.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn save(&self, optimizer: &dyn Optimizer, params: &Params, path: &Path) -> Result<()> {
        self.save_with(optimizer, params, path, Value::Null, vec![])
    }

    /// [`State::save`] with a description of the training, and further tensors.
    pub(crate) fn save_with(
        &self,
        optimizer: &dyn Optimizer,
        params: &Params,
        path: &Path,
        training: Value,
        more: Vec<(String, Tensor)>,
    ) -> Result<()> {
        let description = json!({
            "optimizer": optimizer.kind(),
            "step": self.step,
            "learning-rate": optimizer.learning_rate(),
            "theta": theta_of(optimizer),
            "training": training,
        });
        let tensors = [self.named_tensors(params), more].concat();
        file::write(path, "optimizer-state", &description, &tensors)
    }

    /// Loads a file written by [`State::save`] for the same optimizer, with the same θ, and
    /// parameters. Returns the learning rate that the optimizer had.
    ///
    /// # Errors
    /// Returns an error if the file is damaged, or belongs to another optimizer, another θ or other
    /// parameters; `self` is then unchanged.
    pub fn load(&mut self, optimizer: &dyn Optimizer, params: &Params, path: &Path) -> Result<f64> {
        let mut restored = self.clone();
        let loaded = restored.load_with(optimizer, params, path, false)?;
        loaded.check_complete(path)?;
        *self = restored;
        Ok(loaded.learning_rate)
    }

    /// [`State::load`], of any θ if `any_theta`. Returns the other contents of the file.
    pub(crate) fn load_with(
        &mut self,
        optimizer: &dyn Optimizer,
        params: &Params,
        path: &Path,
        any_theta: bool,
    ) -> Result<Loaded> {
        let mut contents = file::read(path, "optimizer-state")?;
        let description = &mut contents.description;
        let kind = description["optimizer"].as_str().unwrap_or_default();
        if kind != optimizer.kind() {
            let ours = optimizer.kind();
            let problem = format!("contains the state of `{kind}`, not of `{ours}`");
            return Err(Error::file(path, problem));
        }
        if !any_theta && description["theta"].as_str() != theta_of(optimizer).as_deref() {
            let problem = format!(
                "contains the state of `{kind}` with another θ or configuration; use that one, or in a \
                 drop-in `load_state_of_other_theta`"
            );
            return Err(Error::file(path, problem));
        }
        let learning_rate = description["learning-rate"]
            .as_f64()
            .ok_or_else(|| Error::file(path, "does not contain the learning rate"))?;
        // Beyond, a step more could not be added safely.
        let step = description["step"]
            .as_u64()
            .filter(|step| *step <= 1 << 53)
            .ok_or_else(|| Error::file(path, "does not contain a number of steps"))?;
        self.restore(step, params, &mut contents.tensors, path)?;
        Ok(Loaded {
            learning_rate,
            training: description["training"].take(),
            tensors: contents.tensors,
        })
    }
}

/// What a file contains beyond the state.
pub(crate) struct Loaded {
    pub learning_rate: f64,
    pub training: Value,
    pub tensors: BTreeMap<String, Tensor>,
}

impl Loaded {
    /// Returns an error if a tensor was not taken.
    pub fn check_complete(&self, path: &Path) -> Result<()> {
        match self.tensors.keys().next() {
            Some(extra) => Err(Error::file(
                path,
                format!("contains a state `{extra}` that the model does not have"),
            )),
            None => Ok(()),
        }
    }
}

/// The digest of a learned optimizer's θ.
fn theta_of(optimizer: &dyn Optimizer) -> Option<String> {
    let learned = optimizer.as_learned();
    learned.map(|learned| learned.theta().digest())
}
