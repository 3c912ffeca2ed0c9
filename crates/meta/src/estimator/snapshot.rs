//! The state between truncations, as stored in a checkpoint.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use candle_core::{Device, Tensor, safetensors::Load};
use lopt_core::{Error as CoreError, Params, State};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::{Comm, Error, Result};

/// Tensors by unique names.
pub type NamedTensors = Vec<(String, Tensor)>;

/// An estimator's own state.
#[derive(Default)]
pub struct Snapshot {
    /// Counters of each task; empty if there are none.
    pub description: Vec<Value>,
    /// Networks, accumulators, perturbations.
    pub tensors: NamedTensors,
}

impl Snapshot {
    /// On rank 0, the snapshots of all ranks in one, in the order of the tasks; `None` on the
    /// others.
    ///
    /// # Errors
    /// Returns an error if another rank cannot be reached.
    pub fn gathered(mut self, comm: &dyn Comm) -> Result<Option<Snapshot>> {
        if comm.size() == 1 {
            return Ok(Some(self));
        }
        let first = comm.rank() == 0;
        let own = if first { vec![] } else { self.to_bytes()? };
        let all = comm.gather(own)?;
        for bytes in all.iter().skip(1) {
            let mut other = Self::from_bytes(bytes)?;
            self.description.append(&mut other.description);
            self.tensors.append(&mut other.tensors);
        }
        Ok(first.then_some(self))
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        let description = Value::Array(self.description.clone()).to_string();
        let metadata = HashMap::from([("description".to_owned(), description)]);
        let views = self.tensors.iter().map(|(name, tensor)| (name, tensor));
        safetensors::serialize(views, Some(metadata)).map_err(between_ranks)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(between_ranks)?;
        let text = header
            .metadata()
            .as_ref()
            .and_then(|m| m.get("description"));
        let description = serde_json::from_str(text.map_or("", String::as_str));
        let mut tensors = vec![];
        for (name, view) in SafeTensors::deserialize(bytes)
            .map_err(between_ranks)?
            .iter()
        {
            tensors.push((name.to_owned(), view.load(&Device::Cpu)?));
        }
        Ok(Self {
            description: description.map_err(between_ranks)?,
            tensors,
        })
    }
}

fn between_ranks(error: impl std::fmt::Display) -> Error {
    Error::Ranks(format!("a snapshot was damaged between ranks: {error}"))
}

/// A network's parameters and its optimizer's state, by names with a prefix.
pub(super) fn named(prefix: &str, params: &Params, state: &State) -> NamedTensors {
    let of_params = params
        .iter()
        .map(|(name, tensor)| (format!("{prefix}params/{name}"), tensor.clone()));
    let of_state = state.named_tensors(params).into_iter();
    let of_state = of_state.map(|(name, tensor)| (format!("{prefix}{name}"), tensor));
    of_params.chain(of_state).collect()
}

/// The tensors of one task in a checkpoint.
pub struct Saved<'a> {
    tensors: BTreeMap<String, Tensor>,
    prefix: String,
    path: &'a Path,
}

impl<'a> Saved<'a> {
    /// Takes the tensors with a prefix out of those of the checkpoint `path`.
    pub(super) fn new(
        tensors: &mut BTreeMap<String, Tensor>,
        prefix: String,
        path: &'a Path,
    ) -> Self {
        let mut taken = BTreeMap::new();
        tensors.retain(|name, tensor| match name.strip_prefix(&prefix) {
            Some(rest) => {
                taken.insert(rest.to_owned(), tensor.clone());
                false
            }
            None => true,
        });
        Self {
            tensors: taken,
            prefix,
            path,
        }
    }

    /// Takes a tensor for which `fits` returns `true`.
    ///
    /// # Errors
    /// Returns an error with its name in the checkpoint if there is none.
    pub fn take(&mut self, name: &str, fits: impl FnOnce(&Tensor) -> bool) -> Result<Tensor> {
        self.tensors.remove(name).filter(fits).ok_or_else(|| {
            let name = format!("{}{name}", self.prefix);
            let problem = format!("`{name}` is missing or does not fit the configuration");
            CoreError::file(self.path, problem).into()
        })
    }

    /// Takes the network with this prefix: parameters and state after `step` inner steps, with
    /// the shapes of `template` and `state`.
    ///
    /// # Errors
    /// Returns an error if a tensor is missing or has the wrong shape.
    pub fn network(
        &mut self,
        prefix: &str,
        template: &Params,
        mut state: State,
        step: u64,
    ) -> Result<(Params, State)> {
        let mut restored = vec![];
        for (name, template) in template.iter() {
            let fits = |t: &Tensor| t.shape() == template.shape() && t.dtype() == template.dtype();
            let tensor = self.take(&format!("{prefix}params/{name}"), fits)?;
            restored.push(tensor.to_device(template.device())?);
        }
        let restored = template.with_tensors(restored)?;
        let mut slots = Self::new(&mut self.tensors, prefix.to_owned(), self.path).tensors;
        state.restore(step, &restored, &mut slots, self.path)?;
        Ok((restored, state))
    }
}
