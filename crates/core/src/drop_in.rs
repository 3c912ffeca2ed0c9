use std::{collections::HashMap, path::Path};

use candle_core::{DType, Tensor, Var, backprop::GradStore};

use crate::{
    Backend, Error, Optimizer, Params, Result, State, StepContext,
    backend::{Chosen, OfStore},
};

/// What a [`DropIn`] does with a gradient that contains NaN, ±inf or an entry above 1e18.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NonFinite {
    /// Return an error that names the parameter; nothing changes.
    #[default]
    Refuse,
    /// Skip the step and count it in [`DropIn::skipped_steps`].
    Skip,
}

/// The configuration of a [`DropIn`].
#[derive(Clone, Debug, Default)]
pub struct DropInConfig<O> {
    /// The optimizer.
    pub optimizer: O,
    /// What to do with a gradient that is not finite. Default: refuse the step.
    pub non_finite: NonFinite,
}

/// Adapts an [`Optimizer`] to [`candle_nn::Optimizer`]: it owns [`Var`]s and updates them.
///
/// As with candle's own optimizers, variables without a gradient and variables of an integer type
/// keep their value and state.
pub struct DropIn<O> {
    optimizer: O,
    non_finite: NonFinite,
    /// The variables in name order.
    vars: Vec<Var>,
    /// Views of the variables' memory.
    params: Params,
    backend: Box<dyn Backend>,
    named: bool,
    /// Skipped here, because the backend returned an error.
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
    /// Creates the optimizer for named variables, so that its state can be saved.
    ///
    /// # Errors
    /// Returns [`Error::Mismatch`] if two variables have the same name, or a variable has a float
    /// type other than f32 and f64: with fewer digits, decays near 1 and small ε are rounded away.
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
                "variable `{name}` has type {:?}, but the optimizers of lopt compute in f32 or \
                 f64; keep the variables in f32 and convert them in the forward pass",
                var.dtype()
            )));
        }
        vars.sort_by(|a, b| a.0.cmp(&b.0));
        let params = Params::new(
            vars.iter()
                .map(|(name, var)| (name.clone(), var.as_detached_tensor())),
        )?;
        let mut backend = Chosen::new(&config.optimizer, &params)?.into_backend();
        if config.non_finite == NonFinite::Skip {
            backend.allow_skipping();
        }
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

    /// The implementation in use: "avx512", "avx2" or "portable" for the in-place kernels
    /// (contiguous f32 variables on the CPU), "cuda" for those of a GPU, otherwise "candle ops".
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

    /// The number of steps skipped because of [`NonFinite::Skip`]. On a GPU this waits for it.
    ///
    /// # Errors
    /// Returns an error if the number cannot be read from the GPU.
    pub fn skipped_steps(&self) -> Result<u64> {
        Ok(self.skipped_steps + self.backend.skipped_steps()?)
    }

    /// Takes one step with candle's gradients.
    ///
    /// # Errors
    /// Returns the errors of [`Optimizer::step`]; the variables are then unchanged.
    pub fn try_step(&mut self, store: &GradStore) -> Result<()> {
        self.step_with(store, None)
    }

    fn step_with(&mut self, store: &GradStore, loss: Option<f32>) -> Result<()> {
        match self.step_or_refuse(store, loss) {
            Err(error) if error.is_bad_gradient() && self.non_finite == NonFinite::Skip => {
                self.skipped_steps += 1;
                Ok(())
            }
            result => result,
        }
    }

    fn step_or_refuse(&mut self, store: &GradStore, loss: Option<f32>) -> Result<()> {
        let vars = &self.vars;
        let rate = self.optimizer.learning_rate();
        let mut context = StepContext::new(self.backend.steps(), rate);
        context.loss = loss;
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

    /// Returns the optimizer's state as tensors.
    ///
    /// # Errors
    /// Returns an error if a tensor operation fails.
    pub fn state(&self) -> Result<State> {
        self.backend.state()
    }

    /// Saves the state under the variables' names, with the learning rate.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written, or if the variables have no names.
    pub fn save_state(&self, path: &Path) -> Result<()> {
        self.require_names("save")?;
        self.state()?.save(&self.optimizer, &self.params, path)
    }

    /// Loads a state saved by [`DropIn::save_state`], and sets the learning rate that the optimizer
    /// had.
    ///
    /// # Errors
    /// Returns an error if the file is damaged or belongs to another optimizer, θ or model, or if
    /// the variables have no names; nothing changes then.
    pub fn load_state(&mut self, path: &Path) -> Result<()> {
        self.require_names("load")?;
        let mut state = self.state()?;
        let learning_rate = state.load(&self.optimizer, &self.params, path)?;
        self.backend.set_state(state)?;
        self.optimizer.set_learning_rate(learning_rate);
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

    /// Also passes the loss to the optimizer, unless it is on a GPU, where reading it would block.
    fn backward_step(&mut self, loss: &Tensor) -> candle_core::Result<()> {
        let store = loss.backward()?;
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
