//! Files with the state of a [`DropIn`].

use std::path::Path;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::DropIn;
use crate::{Error, Optimizer, Result};

/// What a file says beyond the state of the optimizer.
#[derive(Serialize, Deserialize)]
struct Training {
    /// The number of gradients that make a step, and of those in the sums.
    accumulate: u64,
    accumulated: u64,
    loss_scale: Option<Scale>,
    groups: Vec<Factors>,
    weight_decay: f64,
    /// The step of the schedule. It differs from the optimizer's if a GPU skipped steps.
    schedule_step: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Scale {
    scale: f64,
    good_steps: u64,
}

#[derive(Serialize, Deserialize)]
struct Factors {
    name: String,
    factor: f64,
    weight_decay: Option<f64>,
}

impl Training {
    /// Returns an error for values that no optimizer saves.
    fn check(&self, path: &Path) -> Result<()> {
        let of_groups = self.groups.iter().flat_map(|group| {
            let decay = group.weight_decay.map(|decay| ("weight decay", decay));
            [Some(("factor", group.factor)), decay]
        });
        let decay = ("weight decay", self.weight_decay);
        let mut at_least_0 = of_groups.flatten().chain([decay]);
        let wrong = at_least_0.find(|(_, value)| !(*value >= 0.0 && value.is_finite()));
        let scale = self.loss_scale.as_ref().map(|of| ("loss scale", of.scale));
        let wrong = wrong.or(scale.filter(|(_, scale)| !(*scale > 0.0 && scale.is_finite())));
        if let Some((what, value)) = wrong {
            return Err(Error::file(path, format!("contains a {what} of {value}")));
        }
        // Beyond, a step more could not be added safely.
        let good_steps = self.loss_scale.as_ref().map(|of| of.good_steps);
        let counts = [good_steps, self.schedule_step];
        match counts.into_iter().flatten().find(|count| *count > 1 << 53) {
            Some(count) => Err(Error::file(path, format!("contains a count of {count}"))),
            None => Ok(()),
        }
    }
}

/// Names in an error message.
fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    match names.is_empty() {
        true => "(none)".to_owned(),
        false => names.join(", "),
    }
}

/// The prefixes of the names of tensors.
const SUM: &str = "accumulated";
const COPY: &str = "copy";

impl<O: Optimizer> DropIn<O> {
    /// Saves the state under the variables' names: that of the optimizer, its learning rate and a
    /// digest of θ, the factors and decays of the groups, accumulated gradients, the loss scale, and
    /// the copies of variables in f16 and bf16.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written, or if the variables have no names.
    pub fn save_state(&self, path: &Path) -> Result<()> {
        self.require_names("save")?;
        let training = Training {
            accumulate: self.accumulate,
            accumulated: self.pending.count,
            loss_scale: self.scaling.as_ref().map(|scaling| Scale {
                scale: scaling.scale,
                good_steps: scaling.good_steps,
            }),
            groups: self
                .groups
                .iter()
                .map(|group| Factors {
                    name: group.name.clone(),
                    factor: group.factor,
                    weight_decay: group.weight_decay,
                })
                .collect(),
            weight_decay: self.weight_decay,
            schedule_step: Some(self.schedule_step()),
        };
        let training = serde_json::to_value(training)
            .map_err(|e| Error::file(path, format!("cannot be written: {e}")))?;
        let name = |index: usize| &self.params.names()[index];
        let copies = self.copies().map(|(index, value)| {
            (
                format!("{COPY}/{}", name(index)),
                value.as_detached_tensor(),
            )
        });
        let sums = self
            .pending
            .sums
            .iter()
            .enumerate()
            .filter_map(|(index, sum)| Some((format!("{SUM}/{}", name(index)), sum.clone()?)));
        let tensors: Vec<(String, Tensor)> = copies.chain(sums).collect();
        let state = self.state()?;
        state.save_with(&self.optimizer, &self.params, path, training, tensors)
    }

    /// Loads a state saved by [`DropIn::save_state`], and restores the learning rate, factors and
    /// decays that the saved optimizer had.
    ///
    /// # Errors
    /// Returns an error if the file is damaged, if it belongs to another optimizer, θ or model or has
    /// other groups, or if the variables have no names; nothing changes then.
    pub fn load_state(&mut self, path: &Path) -> Result<()> {
        self.load(path, false)
    }

    /// As [`DropIn::load_state`], but also accepts the state of another θ of the same kind, although
    /// its averages were accumulated with other decays.
    ///
    /// # Errors
    /// Returns the other errors of [`DropIn::load_state`].
    pub fn load_state_of_other_theta(&mut self, path: &Path) -> Result<()> {
        self.load(path, true)
    }

    fn load(&mut self, path: &Path, any_theta: bool) -> Result<()> {
        self.require_names("load")?;
        let mut state = self.state()?;
        let mut loaded = state.load_with(&self.optimizer, &self.params, path, any_theta)?;
        let training = Training::deserialize(&loaded.training);
        let training = training.map_err(|e| Error::file(path, e.to_string()))?;
        training.check(path)?;
        let theirs = training.groups.iter().map(|group| &group.name);
        if !theirs
            .clone()
            .eq(self.groups.iter().map(|group| &group.name))
        {
            let problem = format!(
                "was saved with the groups {}; the optimizer has the groups {}",
                listed(theirs),
                listed(self.groups.iter().map(|group| &group.name))
            );
            return Err(Error::file(path, problem));
        }
        let as_before = training.accumulate == self.accumulate
            && training.loss_scale.is_some() == self.scaling.is_some();
        if training.accumulated > 0 && !(as_before && training.accumulated < self.accumulate) {
            let problem = format!(
                "was saved with {} of {} gradients of a step; load it with the same `accumulate` and \
                 `loss_scale`, or save it after a step",
                training.accumulated, training.accumulate
            );
            return Err(Error::file(path, problem));
        }
        let mut sums = vec![None; self.params.len()];
        let mut copies = vec![];
        for (index, (name, value)) in self.params.iter().enumerate() {
            let mut take = |prefix: &str| {
                let name = format!("{prefix}/{name}");
                let found = loaded.tensors.remove(&name).map(|tensor| {
                    match tensor.shape() == value.shape() && tensor.dtype() == value.dtype() {
                        true => Ok(tensor.to_device(value.device())?),
                        false => Err(Error::file(
                            path,
                            format!("`{name}` has another shape or type"),
                        )),
                    }
                });
                found.transpose()
            };
            sums[index] = take(SUM)?;
            copies.push(take(COPY)?);
        }
        let copied: Vec<usize> = self.copies().map(|(index, _)| index).collect();
        for (index, copy) in copies.iter().enumerate() {
            if copy.is_some() != copied.contains(&index) {
                let (name, dtype) = (&self.params.names()[index], self.vars[index].dtype());
                let problem = format!("was saved when `{name}` had another type than {dtype:?}");
                return Err(Error::file(path, problem));
            }
        }
        loaded.check_complete(path)?;
        self.backend.set_state(state)?;
        let step = self.backend.steps();
        self.schedule_offset = training.schedule_step.unwrap_or(step).saturating_sub(step);
        for (value, copy) in self.values.iter().zip(&copies) {
            if let Some(copy) = copy {
                value.set(copy)?;
            }
        }
        self.pending.count = training.accumulated;
        self.pending.sums = match training.accumulated {
            0 => vec![],
            _ => sums,
        };
        for (group, saved) in self.groups.iter_mut().zip(training.groups) {
            (group.factor, group.weight_decay) = (saved.factor, saved.weight_decay);
        }
        self.weight_decay = training.weight_decay;
        if let (Some(scaling), Some(saved)) = (&mut self.scaling, training.loss_scale) {
            (scaling.scale, scaling.good_steps) = (saved.scale, saved.good_steps);
        }
        self.optimizer.set_learning_rate(loaded.learning_rate);
        Ok(())
    }

    /// The order of `VarMap::all_vars` changes from run to run, so positions cannot serve as names.
    fn require_names(&self, what: &str) -> Result<()> {
        if self.named {
            return Ok(());
        }
        Err(Error::Mismatch(format!(
            "cannot {what} the optimizer's state: the variables have no names, and their \
             order changes from run to run; create it with `from_var_map` or `with_names`"
        )))
    }
}
