//! Checkpoints of google/learned_optimization, the JAX original of STAR and the blackbox.
//!
//! The original stores θ in a file `params` (flax's msgpack) and the settings of the optimizer in a
//! file `config.gin` beside it. [`import`] reads both, [`export`] writes both. `MLPNomLOpt` is STAR,
//! and `AdafacMLPLOpt` is the blackbox.
//!
//! The MLP of `MLPNomLOpt` has a fourth output, the magnitude of an inner weight decay. It does nothing
//! unless `regularization_controller` is on, which is refused. Its weights are kept in the provenance
//! of θ, so that an export has the same bytes as what was imported.
//!
//! ```no_run
//! use lopt_star::Star;
//!
//! let params = std::fs::read("params")?;
//! let gin = std::fs::read_to_string("config.gin")?;
//! let star = Star::new(lopt_jax::import(&params, &gin)?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod flax;
mod gin;
mod settings;

use std::collections::BTreeMap;

use lopt_core::{Error, Layout, Result, Theta};
use serde_json::{Value, json};

use settings::{Class, OUTPUTS};

/// A tensor of θ, row-major.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// The parts of θ by name, such as `nn/w0`.
type Parts = BTreeMap<String, Part>;

/// The files of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The content of `params`.
    pub params: Vec<u8>,
    /// The content of `config.gin`.
    pub gin: String,
}

/// The key of the weights without effect in the provenance.
const UNUSED: &str = "unused-outputs";

/// θ from the contents of `params` and `config.gin`. Settings that the text does not have are the
/// original's defaults.
///
/// # Errors
/// Returns [`Error::Mismatch`] if `params` is not a checkpoint of one of the two optimizers, if one of
/// its values is not finite, or if a setting has no counterpart here.
pub fn import(params: &[u8], gin: &str) -> Result<Theta> {
    let mut parts = flax::read(params)?;
    let finite = |part: &Part| part.values.iter().all(|value| value.is_finite());
    if let Some((name, _)) = parts.iter().find(|(_, part)| !finite(part)) {
        return Err(mismatch(format!("`{name}` has a value that is not finite")));
    }
    let last = last_layer(&parts)?;
    let outputs = part(&parts, &format!("nn/b{last}"))?.values.len();
    let class = Class::of_outputs(outputs)?;
    let hidden = (0..last).map(|layer| Ok(part(&parts, &format!("nn/b{layer}"))?.values.len()));
    let hidden: Vec<usize> = hidden.collect::<Result<_>>()?;
    let given = gin::bindings(gin, class.name())?;
    let config = class.config(&given, &hidden)?;
    let mut unused = serde_json::Map::new();
    for name in [format!("nn/w{last}"), format!("nn/b{last}")] {
        if let Some(found) = parts.get_mut(&name) {
            if found.columns() != outputs {
                let shape = &found.shape;
                let problem = format!("`{name}` has the shape {shape:?} for {outputs} outputs");
                return Err(mismatch(problem));
            }
            let dropped = found.drop_columns(class.heads());
            if !dropped.is_empty() {
                unused.insert(name, json!(dropped));
            }
        }
    }
    let layout = parts
        .iter()
        .map(|(name, part)| (name.clone(), part.shape.clone()));
    let layout = Layout::new(layout);
    let values = parts
        .values()
        .flat_map(|part| part.values.clone())
        .collect();
    let theta = Theta::new(class.kind(), config, layout, values)?;
    class.check(theta.clone())?;
    Ok(theta.with_provenance(json!({
        "imported": { "class": class.name(), "settings": given, UNUSED: unused },
    })))
}

/// The checkpoint of θ for the original, which does not have a time limit or an online scale: with
/// `without_extensions` they are left out.
///
/// # Errors
/// Returns [`Error::Mismatch`] if θ is not that of STAR or the blackbox, or if a setting has no
/// counterpart in the original.
pub fn export(theta: &Theta, without_extensions: bool) -> Result<Exported> {
    let class = Class::of_kind(theta.kind())?;
    let gin = class.gin(theta.config(), without_extensions)?;
    let mut parts: Parts = theta
        .layout()
        .parts()
        .map(|(name, shape, start)| {
            let count: usize = shape.iter().product();
            let values = theta.values()[start..start + count].to_vec();
            let shape = shape.to_vec();
            (name.to_owned(), Part { shape, values })
        })
        .collect();
    let last = last_layer(&parts)?;
    let unused = &theta.provenance()["imported"][UNUSED];
    for name in [format!("nn/w{last}"), format!("nn/b{last}")] {
        if let Some(part) = parts.get_mut(&name) {
            part.add_columns(class.outputs(), &unused[&name]);
        }
    }
    Ok(Exported {
        params: flax::write(&parts)?,
        gin,
    })
}

fn part<'a>(parts: &'a Parts, name: &str) -> Result<&'a Part> {
    parts
        .get(name)
        .ok_or_else(|| mismatch(format!("the checkpoint has no `{name}`")))
}

/// The index of the MLP's last layer.
fn last_layer(parts: &Parts) -> Result<usize> {
    let layers = (0..).take_while(|layer| parts.contains_key(&format!("nn/w{layer}")));
    let count = layers.count();
    count.checked_sub(1).ok_or_else(|| {
        let problem = format!(
            "the checkpoint has no `nn/w0`; only the MLPs of `MLPNomLOpt` and `AdafacMLPLOpt`, with \
             {} and {} outputs, can be read",
            OUTPUTS[0], OUTPUTS[1]
        );
        mismatch(problem)
    })
}

fn mismatch(problem: impl Into<String>) -> Error {
    Error::Mismatch(problem.into())
}

impl Part {
    fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Keeps the first `kept` columns. Returns the others, row by row.
    fn drop_columns(&mut self, kept: usize) -> Vec<f32> {
        let columns = self.columns();
        let mut dropped = vec![];
        let mut values = vec![];
        for row in self.values.chunks(columns.max(1)) {
            let (first, rest) = row.split_at(kept.min(row.len()));
            values.extend_from_slice(first);
            dropped.extend_from_slice(rest);
        }
        self.values = values;
        if let Some(last) = self.shape.last_mut() {
            *last = kept.min(columns);
        }
        dropped
    }

    /// Appends columns up to `count`: those of a JSON list, row by row, or zeros.
    fn add_columns(&mut self, count: usize, known: &Value) {
        let columns = self.columns();
        let missing = count.saturating_sub(columns);
        let rows = self.values.len() / columns.max(1);
        let known: Option<Vec<f32>> = known.as_array().and_then(|known| {
            let numbers = known.iter().map(|x| x.as_f64().map(|x| x as f32));
            numbers.collect()
        });
        let known = known.filter(|known| known.len() == rows * missing);
        let known = known.unwrap_or_else(|| vec![0.0; rows * missing]);
        let mut values = vec![];
        for (row, values_of_row) in self.values.chunks(columns.max(1)).enumerate() {
            values.extend_from_slice(values_of_row);
            values.extend_from_slice(&known[row * missing..(row + 1) * missing]);
        }
        self.values = values;
        if let Some(last) = self.shape.last_mut() {
            *last = columns + missing;
        }
    }
}
