use std::{any::Any, path::Path};

use candle_core::Tensor;
use lopt_core::{
    Backend, Error, FusedUpdate, Grads, Layout, LearnedOptimizer, Optimizer, Params, Purpose,
    Result, Rng, State, StepContext, Streams, Theta,
};
use lopt_cuda_backend::Kernels;
use lopt_kernels::Isa;
use lopt_online_scale::OnlineScale;
use serde_json::Value;

use crate::{Pretrained, Rule, accumulators::Accumulators, cuda, fused, mlp, step};

/// The learned optimizer of a [`Rule`]: accumulators, features, the MLP with θ, and the rule's
/// formula. See the [crate documentation](crate) for one step.
#[derive(Clone, Debug)]
pub struct Learned<R> {
    rule: R,
    /// The sizes of the MLP's layers.
    sizes: Vec<usize>,
    theta: Theta,
    learning_rate: f64,
}

/// The largest number of hidden layers that [`Learned`] supports.
const MAX_HIDDEN: usize = 3;
/// The largest size of a hidden layer; the default is 4.
const MAX_SIZE: usize = 1024;

impl<R: Pretrained> Default for Learned<R> {
    /// Returns [`Learned::pretrained`].
    fn default() -> Self {
        Self::pretrained()
    }
}

impl<R: Pretrained> Learned<R> {
    /// Returns the meta-trained optimizer of the rule's crate. The card in `weights/README.md`
    /// describes its meta-training and results.
    pub fn pretrained() -> Self {
        Self::embedded(R::WEIGHTS)
    }
}

impl<R: Rule> Learned<R> {
    /// Creates the optimizer of an embedded θ file.
    ///
    /// # Panics
    /// Panics if the file is damaged or belongs to another optimizer.
    pub fn embedded(bytes: &'static [u8]) -> Self {
        Theta::parse(bytes, Path::new("weights"))
            .and_then(Self::new)
            .expect("an embedded θ file belongs to its rule")
    }

    /// Creates an optimizer with the default configuration and an initial θ drawn with seed 0 and
    /// [`Rule::LAST_LAYER_SCALE`].
    ///
    /// # Panics
    /// Panics if the default configuration cannot be written as JSON.
    pub fn untrained() -> Self {
        let mut rng = Streams::new(0).stream(Purpose::ThetaInit, 0, 0, 0);
        Self::init(R::default(), R::LAST_LAYER_SCALE, &mut rng)
            .expect("the default configuration is JSON and fits itself")
    }

    /// Creates an optimizer with an initial θ: weights truncated normal with σ = 1/√fan_in, those
    /// of the last layer times `last_layer_scale`; biases and decay offsets 0.
    ///
    /// # Errors
    /// Returns an error if the configuration cannot be written as JSON or has too many or too large
    /// hidden layers, or if the initial θ would not be finite.
    pub fn init(rule: R, last_layer_scale: f32, rng: &mut Rng) -> Result<Self> {
        let sizes = sizes(&rule)?;
        let values = mlp::initial_values(&sizes, last_layer_scale, rng);
        if !values.iter().all(|value| value.is_finite()) {
            return Err(Error::Setting(format!(
                "the last layer's scale (`last-layer-scale`) is {last_layer_scale}, with which the \
                 initial θ is not finite; use a smaller one, such as 1"
            )));
        }
        Self::new(Theta::new(
            R::KIND,
            json(&rule)?,
            mlp::layout(&sizes),
            values,
        )?)
    }

    /// Creates the optimizer described by `theta`.
    ///
    /// # Errors
    /// Returns [`Error::Mismatch`] if θ belongs to another optimizer or does not match its own
    /// configuration.
    pub fn new(theta: Theta) -> Result<Self> {
        if theta.kind() != R::KIND {
            return Err(Error::Mismatch(format!(
                "this θ belongs to the optimizer `{}`, not to `{}`",
                theta.kind(),
                R::KIND
            )));
        }
        let rule = R::deserialize(theta.config()).map_err(|error| {
            Error::Mismatch(format!(
                "the configuration in this θ of `{}` is not valid: {error}",
                theta.kind()
            ))
        })?;
        let sizes = sizes(&rule)?;
        check_layout(&theta, &mlp::layout(&sizes))?;
        Ok(Self {
            rule,
            sizes,
            theta,
            learning_rate: 1.0,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &R {
        &self.rule
    }

    /// Returns an optimizer with the same θ and another configuration, such as an ablation.
    ///
    /// # Errors
    /// Returns an error if the configuration needs another layout of θ.
    pub fn with_config(&self, rule: R) -> Result<Self> {
        let (layout, values) = (self.theta.layout().clone(), self.theta.values().to_vec());
        let other = Self::new(Theta::new(R::KIND, json(&rule)?, layout, values)?)?;
        Ok(Self {
            learning_rate: self.learning_rate,
            ..other
        })
    }

    /// Returns the update on f32 slices with this instruction set, for parameters of these shapes.
    /// Returns `None` unless the rule has a [`Rule::formula`], two or three outputs, and two hidden
    /// layers of 4, 8, 16 or 32.
    pub fn fused_by(&self, isa: Isa, shapes: &[Vec<usize>]) -> Option<Box<dyn FusedUpdate>> {
        fused::by(isa, &self.rule, &self.sizes, self.theta.values(), shapes).ok()
    }

    /// Returns the optimizer in the form that the CUDA kernels need. The rule must have a
    /// [`Rule::timed_formula`], and two hidden layers of 4, 8, 16 or 32.
    ///
    /// # Errors
    /// Returns the reason if there are no kernels for the rule.
    pub fn cuda_kernels(&self) -> Result<Kernels, String> {
        cuda::kernels(&self.rule, &self.sizes, self.theta.values())
    }
}

/// The configuration as stored in files. A value of `None` is left out, because TOML has no null.
pub(crate) fn json(rule: &impl Rule) -> Result<Value> {
    let mut json = serde_json::to_value(rule)
        .map_err(|error| Error::Mismatch(format!("the configuration is not JSON: {error}")))?;
    if let Value::Object(map) = &mut json {
        map.retain(|_, value| !value.is_null());
    }
    Ok(json)
}

/// Checks the configuration and returns the sizes of the MLP's layers.
pub(crate) fn sizes(rule: &impl Rule) -> Result<Vec<usize>> {
    rule.online_scale().map_or(Ok(()), OnlineScale::check)?;
    rule.timed_formula().map_or(Ok(()), |timed| timed.check())?;
    let hidden = rule.hidden();
    let sound = |size: &usize| (1..=MAX_SIZE).contains(size);
    if hidden.len() > MAX_HIDDEN || !hidden.iter().all(sound) {
        return Err(Error::Mismatch(format!(
            "the hidden layers {hidden:?} of the per-parameter MLP are not valid; use at most \
             {MAX_HIDDEN}, each of 1 to {MAX_SIZE} units"
        )));
    }
    Ok(lopt_kernels::per_param::theta::sizes(hidden, rule.heads()))
}

fn check_layout(theta: &Theta, needed: &Layout) -> Result<()> {
    let found = theta.layout();
    if found == needed {
        return Ok(());
    }
    let shapes = |layout: &Layout| {
        let parts = layout
            .parts()
            .map(|(name, shape, _)| format!("{name} {shape:?}"));
        parts.collect::<Vec<_>>().join(", ")
    };
    Err(Error::Mismatch(format!(
        "this θ of `{}` has the parts {}, but its configuration requires {}",
        theta.kind(),
        shapes(found),
        shapes(needed),
    )))
}

impl<R: Rule> Optimizer for Learned<R> {
    fn kind(&self) -> &'static str {
        R::KIND
    }

    fn init(&self, params: &Params) -> Result<State> {
        one_type(R::KIND, params)?;
        let tensors = params.tensors().iter();
        let slots =
            tensors.map(|p| Ok(Accumulators::zeros(p.dims(), p.dtype(), p.device())?.into_slots()));
        let state = State::of_parameters(slots.collect::<Result<_>>()?);
        lopt_online_scale::init(self.rule.online_scale(), state, params)
    }

    fn update(
        &self,
        context: &StepContext,
        state: &mut State,
        params: &mut Params,
        grads: &Grads,
    ) -> Result<()> {
        let Some(p) = params.tensors().first() else {
            return Ok(());
        };
        let theta = self.theta.tensors(p.dtype(), p.device())?;
        self.update_with(&theta, context, state, params, grads)
    }

    fn fused(&self, shapes: &[Vec<usize>]) -> Option<Box<dyn FusedUpdate>> {
        let theta = self.theta.values();
        match fused::by(Isa::best(), &self.rule, &self.sizes, theta, shapes) {
            Ok(fused) => Some(fused),
            Err(reason) => {
                let than = "about 20 times slower than the CPU kernels";
                fused::warn_once(R::KIND, than, &reason);
                None
            }
        }
    }

    /// Returns the backend of the CUDA kernels for contiguous f32 tensors on a GPU, if this crate
    /// was built with the feature `cuda` and there are kernels for the rule.
    fn backend(&self, params: &Params) -> Result<Option<Box<dyn Backend>>> {
        lopt_cuda_backend::backend(self, params, || {
            let kernels = self.cuda_kernels();
            let warn = |reason: &String| {
                fused::warn_once(R::KIND, "slower than the CUDA kernels", reason);
            };
            kernels.inspect_err(warn).ok()
        })
    }

    /// The [`Kernels`] of CUDA.
    fn kernels(&self) -> Option<Box<dyn Any>> {
        Some(Box::new(self.cuda_kernels().ok()?))
    }

    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = learning_rate;
    }

    fn as_learned(&self) -> Option<&dyn LearnedOptimizer> {
        Some(self)
    }
}

impl<R: Rule> LearnedOptimizer for Learned<R> {
    fn theta(&self) -> &Theta {
        &self.theta
    }

    fn with_values(&self, values: Vec<f32>) -> Result<Box<dyn LearnedOptimizer>> {
        Ok(Box::new(Self {
            theta: self.theta.with_values(values)?,
            ..self.clone()
        }))
    }

    fn update_with(
        &self,
        theta: &[Tensor],
        context: &StepContext,
        state: &mut State,
        params: &mut Params,
        grads: &Grads,
    ) -> Result<()> {
        step::update(
            &self.rule,
            &self.sizes,
            theta,
            context,
            state,
            params,
            grads,
        )
    }

    fn nominal_only(&self) -> Result<Option<Box<dyn LearnedOptimizer>>> {
        Ok(match self.rule.nominal_only() {
            Some(rule) => Some(Box::new(self.with_config(rule)?)),
            None => None,
        })
    }
}

/// Checks that all parameters have one type, that in which the MLP is evaluated.
fn one_type(kind: &str, params: &Params) -> Result<()> {
    let mut typed = params.iter().map(|(name, p)| (name, p.dtype()));
    let Some((first, dtype)) = typed.next() else {
        return Ok(());
    };
    match typed.find(|(_, other)| *other != dtype) {
        None => Ok(()),
        Some((name, other)) => Err(Error::Mismatch(format!(
            "parameter `{first}` has type {dtype:?} and `{name}` {other:?}, but {kind} computes in \
             one type; keep all parameters in one"
        ))),
    }
}
