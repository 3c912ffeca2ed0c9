use std::{collections::BTreeMap, path::Path};

use candle_core::Tensor;
use serde_json::json;

use crate::{Error, Params, Result, file};

/// One accumulator of one parameter.
#[derive(Clone, Debug)]
pub struct Slot {
    /// What it accumulates; no `/` in it.
    pub name: &'static str,
    /// Its value.
    pub value: Tensor,
}

/// An optimizer's state: the number of steps taken and, for each parameter, its slots.
#[derive(Clone, Debug)]
pub struct State {
    /// Steps taken so far; the first step sees 0.
    pub step: u64,
    /// The slots of each parameter, in the order of the [`Params`].
    pub slots: Vec<Vec<Slot>>,
}

impl State {
    /// The shape of each slot of each parameter.
    pub(crate) fn shapes(&self) -> Vec<Vec<&[usize]>> {
        let mut shapes = vec![];
        for slots in &self.slots {
            shapes.push(slots.iter().map(|slot| slot.value.dims()).collect());
        }
        shapes
    }

    pub(crate) fn of_others() -> Error {
        Error::Mismatch("the state is of other parameters or another optimizer".to_owned())
    }

    /// Every slot as `slot/parameter`.
    pub fn named_tensors(&self, params: &Params) -> Vec<(String, Tensor)> {
        params
            .names()
            .iter()
            .zip(&self.slots)
            .flat_map(|(param, slots)| {
                slots
                    .iter()
                    .map(move |slot| (format!("{}/{param}", slot.name), slot.value.clone()))
            })
            .collect()
    }

    /// Takes the values of this state's slots out of `tensors`, by name; type and shape
    /// must be those of `self`, the device becomes that of `self`. `self` changes only
    /// if all is well.
    ///
    /// # Errors
    /// If a tensor is missing or of another shape or type.
    pub fn restore(
        &mut self,
        step: u64,
        params: &Params,
        tensors: &mut BTreeMap<String, Tensor>,
        path: &Path,
    ) -> Result<()> {
        let mut restored = self.slots.clone();
        for (param, slots) in params.names().iter().zip(&mut restored) {
            for slot in slots {
                let name = format!("{}/{param}", slot.name);
                let value = tensors.remove(&name).ok_or_else(|| {
                    Error::file(
                        path,
                        format!("has no state `{name}`; is it of another model or optimizer?"),
                    )
                })?;
                if value.shape() != slot.value.shape() || value.dtype() != slot.value.dtype() {
                    return Err(Error::file(
                        path,
                        format!(
                            "state `{name}` is {:?} {:?}, the model needs {:?} {:?}",
                            value.dtype(),
                            value.dims(),
                            slot.value.dtype(),
                            slot.value.dims()
                        ),
                    ));
                }
                slot.value = value.to_device(slot.value.device())?;
            }
        }
        self.slots = restored;
        self.step = step;
        Ok(())
    }

    /// Writes the state to one safetensors file, by name, atomically.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, optimizer: &str, params: &Params, path: &Path) -> Result<()> {
        let description = json!({ "optimizer": optimizer, "step": self.step });
        file::write(
            path,
            "optimizer-state",
            &description,
            &self.named_tensors(params),
        )
    }

    /// Reads a file of [`State::save`] into this state, which must be of the same
    /// optimizer and parameters.
    ///
    /// # Errors
    /// If the file is damaged, of another optimizer, or does not fit; `self` is then
    /// unchanged.
    pub fn load(&mut self, optimizer: &str, params: &Params, path: &Path) -> Result<()> {
        let mut contents = file::read(path, "optimizer-state")?;
        let kind = contents.description["optimizer"]
            .as_str()
            .unwrap_or_default();
        if kind != optimizer {
            return Err(Error::file(
                path,
                format!("holds the state of `{kind}`, not of `{optimizer}`"),
            ));
        }
        let step = contents.description["step"]
            .as_u64()
            .ok_or_else(|| Error::file(path, "does not say how many steps were taken"))?;
        let mut restored = self.clone();
        restored.restore(step, params, &mut contents.tensors, path)?;
        if let Some(extra) = contents.tensors.keys().next() {
            return Err(Error::file(
                path,
                format!("holds a state `{extra}` that the model does not have"),
            ));
        }
        *self = restored;
        Ok(())
    }
}
