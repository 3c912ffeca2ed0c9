use std::{collections::HashMap, path::Path};

use candle_core::{DType, Tensor, Var, backprop::GradStore};

use crate::{
    Backend, Error, Optimizer, Params, Result, State, StepContext,
    backend::{OfStore, backend},
};

/// What a [`DropIn`] does with a gradient that holds NaN, ±inf or an entry above 1e18.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NonFinite {
    /// The step is an error that names the parameter; nothing changes.
    #[default]
    Refuse,
    /// The step is left out and counted in [`DropIn::skipped_steps`].
    Skip,
}

/// The configuration of a [`DropIn`].
#[derive(Clone, Debug, Default)]
pub struct DropInConfig<O> {
    /// The optimizer itself.
    pub optimizer: O,
    /// What to do with gradients that are not finite.
    pub non_finite: NonFinite,
}

/// Any [`Optimizer`] as a [`candle_nn::Optimizer`]: it owns [`Var`]s and updates them.
///
/// Parameters without a gradient in the store keep their value and their state, as with
/// candle's own optimizers; so do variables of integer type.
pub struct DropIn<O> {
    optimizer: O,
    non_finite: NonFinite,
    /// In name order.
    vars: Vec<Var>,
    /// Views of the variables' memory.
    params: Params,
    backend: Box<dyn Backend>,
    named: bool,
    skipped_steps: u64,
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
    /// With names, so that the state can be saved; `VarMap::data().lock()` gives them.
    ///
    /// # Errors
    /// If a name occurs twice, or a variable is of a float type other than f32 and f64: in
    /// fewer digits decays near 1 and small ε vanish.
    pub fn with_names(
        vars: impl IntoIterator<Item = (String, Var)>,
        config: DropInConfig<O>,
    ) -> Result<Self> {
        let mut vars: Vec<_> = vars
            .into_iter()
            .filter(|(_, var)| var.dtype().is_float())
            .collect();
        if let Some((name, var)) = vars.iter().find(|(_, var)| !supported(var.dtype())) {
            return Err(Error::Mismatch(format!(
                "variable `{name}` is of type {:?}; optimizers here compute in f32 or f64: keep \
                 the variables in one of them and convert in the forward pass",
                var.dtype()
            )));
        }
        vars.sort_by(|a, b| a.0.cmp(&b.0));
        let params = Params::new(
            vars.iter()
                .map(|(name, var)| (name.clone(), var.as_detached_tensor())),
        )?;
        let backend = backend(&config.optimizer, &params)?;
        let drop_in = Self {
            optimizer: config.optimizer,
            non_finite: config.non_finite,
            vars: vars.into_iter().map(|(_, var)| var).collect(),
            params,
            backend,
            named: true,
            skipped_steps: 0,
        };
        tracing::info!("{} steps by {}", drop_in.optimizer.kind(), drop_in.path());
        Ok(drop_in)
    }

    /// What takes the steps: "avx512", "avx2" or "portable" kernels in place (contiguous
    /// f32 variables on the CPU), or "candle ops".
    pub fn path(&self) -> &'static str {
        self.backend.path()
    }

    /// All variables of a [`candle_nn::VarMap`], by their names.
    ///
    /// # Errors
    /// Those of the optimizer.
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

    /// How many steps [`NonFinite::Skip`] left out.
    pub fn skipped_steps(&self) -> u64 {
        self.skipped_steps
    }

    /// One step with candle's gradients.
    ///
    /// # Errors
    /// As [`Optimizer::step`]; the variables are then unchanged.
    pub fn try_step(&mut self, store: &GradStore) -> Result<()> {
        match self.step_or_refuse(store) {
            Err(error) if error.is_bad_gradient() && self.non_finite == NonFinite::Skip => {
                self.skipped_steps += 1;
                Ok(())
            }
            result => result,
        }
    }

    fn step_or_refuse(&mut self, store: &GradStore) -> Result<()> {
        let vars = &self.vars;
        let rate = self.optimizer.learning_rate();
        let context = StepContext::new(self.backend.steps(), rate);
        let grads = OfStore { vars, store };
        let (optimizer, params) = (&self.optimizer, &self.params);
        if let Some(new) = self.backend.step(optimizer, &context, params, &grads)? {
            for (var, new) in vars.iter().zip(new.tensors()) {
                if store.get(var).is_some() && new.elem_count() > 0 {
                    var.set(new)?;
                }
            }
        }
        Ok(())
    }

    /// The optimizer's state, as tensors.
    ///
    /// # Errors
    /// Those of candle.
    pub fn state(&self) -> Result<State> {
        self.backend.state()
    }

    /// Saves the state by the variables' names.
    ///
    /// # Errors
    /// If the file cannot be written, or the variables came without names.
    pub fn save_state(&self, path: &Path) -> Result<()> {
        self.require_names("save")?;
        self.state()?
            .save(self.optimizer.kind(), &self.params, path)
    }

    /// Loads what [`DropIn::save_state`] saved.
    ///
    /// # Errors
    /// If the file is damaged or of another optimizer or model (the state is then
    /// unchanged), or the variables came without names.
    pub fn load_state(&mut self, path: &Path) -> Result<()> {
        self.require_names("load")?;
        let mut state = self.state()?;
        state.load(self.optimizer.kind(), &self.params, path)?;
        self.backend.set_state(state)
    }

    /// `VarMap::all_vars` comes in another order in every run: positions are no names.
    fn require_names(&self, what: &str) -> Result<()> {
        if self.named {
            return Ok(());
        }
        Err(Error::Mismatch(format!(
            "cannot {what} the optimizer's state: the variables have no names, and their \
             order changes from run to run; construct it by `from_var_map` or `with_names`"
        )))
    }
}

fn supported(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F64)
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

    fn backward_step(&mut self, loss: &Tensor) -> candle_core::Result<()> {
        self.step(&loss.backward()?)
    }
}
