//! The learned optimizers that configurations and files refer to by name.

use std::path::Path;

use lopt_core::{LearnedOptimizer, Theta};
use lopt_per_param::Kind;

use crate::{Error, Result};

/// All kinds. To add a learned optimizer, implement [`Rule`](lopt_per_param::Rule) and add its kind
/// here. Optimizers of other crates need not be registered; see [`crate::Trainer::start`].
pub const LEARNED: &[Kind] = &[
    Kind::pretrained_of::<lopt_star::Config>(),
    Kind::pretrained_of::<lopt_blackbox::Config>(),
];

/// Returns the kind with this name.
///
/// # Errors
/// Returns [`Error::Config`] with the existing names if there is no such kind.
pub fn kind(name: &str) -> Result<Kind> {
    let found = LEARNED.iter().copied().find(|kind| kind.name() == name);
    found.ok_or_else(|| {
        let names: Vec<_> = LEARNED.iter().map(Kind::name).collect();
        let names = names.join(", ");
        Error::Config(format!("no learned optimizer `{name}`; available: {names}"))
    })
}

/// Loads the optimizer of a θ file, of the kind that the file names.
///
/// # Errors
/// Returns an error if the file cannot be read or is damaged, or if θ does not match the
/// configuration in it.
pub fn load(path: &Path) -> Result<Box<dyn LearnedOptimizer>> {
    let theta = Theta::load(path)?;
    let optimizer = kind(theta.kind()).and_then(|kind| Ok(kind.of_theta(theta)?));
    optimizer.map_err(|error| lopt_core::Error::file(path, error.to_string()).into())
}
