//! The blackbox baseline: a learned optimizer that trusts its MLP entirely.
//!
//! The per-parameter MLP 39 → 4 → 4 → 2 gives a direction d and a magnitude m_b, and
//!
//! Δφ = −β₁ · d · exp(β₂ · m_b), β₁ = β₂ = 0.001.
//!
//! 190 weights and 7 decay offsets: 197 meta-parameters. Source: `small_fc_lopt` of Metz
//! et al. 2022, arXiv 2203.11860.

use std::path::Path;

use candle_core::Tensor;
use lopt_core::{
    DropIn, Error, FusedUpdate, Grads, LearnedOptimizer, Optimizer, Params, Purpose, Result, Rng,
    State, Streams, Theta,
};
use lopt_kernels::Isa;
use lopt_per_param::{Evaluation, Exponent, Formula, PerParam};
use serde::{Deserialize, Serialize};

/// The kind that θ files name.
pub const KIND: &str = "blackbox";

/// Heads of the per-parameter MLP.
pub mod heads {
    /// The direction d.
    pub const DIRECTION: usize = 0;
    /// The log-magnitude m_b of the blackbox term.
    pub const MAGNITUDE: usize = 1;
}

/// What is fixed before meta-training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Hidden layers of the per-parameter MLP.
    pub hidden: Vec<usize>,
    /// β₁, the scale of the step.
    pub step_multiplier: f64,
    /// β₂, the scale of the log-magnitude.
    pub exp_multiplier: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden: vec![4, 4],
            step_multiplier: 1e-3,
            exp_multiplier: 1e-3,
        }
    }
}

/// The blackbox optimizer with its θ.
#[derive(Clone, Debug)]
pub struct Blackbox {
    config: Config,
    theta: Theta,
    learning_rate: f64,
}

/// [`Blackbox`] as a [`candle_nn::Optimizer`](https://docs.rs/candle-nn).
pub type BlackboxOptimizer = DropIn<Blackbox>;

impl Default for Blackbox {
    /// [`Blackbox::pretrained`].
    fn default() -> Self {
        Self::pretrained()
    }
}

/// See the card beside it, `weights/README.md`.
const PRETRAINED: &[u8] = include_bytes!("../weights/blackbox.safetensors");

impl Blackbox {
    /// Meta-trained by lopt on Fashion-MNIST; how, and how well it does, is told in
    /// `weights/README.md` of this crate.
    pub fn pretrained() -> Self {
        Theta::parse(PRETRAINED, Path::new("weights/blackbox.safetensors"))
            .and_then(Self::new)
            .expect("the embedded θ was checked by the tests")
    }

    /// A fresh θ of seed 0, as the reference initialises it: before meta-training it does
    /// not train anything.
    pub fn untrained() -> Self {
        let mut rng = Streams::new(0).stream(Purpose::ThetaInit, 0, 0, 0);
        Self::init(Config::default(), 1.0, &mut rng)
            .expect("the default configuration is JSON and fits itself")
    }

    /// A fresh θ, the last layer's weights times `last_layer_scale` (1: as the reference).
    ///
    /// # Errors
    /// If the configuration cannot be written as JSON.
    pub fn init(config: Config, last_layer_scale: f32, rng: &mut Rng) -> Result<Self> {
        let json = config_json(&config)?;
        let theta = per_param(&config).init_theta(KIND, json, last_layer_scale, rng)?;
        Self::new(theta)
    }

    /// The optimizer that `theta` describes.
    ///
    /// # Errors
    /// If θ is of another optimizer, or does not fit its own configuration.
    pub fn new(theta: Theta) -> Result<Self> {
        let config: Config = config_of(&theta, KIND)?;
        per_param(&config).check_layout(&theta)?;
        Ok(Self {
            config,
            theta,
            learning_rate: 1.0,
        })
    }

    /// The update on plain memory by certain instructions; `None` if the MLP's hidden
    /// layers are not 4 and 4.
    pub fn fused_by(&self, isa: Isa, shapes: &[Vec<usize>]) -> Option<Box<dyn FusedUpdate>> {
        let exponent = |scale: f64| Exponent {
            scale: scale as f32,
            shift: 0.0,
            per_tensor: false,
        };
        let formula = Formula {
            nominal: [0.0; 4],
            nominal_preconditioned: false,
            nominal_exponent: exponent(0.0),
            blackbox: self.config.step_multiplier as f32,
            blackbox_preconditioned: false,
            blackbox_exponent: exponent(self.config.exp_multiplier),
            learning_rate: self.learning_rate as f32,
        };
        per_param(&self.config).fused_by(isa, &self.theta, formula, shapes)
    }
}

/// The configuration that the θ of an optimizer `kind` carries.
///
/// # Errors
/// If θ is of another kind, or carries none.
pub fn config_of<C: serde::de::DeserializeOwned>(theta: &Theta, kind: &str) -> Result<C> {
    if theta.kind() != kind {
        return Err(Error::Mismatch(format!(
            "this θ belongs to the optimizer `{}`, not to `{kind}`",
            theta.kind()
        )));
    }
    C::deserialize(theta.config()).map_err(|error| {
        Error::Mismatch(format!(
            "the configuration in this θ of `{}` cannot be understood: {error}",
            theta.kind()
        ))
    })
}

/// A configuration as the JSON that θ files carry.
///
/// # Errors
/// If it holds what JSON cannot, such as NaN keys.
pub fn config_json(config: &impl Serialize) -> Result<serde_json::Value> {
    serde_json::to_value(config)
        .map_err(|error| Error::Mismatch(format!("the configuration is no JSON: {error}")))
}

fn per_param(config: &Config) -> PerParam {
    PerParam::new(&config.hidden, 2)
}

/// The blackbox term β₁ · d · exp(β₂ · m_b), \[1, n\]; STAR has it too.
///
/// # Errors
/// Those of candle.
pub fn term(
    direction: &Tensor,
    magnitude: &Tensor,
    step_multiplier: f64,
    exp_multiplier: f64,
) -> Result<Tensor> {
    let magnitude = (magnitude * exp_multiplier)?.exp()?;
    Ok((direction.broadcast_mul(&magnitude)? * step_multiplier)?)
}

impl Optimizer for Blackbox {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn init(&self, params: &Params) -> Result<State> {
        per_param(&self.config).init_state(params)
    }

    fn update(&self, state: &mut State, params: &mut Params, grads: &Grads) -> Result<()> {
        let Some(p) = params.tensors().first() else {
            return Ok(());
        };
        let theta = self.theta.tensors(p.dtype(), p.device())?;
        self.update_with(&theta, state, params, grads)
    }

    fn fused(&self, shapes: &[Vec<usize>]) -> Option<Box<dyn FusedUpdate>> {
        self.fused_by(Isa::best(), shapes)
    }

    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = learning_rate;
    }
}

impl LearnedOptimizer for Blackbox {
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
        state: &mut State,
        params: &mut Params,
        grads: &Grads,
    ) -> Result<()> {
        per_param(&self.config).step(theta, state, params, grads, |evaluation: &Evaluation| {
            let step = term(
                &evaluation.head(heads::DIRECTION)?,
                &evaluation.head(heads::MAGNITUDE)?,
                self.config.step_multiplier,
                self.config.exp_multiplier,
            )?;
            Ok((step * -self.learning_rate)?)
        })
    }
}
