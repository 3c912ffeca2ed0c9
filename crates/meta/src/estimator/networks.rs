//! Networks in training as tensors of a checkpoint.

use std::{collections::BTreeMap, path::Path};

use candle_core::Tensor;
use lopt_core::{Error as CoreError, Params, State};

use crate::{Error, Result};

/// Parameters and state by name.
pub fn named(prefix: &str, params: &Params, state: &State) -> Vec<(String, Tensor)> {
    let of_params = params
        .iter()
        .map(|(name, tensor)| (format!("{prefix}params/{name}"), tensor.clone()));
    let of_state = state.named_tensors(params).into_iter();
    let of_state = of_state.map(|(name, tensor)| (format!("{prefix}{name}"), tensor));
    of_params.chain(of_state).collect()
}

/// What [`named`] named, without the prefix: parameters and state like the given ones.
pub fn restored(
    template: &Params,
    mut state: State,
    step: u64,
    tensors: &mut BTreeMap<String, Tensor>,
    path: &Path,
) -> Result<(Params, State)> {
    let mut params = take_prefixed(tensors, "params/");
    let mut restored = vec![];
    for (name, template) in template.iter() {
        let tensor = params
            .remove(name)
            .filter(|t| t.shape() == template.shape() && t.dtype() == template.dtype())
            .ok_or_else(|| damaged(path, name))?;
        restored.push(tensor.to_device(template.device())?);
    }
    let restored = template.with_tensors(restored)?;
    state.restore(step, &restored, tensors, path)?;
    Ok((restored, state))
}

/// Moves the tensors below a prefix out, and takes the prefix off.
pub fn take_prefixed(
    tensors: &mut BTreeMap<String, Tensor>,
    prefix: &str,
) -> BTreeMap<String, Tensor> {
    let mut taken = BTreeMap::new();
    tensors.retain(|name, tensor| match name.strip_prefix(prefix) {
        Some(rest) => {
            taken.insert(rest.to_owned(), tensor.clone());
            false
        }
        None => true,
    });
    taken
}

/// The counters of as many unrolls as there are tasks.
pub fn counters<T: serde::de::DeserializeOwned>(
    description: &serde_json::Value,
    tasks: u64,
    path: &Path,
) -> Result<Vec<T>> {
    let counters: Vec<T> = serde_json::from_value(description.clone())
        .map_err(|e| CoreError::file(path, format!("the unrolls' counters: {e}")))?;
    if counters.len() as u64 != tasks {
        let problem = format!(
            "holds {} unrolls, the configuration asks for {tasks}",
            counters.len(),
        );
        return Err(CoreError::file(path, problem).into());
    }
    Ok(counters)
}

pub fn damaged(path: &Path, name: &str) -> Error {
    let problem = format!("`{name}` is missing or does not fit the configuration");
    CoreError::file(path, problem).into()
}
