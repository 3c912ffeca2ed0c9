use std::{fmt::Debug, sync::Arc};

use lopt_core::{LearnedOptimizer, Optimizer, file};
use lopt_tasks::{did_you_mean, suite};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Baseline, Error, Result};

/// An optimizer to evaluate.
pub struct Contender {
    /// The name in reports.
    pub name: String,
    /// The optimizer.
    pub optimizer: Arc<dyn Optimizer>,
    /// Everything that determines the optimizer; part of the settings.
    pub identity: Value,
}

impl Contender {
    /// A learned optimizer, identified by its configuration, learning rate, provenance and θ.
    pub fn learned(name: &str, optimizer: Arc<dyn LearnedOptimizer>) -> Self {
        let theta = optimizer.theta();
        let identity = json!({
            "configuration": theta.config(),
            "learning-rate": optimizer.learning_rate(),
            "provenance": theta.provenance(),
            "theta": theta.values(),
        });
        Self {
            name: name.to_owned(),
            optimizer,
            identity,
        }
    }

    /// An optimizer without θ, identified by its fields.
    pub fn untuned(name: &str, optimizer: impl Optimizer + Debug + 'static) -> Self {
        Self {
            name: name.to_owned(),
            identity: format!("{optimizer:?}").into(),
            optimizer: Arc::new(optimizer),
        }
    }
}

/// A baseline and the learning rates that it is tuned over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    /// The baseline.
    pub baseline: Baseline,
    /// The learning rates.
    pub grid: Vec<f64>,
}

impl Tuning {
    /// The baseline with its whole grid.
    pub fn new(baseline: Baseline) -> Self {
        Self {
            baseline,
            grid: baseline.grid(),
        }
    }
}

/// The settings of an evaluation. Results of different settings are never mixed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The suite of tasks.
    pub suite: suite::Suite,
    /// The groups of the suite to evaluate; all groups if empty.
    pub groups: Vec<String>,
    /// The number of seeds 0, 1, … for each task and optimizer.
    pub seeds: u64,
    /// The tuned baselines. [`Baseline::Adam`] must be one of them, unless there are none: then there are
    /// no speed-ups.
    pub tuned: Vec<Tuning>,
    /// Maximum number of horizons that tuned Adam is run for, to find when it reaches the final
    /// losses of the contenders.
    pub adam_horizons: u64,
    /// Version and commit of the program, its CPU kernels and the device: what may change results.
    pub program: String,
    /// The name and identity of each contender.
    pub contenders: Vec<(String, Value)>,
}

impl Settings {
    /// Settings for all groups of the suite, all tuned baselines with their whole grids, and 8
    /// horizons of Adam.
    pub fn new(suite: suite::Suite, seeds: u64, program: String, contenders: &[Contender]) -> Self {
        Self {
            suite,
            groups: vec![],
            seeds,
            tuned: Baseline::ALL.map(Tuning::new).into(),
            adam_horizons: 8,
            program,
            contenders: contenders
                .iter()
                .map(|c| (c.name.clone(), c.identity.clone()))
                .collect(),
        }
    }

    /// A folder name for the results: the suite and the start of the SHA-256 of the settings.
    pub fn folder_name(&self) -> String {
        let short = &file::sha256(json!(self).to_string())[..8];
        format!("{}-{short}", self.suite.name())
    }

    /// Training steps on a task with this horizon, if tuned Adam is run to the end.
    pub(crate) fn steps(&self, horizon: u64) -> u64 {
        let grids = self.tuned.iter().map(|tuning| tuning.grid.len());
        let runs = self.contenders.len() + grids.sum::<usize>();
        horizon * (self.seeds * runs as u64 + self.continuation())
    }

    /// The longest continuation of tuned Adam, in horizons.
    pub(crate) fn continuation(&self) -> u64 {
        match self.tuned.is_empty() {
            true => 0,
            false => self.seeds * self.adam_horizons,
        }
    }

    /// The tasks of the chosen groups.
    pub(crate) fn entries(&self) -> Result<Vec<suite::Entry>> {
        let all = self.suite.entries();
        let known = |group: &&String| all.iter().any(|entry| entry.group == **group);
        if let Some(unknown) = self.groups.iter().find(|group| !known(group)) {
            let mut names: Vec<_> = all.iter().map(|entry| entry.group.as_str()).collect();
            names.dedup();
            return Err(Error::Settings(format!(
                "the suite has no group `{unknown}`; its groups are: {}{}",
                names.join(", "),
                did_you_mean(unknown, names)
            )));
        }
        let chosen = all
            .into_iter()
            .filter(|entry| self.groups.is_empty() || self.groups.contains(&entry.group));
        Ok(chosen.collect())
    }

    /// Checks the numbers that an evaluation cannot do without.
    pub(crate) fn check(&self) -> Result<()> {
        crate::train::check_seeds(self.seeds)?;
        let problem = if let Some(empty) = self.tuned.iter().find(|t| t.grid.is_empty()) {
            format!("the grid of {} is empty", empty.baseline.name())
        } else if self.tuned.is_empty() {
            return Ok(());
        } else if self.tuned.iter().all(|t| t.baseline != Baseline::Adam) {
            "without tuned Adam there is no speed-up".to_owned()
        } else if self.adam_horizons == 0 {
            "0 horizons of tuned Adam; use at least 1".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::Settings(problem))
    }
}
