//! The learned optimizers by the name of their kind.

use std::{path::Path, sync::Arc};

use lopt_blackbox::Blackbox;
use lopt_core::{LearnedOptimizer, Theta};
use lopt_meta::{Preset, RunConfig};
use lopt_stability::training::Subject;
use lopt_star::Star;

use crate::{Error, Result};

/// The kinds of learned optimizers, as users type them and θ files spell them.
pub const KINDS: [&str; 2] = [lopt_star::KIND, lopt_blackbox::KIND];

/// Loads an optimizer of this kind from a θ file.
///
/// # Errors
/// Returns an error if the file cannot be read or holds another kind.
pub fn load(kind: &str, path: &Path) -> Result<Box<dyn LearnedOptimizer>> {
    of_kind(kind, Theta::load(path)?).map_err(|error| in_file(path, error))
}

fn of_kind(kind: &str, theta: Theta) -> Result<Box<dyn LearnedOptimizer>> {
    Ok(match kind {
        lopt_star::KIND => Box::new(Star::new(theta)?),
        lopt_blackbox::KIND => Box::new(Blackbox::new(theta)?),
        _ => return Err(unknown(kind)),
    })
}

/// The optimizer of this kind that ships with the program.
///
/// # Errors
/// Returns [`Error::UnknownKind`] for any other kind than [`KINDS`].
pub fn shipped(kind: &str) -> Result<Box<dyn LearnedOptimizer>> {
    Ok(match kind {
        lopt_star::KIND => Box::new(Star::pretrained()),
        lopt_blackbox::KIND => Box::new(Blackbox::pretrained()),
        _ => return Err(unknown(kind)),
    })
}

/// An optimizer of this kind with the reference's constants and initial θ.
///
/// # Errors
/// Returns an error for any other kind than [`KINDS`].
pub fn initial(kind: &str, seed: u64) -> Result<Box<dyn LearnedOptimizer>> {
    let overrides = [
        format!("seed={seed}"),
        format!("optimizer.kind={kind}"),
        "optimizer.last-layer-scale=1.0".to_owned(),
    ];
    let mut config = RunConfig::parse(Preset::Quick.text(), "preset quick", None, &overrides)?;
    // The preset's multipliers and time limit.
    config.optimizer.star = None;
    Ok(config.initial_optimizer()?)
}

/// Loads an optimizer of any kind as the subject of a linearization, with the name of its kind.
///
/// # Errors
/// Returns an error if the file cannot be read or holds an unknown kind.
pub fn subject(path: &Path) -> Result<(String, Subject)> {
    let theta = Theta::load(path)?;
    let kind = theta.kind().to_owned();
    let subject = || {
        Ok(match kind.as_str() {
            lopt_star::KIND => Subject::star(Star::new(theta)?)?,
            lopt_blackbox::KIND => Subject::blackbox(Arc::new(Blackbox::new(theta)?)),
            _ => return Err(unknown(&kind)),
        })
    };
    let subject = subject().map_err(|error| in_file(path, error))?;
    Ok((kind, subject))
}

/// The kind that a run meta-trains.
pub fn kind(config: &RunConfig) -> &str {
    config.optimizer.kind.name()
}

/// What to set in a preset to meta-train an optimizer of this kind with it.
pub fn preset_overrides(kind: &str) -> Vec<String> {
    let mut overrides = vec![format!("optimizer.kind={kind}")];
    if kind == lopt_blackbox::KIND {
        // The presets' last layer of zeros is for STAR: a blackbox would never move.
        overrides.push("optimizer.last-layer-scale=1.0".to_owned());
    }
    overrides
}

fn unknown(kind: &str) -> Error {
    let kind = kind.to_owned();
    Error::UnknownKind { kind }
}

fn in_file(path: &Path, error: Error) -> Error {
    Error::Optimizer {
        path: path.to_owned(),
        source: Box::new(error),
    }
}
