mod config;
mod gradients;
mod loss_scale;
mod saved;

use std::{collections::HashMap, sync::Arc};

use candle_core::{DType, Tensor, Var, backprop::GradStore};

pub use config::{Clip, DropInConfig, Group, NonFinite};
pub use loss_scale::LossScale;

use crate::{
    Backend, Error, GradSource, Grads, Optimizer, Params, Result, Schedule, State, StepContext,
    backend::{Chosen, OfStore},
};
use gradients::{Pending, clipped, scaled};
use loss_scale::Scaling;

/// Adapts an [`Optimizer`] to [`candle_nn::Optimizer`]: it owns [`Var`]s and updates them.
///
/// As with candle's own optimizers, variables without a gradient and variables of an integer type
/// keep their value and state. For a variable in f16 or bf16, the optimizer updates an f32 copy, from
/// which the variable is rounded; if some variables are in f64, all others have an f64 copy. A value
/// written to a variable from outside, such as a loaded weight, takes effect at the next step that is
/// taken with a gradient of the variable.
pub struct DropIn<O> {
    optimizer: O,
    non_finite: NonFinite,
    schedule: Schedule,
    clip: Option<Clip>,
    groups: Vec<Group>,
    weight_decay: f64,
    accumulate: u64,
    scaling: Option<Scaling>,
    /// The variables in name order.
    vars: Arc<[Var]>,
    /// What the optimizer updates: the variables, or copies of another type.
    values: Vec<Var>,
    /// Views of the variables' memory, if the backend takes gradients of their types and rounds to them.
    rounded: Option<Params>,
    /// Views of the values' memory.
    params: Params,
    /// The group of each variable.
    group_of: Vec<Option<usize>>,
    backend: Box<dyn Backend>,
    pending: Pending,
    named: bool,
    /// Skipped here, because the backend returned an error.
    skipped_steps: u64,
    /// Steps that a GPU skipped before the loaded state was saved.
    schedule_offset: u64,
}

impl<O: std::fmt::Debug> std::fmt::Debug for DropIn<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DropIn")
            .field("optimizer", &self.optimizer)
            .field("path", &self.backend.path())
            .field("variables", &self.vars.len())
            .finish_non_exhaustive()
    }
}

impl<O: Optimizer> DropIn<O> {
    /// Creates the optimizer for named variables, so that its state can be saved.
    ///
    /// # Errors
    /// Returns [`Error::Mismatch`] if two variables have the same name or a variable has a float type
    /// other than f16, bf16, f32 and f64, and [`Error::Setting`] if a setting is out of range or no
    /// variable belongs to a frozen group.
    pub fn with_names(
        vars: impl IntoIterator<Item = (String, Var)>,
        config: DropInConfig<O>,
    ) -> Result<Self> {
        config.check()?;
        let group_of = |name: &str, var: &Var| config.group_of(name, var.dims());
        let (all, mut frozen) = (vars, vec![]);
        let mut vars = vec![];
        for (name, var) in all {
            match group_of(&name, &var).filter(|index| config.groups[*index].frozen) {
                Some(index) => frozen.push(index),
                None if var.dtype().is_float() => vars.push((name, var)),
                None => {}
            }
        }
        for (index, group) in config.groups.iter().enumerate().filter(|(_, g)| g.frozen) {
            if !frozen.contains(&index) {
                let example = vars.first().map(|(name, _)| format!(": one is `{name}`"));
                return Err(Error::Setting(format!(
                    "no variable belongs to the frozen group `{}`, so nothing would be frozen; check \
                     the condition and the groups before it, and see that the variables have names \
                     (`from_var_map`, not `new`){}",
                    group.name,
                    example.unwrap_or_default()
                )));
            }
        }
        if let Some((name, var)) = vars.iter().find(|(_, var)| !supported(var.dtype())) {
            return Err(Error::Mismatch(format!(
                "variable `{name}` has type {:?}; the optimizers of lopt support f16, bf16, f32 and \
                 f64",
                var.dtype()
            )));
        }
        vars.sort_by(|a, b| a.0.cmp(&b.0));
        let group_of: Vec<_> = vars.iter().map(|(name, var)| group_of(name, var)).collect();
        // Decays near 1 and a small ε would be rounded away in f16.
        let dtype = match vars.iter().any(|(_, var)| var.dtype() == DType::F64) {
            true => DType::F64,
            false => DType::F32,
        };
        let value = |(_, var): &(String, Var)| match var.dtype() == dtype {
            true => Ok(var.clone()),
            false => Var::from_tensor(&var.to_dtype(dtype)?),
        };
        let values = vars
            .iter()
            .map(value)
            .collect::<candle_core::Result<Vec<_>>>()?;
        let names = vars.iter().map(|(name, _)| name.clone());
        let views = values.iter().map(|value| value.as_detached_tensor());
        let params = Params::new(names.zip(views))?;
        for (index, group) in config.groups.iter().enumerate().filter(|(_, g)| !g.frozen) {
            if !group_of.contains(&Some(index)) {
                tracing::warn!("no variable belongs to the group `{}`", group.name);
            }
        }
        let mut backend = Chosen::new(&config.optimizer, &params)?.into_backend();
        backend.use_workers(config.workers);
        // With a loss scale, each skipped step must be known.
        if config.non_finite == NonFinite::Skip && config.loss_scale.is_none() {
            backend.allow_skipping();
        }
        let mut drop_in = Self {
            optimizer: config.optimizer,
            non_finite: config.non_finite,
            schedule: config.schedule,
            clip: config.clip,
            groups: config.groups,
            weight_decay: config.weight_decay,
            accumulate: config.accumulate,
            scaling: config.loss_scale.map(Scaling::new),
            vars: vars.into_iter().map(|(_, var)| var).collect(),
            values,
            rounded: None,
            params,
            group_of,
            backend,
            pending: Pending::default(),
            named: true,
            skipped_steps: 0,
            schedule_offset: 0,
        };
        if drop_in.leaves_gradients() && drop_in.copies().next().is_some() {
            let views = drop_in.vars.iter().map(|var| var.as_detached_tensor());
            let views = drop_in.params.with_tensors(views.collect())?;
            let rounds = drop_in.backend.round_to(&drop_in.params, &views)?;
            drop_in.rounded = rounds.then_some(views);
        }
        tracing::info!("{} steps by {}", drop_in.optimizer.kind(), drop_in.path());
        Ok(drop_in)
    }

    /// The implementation in use: "avx512", "avx2" or "portable" for the in-place kernels
    /// (contiguous variables on the CPU, none of them in f64), "cuda" for those of a GPU, otherwise
    /// "candle ops".
    pub fn path(&self) -> &'static str {
        self.backend.path()
    }

    /// Creates the optimizer for all variables of a [`candle_nn::VarMap`], with their names.
    ///
    /// # Errors
    /// Returns the errors of [`DropIn::with_names`].
    pub fn from_var_map(var_map: &candle_nn::VarMap, config: DropInConfig<O>) -> Result<Self> {
        let vars: HashMap<String, Var> = match var_map.data().lock() {
            Ok(vars) => vars.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        };
        Self::with_names(vars, config)
    }

    /// The optimizer.
    pub fn optimizer(&self) -> &O {
        &self.optimizer
    }

    /// The number of steps skipped because of [`NonFinite::Skip`] or a loss scale. On a GPU this waits
    /// for it.
    ///
    /// # Errors
    /// Returns an error if the number cannot be read from the GPU.
    pub fn skipped_steps(&self) -> Result<u64> {
        Ok(self.skipped_steps + self.backend.skipped_steps()?)
    }

    /// The factor by which to multiply the loss; see [`LossScale`]. 1 if none is configured.
    pub fn loss_scale(&self) -> f64 {
        self.scaling.as_ref().map_or(1.0, |scaling| scaling.scale)
    }

    /// Sets the factor of the learning rate of a group.
    ///
    /// # Errors
    /// Returns [`Error::Setting`] if there is no such group or it is frozen, or if the factor is
    /// negative or not finite.
    pub fn set_factor(&mut self, group: &str, factor: f64) -> Result<()> {
        self.group_mut(group, factor)?.factor = factor;
        Ok(())
    }

    /// Sets the weight decay λ of a group.
    ///
    /// # Errors
    /// Returns [`Error::Setting`] if there is no such group or it is frozen, or if λ is negative or not
    /// finite.
    pub fn set_weight_decay(&mut self, group: &str, lambda: f64) -> Result<()> {
        self.group_mut(group, lambda)?.weight_decay = Some(lambda);
        Ok(())
    }

    /// The group with this name, for a new value.
    fn group_mut(&mut self, name: &str, value: f64) -> Result<&mut Group> {
        if !(value >= 0.0 && value.is_finite()) {
            return Err(Error::Setting(format!(
                "{value} for the group `{name}`; it must be finite and at least 0"
            )));
        }
        match self.groups.iter_mut().find(|of| of.name == name) {
            Some(group) if group.frozen => Err(Error::Setting(format!(
                "the group `{name}` is frozen; its parameters are not updated"
            ))),
            found => found.ok_or_else(|| Error::Setting(format!("there is no group `{name}`"))),
        }
    }

    /// The bytes of the optimizer's state: its slots, the copies of variables in f16 and bf16, and the
    /// gradients that are accumulated now. In f32 these are, for a tensor of n elements:
    ///
    /// | | bytes |
    /// |---|---|
    /// | STAR, blackbox: a matrix of a rows and b columns | 16·n + 12·(a + b) |
    /// | STAR, blackbox: a vector or scalar | 28·n |
    /// | Adam, AdamW | 8·n |
    /// | SGD with momentum | 4·n |
    /// | online scale | 4·n, and 96 for the tensor |
    /// | variables in f16 or bf16 | 4·n |
    /// | while gradients are accumulated | 4·n |
    ///
    /// For a tensor of higher rank, a + b is n divided by its longest dimension, plus n divided by its
    /// second longest. The online scale has 104 bytes for the whole network besides.
    ///
    /// # Errors
    /// Returns an error if a tensor operation fails.
    pub fn state_bytes(&self) -> Result<usize> {
        let bytes = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
        let state = self.backend.state()?;
        let slots = state.all_slots().map(|slot| bytes(&slot.value));
        let copies = self.copies().map(|(_, value)| bytes(value));
        let pending = self.pending.sums.iter().flatten().map(bytes);
        Ok(slots.chain(copies).chain(pending).sum())
    }

    /// Whether nothing sums, scales or clips gradients, which needs them in the type of the values.
    fn leaves_gradients(&self) -> bool {
        self.accumulate == 1 && self.scaling.is_none() && self.clip.is_none()
    }

    /// The variables that have a copy, with it.
    fn copies(&self) -> impl Iterator<Item = (usize, &Var)> {
        let copied = |index: &usize| self.vars[*index].dtype() != self.values[*index].dtype();
        let indices = (0..self.vars.len()).filter(copied);
        indices.map(|index| (index, &self.values[index]))
    }

    /// Takes one step with candle's gradients, or adds them to those of the next step; see
    /// [`DropInConfig::accumulate`].
    ///
    /// # Errors
    /// Returns the errors of [`Optimizer::step`]; the variables are then unchanged, and accumulated
    /// gradients are dropped.
    pub fn try_step(&mut self, store: &GradStore) -> Result<()> {
        self.step_with(store, None)
    }

    fn step_with(&mut self, store: &GradStore, loss: Option<f32>) -> Result<()> {
        // A backend that rounds does so itself, but after the decay.
        if self.rounded.is_none() || self.special_rules().next().is_some() {
            self.refresh_copies()?;
        }
        // Copies need gradients of their own type, or of the type that the backend takes.
        let as_they_are = self.leaves_gradients() && self.copies().next().is_none();
        let taken = match as_they_are {
            true => {
                let vars = self.vars.clone();
                let grads = OfStore { vars: &vars, store };
                self.take_step(&grads, loss).map(|()| true)
            }
            false => self.gathered(store).and_then(|grads| match grads {
                Some(grads) => self.take_step(&grads, loss).map(|()| true),
                None => Ok(false),
            }),
        };
        match (taken, &mut self.scaling) {
            (Ok(true), Some(scaling)) => scaling.taken(),
            (Ok(_), _) => {}
            (Err(error), Some(scaling)) if error.is_bad_gradient() => {
                scaling.skipped();
                self.skipped_steps += 1;
            }
            (Err(error), _) if error.is_bad_gradient() && self.non_finite == NonFinite::Skip => {
                self.skipped_steps += 1;
            }
            (Err(error), _) => return Err(error),
        }
        Ok(())
    }

    /// Takes over what else was written to variables that have a copy, such as loaded weights.
    fn refresh_copies(&self) -> Result<()> {
        for (index, value) in self.copies().filter(|(_, value)| value.elem_count() > 0) {
            let var = &self.vars[index];
            let unchanged = value.to_dtype(var.dtype())?.eq(var.as_tensor())?;
            let written = var.to_dtype(value.dtype())?;
            value.set(&unchanged.where_cond(value.as_tensor(), &written)?)?;
        }
        Ok(())
    }

    /// The gradients of a step in the types that the backend takes, or `None` if more are to be
    /// accumulated first.
    fn gathered(&mut self, store: &GradStore) -> Result<Option<Grads>> {
        let typed = self.rounded.as_ref().unwrap_or(&self.params);
        let gradient = |(var, typed): (&Var, &Tensor)| {
            let gradient = store.get(var).map(|g| g.detach().to_dtype(typed.dtype()));
            gradient.transpose()
        };
        let pairs = self.vars.iter().zip(typed.tensors());
        let mut grads = Grads::new(pairs.map(gradient).collect::<candle_core::Result<_>>()?);
        if self.accumulate > 1 {
            self.pending.add(&grads)?;
            if self.pending.count < self.accumulate {
                return Ok(None);
            }
            grads = self.pending.take();
        }
        let factor = 1.0 / (self.accumulate as f64 * self.loss_scale());
        if factor != 1.0 {
            grads = scaled(&grads, factor)?;
        }
        Ok(Some(match self.clip {
            Some(clip) => clipped(grads, clip, &self.params)?,
            None => grads,
        }))
    }

    /// The step of the schedule: the number of steps before this one, with those that a GPU skipped.
    fn schedule_step(&self) -> u64 {
        self.backend.steps() + self.schedule_offset
    }

    /// The factor of the learning rate and λ of a variable.
    fn rule(&self, index: usize) -> (f64, f64) {
        let group = self.group_of[index].map(|index| &self.groups[index]);
        group.map_or((1.0, self.weight_decay), |group| {
            (
                group.factor,
                group.weight_decay.unwrap_or(self.weight_decay),
            )
        })
    }

    /// The rules that change a step, with the index of the variable.
    fn special_rules(&self) -> impl Iterator<Item = (usize, (f64, f64))> {
        let rules = (0..self.values.len()).map(|index| (index, self.rule(index)));
        rules.filter(|(_, rule)| *rule != (1.0, 0.0))
    }

    fn take_step(&mut self, grads: &dyn GradSource, loss: Option<f32>) -> Result<()> {
        let step = self.backend.steps();
        let rate = self.optimizer.learning_rate() * self.schedule.factor(self.schedule_step());
        let mut context = StepContext::new(step, rate);
        context.loss = loss;
        let before = self.decay(&context, grads)?;
        let (optimizer, params) = (&self.optimizer, &self.params);
        let new = self.backend.step(optimizer, &context, params, grads)?;
        let updated =
            |(index, value): &(usize, &Var)| grads.grad(*index).is_some() && value.elem_count() > 0;
        if let Some(new) = new {
            let values = self.values.iter().enumerate().filter(updated);
            for (index, value) in values {
                value.set(&new.tensors()[index])?;
            }
        }
        for (index, before) in before {
            let (factor, value) = (self.rule(index).0, &self.values[index]);
            let step = (value.as_tensor() - &before)?;
            self.set(index, &(before + (step * factor)?)?)?;
        }
        if self.rounded.is_none() {
            for (index, value) in self.copies().filter(updated) {
                let var = &self.vars[index];
                var.set(&value.to_dtype(var.dtype())?)?;
            }
        }
        Ok(())
    }

    /// Decays the parameters and returns those whose step is to be multiplied by a factor, by index.
    fn decay(&self, context: &StepContext, grads: &dyn GradSource) -> Result<Vec<(usize, Tensor)>> {
        let special: Vec<_> = self.special_rules().collect();
        if special.is_empty() {
            return Ok(vec![]);
        }
        // A step that is refused must not have changed anything.
        context.check()?;
        grads.check(self.rounded.as_ref().unwrap_or(&self.params))?;
        let mut before = vec![];
        for (index, (factor, lambda)) in special {
            let value = &self.values[index];
            if grads.grad(index).is_none() || value.elem_count() == 0 {
                continue;
            }
            if lambda > 0.0 {
                let kept = 1.0 - context.learning_rate * factor * lambda;
                self.set(index, &value.affine(kept, 0.0)?)?;
            }
            if factor != 1.0 {
                before.push((index, value.as_tensor().copy()?));
            }
        }
        Ok(before)
    }

    /// Replaces a value, and its variable too if the backend would else take over that.
    fn set(&self, index: usize, new: &Tensor) -> Result<()> {
        let (var, value) = (&self.vars[index], &self.values[index]);
        value.set(new)?;
        if self.rounded.is_some() && var.dtype() != value.dtype() {
            var.set(&new.to_dtype(var.dtype())?)?;
        }
        Ok(())
    }

    /// Returns the optimizer's state as tensors.
    ///
    /// # Errors
    /// Returns an error if a tensor operation fails.
    pub fn state(&self) -> Result<State> {
        self.backend.state()
    }
}

fn supported(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
}

impl<O: Optimizer> candle_nn::Optimizer for DropIn<O> {
    type Config = DropInConfig<O>;

    fn new(vars: Vec<Var>, config: Self::Config) -> candle_core::Result<Self> {
        let vars = vars.into_iter().enumerate();
        let numbered = vars.map(|(index, var)| (format!("{index:08}"), var));
        let mut drop_in = Self::with_names(numbered, config)?;
        drop_in.named = false;
        Ok(drop_in)
    }

    fn step(&mut self, grads: &GradStore) -> candle_core::Result<()> {
        Ok(self.try_step(grads)?)
    }

    fn learning_rate(&self) -> f64 {
        self.optimizer.learning_rate()
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.optimizer.set_learning_rate(learning_rate);
    }

    /// Multiplies the loss by [`DropIn::loss_scale`]. Also passes the loss to the optimizer, unless it
    /// is on a GPU, where reading it would block.
    fn backward_step(&mut self, loss: &Tensor) -> candle_core::Result<()> {
        let store = match &self.scaling {
            Some(scaling) => (loss.to_dtype(DType::F32)? * scaling.scale)?.backward()?,
            None => loss.backward()?,
        };
        let value = match loss.device().is_cpu() {
            true => Some(
                loss.flatten_all()?
                    .get(0)?
                    .to_dtype(DType::F32)?
                    .to_scalar()?,
            ),
            false => None,
        };
        Ok(self.step_with(&store, value)?)
    }
}
