use std::path::Path;

use candle_core::Tensor;
use lopt_core::{
    Error, FusedUpdate, Grads, Layout, LearnedOptimizer, Optimizer, Params, Purpose, Result, Rng,
    State, StepContext, Streams, Theta,
};
use lopt_kernels::Isa;
use serde_json::Value;

use crate::{Pretrained, Rule, accumulators::Accumulators, fused, mlp, step};

/// The learned optimizer of a [`Rule`]: accumulators, features and MLP with θ, and the rule's
/// formula.
#[derive(Clone, Debug)]
pub struct Learned<R> {
    rule: R,
    /// Sizes of the MLP's layers.
    sizes: Vec<usize>,
    theta: Theta,
    learning_rate: f64,
}

/// The longest MLP that [`Learned`] takes.
const MAX_HIDDEN: usize = 3;

impl<R: Pretrained> Default for Learned<R> {
    /// [`Learned::pretrained`].
    fn default() -> Self {
        Self::pretrained()
    }
}

impl<R: Pretrained> Learned<R> {
    /// The meta-trained optimizer of the rule's crate; its card, `weights/README.md`, says how it
    /// was meta-trained and what it reaches.
    pub fn pretrained() -> Self {
        Self::embedded(R::WEIGHTS)
    }
}

impl<R: Rule> Learned<R> {
    /// The optimizer of a θ file that is part of the program.
    ///
    /// # Panics
    /// If the file is damaged or belongs to another optimizer.
    pub fn embedded(bytes: &'static [u8]) -> Self {
        Theta::parse(bytes, Path::new("weights"))
            .and_then(Self::new)
            .expect("an embedded θ file belongs to its rule")
    }

    /// A fresh θ of seed 0 with the default configuration, the last layer's weights times
    /// [`Rule::LAST_LAYER_SCALE`].
    ///
    /// # Panics
    /// If the default configuration cannot be written as JSON.
    pub fn untrained() -> Self {
        let mut rng = Streams::new(0).stream(Purpose::ThetaInit, 0, 0, 0);
        Self::init(R::default(), R::LAST_LAYER_SCALE, &mut rng)
            .expect("the default configuration is JSON and fits itself")
    }

    /// A fresh θ: weights truncated normal with σ = 1/√fan_in, the last layer's times
    /// `last_layer_scale`; biases and decay offsets 0.
    ///
    /// # Errors
    /// Returns an error if the configuration cannot be written as JSON, or has more than three
    /// hidden layers.
    pub fn init(rule: R, last_layer_scale: f32, rng: &mut Rng) -> Result<Self> {
        let sizes = sizes(&rule)?;
        let values = mlp::initial_values(&sizes, last_layer_scale, rng);
        Self::new(Theta::new(
            R::KIND,
            json(&rule)?,
            mlp::layout(&sizes),
            values,
        )?)
    }

    /// The optimizer that `theta` describes.
    ///
    /// # Errors
    /// Returns an error if θ belongs to another optimizer, or does not fit its own configuration.
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
                "the configuration in this θ of `{}` cannot be understood: {error}",
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

    /// The same θ with another configuration, such as an ablation.
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

    /// The update on f32 slices with certain CPU instructions, for parameters of these shapes.
    /// `None` unless the rule has a [`Rule::formula`], two or three outputs, and two hidden layers
    /// of 4, 8, 16 or 32.
    pub fn fused_by(&self, isa: Isa, shapes: &[Vec<usize>]) -> Option<Box<dyn FusedUpdate>> {
        fused::by(isa, &self.rule, &self.sizes, self.theta.values(), shapes)
    }
}

fn json(rule: &impl Rule) -> Result<Value> {
    serde_json::to_value(rule)
        .map_err(|error| Error::Mismatch(format!("the configuration is no JSON: {error}")))
}

/// Sizes of the MLP's layers.
fn sizes(rule: &impl Rule) -> Result<Vec<usize>> {
    let hidden = rule.hidden();
    if hidden.len() > MAX_HIDDEN || hidden.contains(&0) {
        return Err(Error::Mismatch(format!(
            "the per-parameter MLP has the hidden layers {hidden:?}; it takes at most {MAX_HIDDEN}, \
             each of at least 1"
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
        "this θ of `{}` has the parts {}; its configuration asks for {}",
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
        let tensors = params.tensors().iter();
        let slots =
            tensors.map(|p| Ok(Accumulators::zeros(p.dims(), p.dtype(), p.device())?.into_slots()));
        Ok(State::of_parameters(slots.collect::<Result<_>>()?))
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
        let fused = self.fused_by(Isa::best(), shapes);
        if fused.is_none() {
            fused::warn_once(R::KIND, self.rule.hidden());
        }
        fused
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
