use std::sync::Arc;

use candle_core::Device;
use lopt_core::Rng;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::{TaskFamily, TaskFamilyConfig};
use crate::{DataStore, Error, Reparametrize, Result, Task, error::not_empty};

/// A weighted mixture of families, which may be mixtures themselves.
///
/// A draw picks family i with probability wᵢ/Σw, then draws from it. In TOML:
///
/// ```toml
/// kind = "mixture"
///
/// [[families]]
/// weight = 2.0
/// task = { kind = "conv-net", width = [8], depth = [2, 3], batch-size = [32], data = [
///     { kind = "images", dataset = "fashion-mnist", source = "embedded", image-size = 8 },
/// ] }
///
/// [[families]]
/// weight = 1.0
/// task = { kind = "lstm", width = [32], depth = [1], batch-size = [16], data = [
///     { kind = "text", length = 32 },
/// ] }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    rename = "mixture",
    rename_all = "kebab-case",
    tag = "kind"
)]
pub struct MixtureConfig {
    /// The families; at least one.
    pub families: Vec<Weighted>,
    /// The default of families that set no `reparametrize` themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reparametrize: Option<Reparametrize>,
}

/// A family of a mixture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Weighted {
    /// Positive and finite; weights need not sum to 1.
    pub weight: f64,
    /// The family.
    pub task: TaskFamilyConfig,
}

impl MixtureConfig {
    /// Loads every family.
    ///
    /// # Errors
    /// As [`TaskFamilyConfig::load`] and [`Mixture::new`].
    pub fn load(&self, store: &mut DataStore, device: &Device) -> Result<Mixture> {
        let mut families = vec![];
        for (index, Weighted { weight, task }) in self.families.iter().enumerate() {
            let mut task = task.clone();
            let reparametrize = task.reparametrize_mut();
            *reparametrize = reparametrize.or(self.reparametrize);
            let family = task.load(store, device);
            let within = |error: Error| error.within(&format!("families[{index}].task"));
            families.push((*weight, family.map_err(within)?));
        }
        Mixture::new(families)
    }
}

/// A weighted mixture of any families.
pub struct Mixture {
    families: Vec<(f64, Arc<dyn TaskFamily>)>,
    total: f64,
}

impl Mixture {
    /// Families with their weights w, drawn with probability wᵢ/Σw.
    ///
    /// # Errors
    /// Returns an error if there is no family, or if a weight is not positive and finite.
    pub fn new(families: Vec<(f64, Arc<dyn TaskFamily>)>) -> Result<Self> {
        not_empty("families", &families)?;
        for (index, &(weight, _)) in families.iter().enumerate() {
            if !(weight > 0.0 && weight.is_finite()) {
                return Err(Error::Config(format!(
                    "`families[{index}].weight` is {weight}; it must be positive and finite"
                )));
            }
        }
        let total: f64 = families.iter().map(|(weight, _)| weight).sum();
        if !total.is_finite() {
            return Err(Error::Config(
                "the `weight`s of `families` overflow when added; make them smaller".to_owned(),
            ));
        }
        Ok(Self { families, total })
    }
}

impl TaskFamily for Mixture {
    fn sample(&self, rng: &mut Rng) -> Arc<dyn Task> {
        let mut left = self.total * rng.random::<f64>();
        let within = |(weight, _): &&(f64, _)| {
            left -= weight;
            left < 0.0
        };
        // Rounding may leave nothing: the last family's share ends at the total.
        let found = self.families.iter().find(within);
        let (_, family) = found.unwrap_or(&self.families[self.families.len() - 1]);
        family.sample(rng)
    }
}
