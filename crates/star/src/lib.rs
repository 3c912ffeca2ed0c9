//! STAR: the blackbox and three ideas from dynamical systems that keep it stable.
//!
//! Harrison, Metz and Sohl-Dickstein, NeurIPS 2022, arXiv 2209.11208. On top of
//! [`lopt_blackbox`]:
//!
//! 1. a **nominal term** that descends by itself, with a learned magnitude;
//! 2. the nominal term's **preconditioner** on the blackbox term too;
//! 3. heavy weight decay on θ during meta-training (see `lopt-meta`).
//!
//! The MLP 39 → 4 → 4 → 3 gives d, m_b and m_g, and
//!
//! Δφ = −\[ β₁ · exp(β₂ · m_g) · g̃ + β₃ · (d · (v + 1e-6)^{-1/2}) · exp(β₄ · m_b) \],
//!
//! β₁ = β₂ = β₃ = β₄ = 0.001, with g̃ = mean over the three momenta of
//! m_i · (v + 1e-6)^{-1/2}: AggMo inside Adam's preconditioner. 195 weights and 7 decay
//! offsets: 202 meta-parameters. Each part can be switched off ([`Config`]); with the
//! nominal term and the preconditioner off, STAR is the blackbox, bit for bit.

mod config;

use std::path::Path;

use candle_core::Tensor;
use lopt_blackbox::{
    config_json, config_of,
    heads::{DIRECTION, MAGNITUDE},
    term,
};
use lopt_core::{
    DropIn, FusedUpdate, Grads, LearnedOptimizer, Optimizer, Params, Purpose, Result, Rng, State,
    Streams, Theta,
};
use lopt_kernels::Isa;
use lopt_per_param::{Evaluation, Exponent, Formula, PerParam};

pub use config::{Config, Magnitude, Multipliers, Nominal};

/// The kind that θ files name.
pub const KIND: &str = "star";

/// The head of the log-magnitude m_g of the nominal term, after the blackbox's two.
const NOMINAL_MAGNITUDE: usize = 2;

/// STAR with its θ.
#[derive(Clone, Debug)]
pub struct Star {
    config: Config,
    theta: Theta,
    learning_rate: f64,
}

/// [`Star`] as a [`candle_nn::Optimizer`](https://docs.rs/candle-nn).
pub type StarOptimizer = DropIn<Star>;

impl Default for Star {
    /// [`Star::pretrained`].
    fn default() -> Self {
        Self::pretrained()
    }
}

impl Star {
    /// Meta-trained by lopt on the paper's task alone, an MLP 784-128-128-10 on Fashion-MNIST,
    /// where it is far ahead of tuned Adam; how, and how well it does elsewhere, is told in
    /// `weights/README.md` of this crate.
    pub fn pretrained() -> Self {
        embedded(include_bytes!("../weights/star.safetensors"))
    }

    /// Meta-trained by lopt on a family of MLPs, image sizes and data sets in random units: on
    /// networks below some 40,000 parameters about as fast as Adam tuned per task, on larger ones
    /// slower. See `weights/README.md` of this crate.
    pub fn pretrained_multi() -> Self {
        embedded(include_bytes!("../weights/multi.safetensors"))
    }

    /// The default configuration with a zero last layer: before any meta-training, the
    /// plain nominal term (AggMo in Adam's preconditioner) with step size 0.001.
    pub fn untrained() -> Self {
        let mut rng = Streams::new(0).stream(Purpose::ThetaInit, 0, 0, 0);
        Self::init(Config::default(), 0.0, &mut rng)
            .expect("the default configuration is JSON and fits itself")
    }

    /// A fresh θ, the last layer's weights times `last_layer_scale` (1: as the reference;
    /// 0: the plain nominal term, which meta-trains faster at first).
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

    /// The switches.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The same θ with other switches, an ablation.
    ///
    /// # Errors
    /// If they ask for another layout of θ; see [`Config`].
    pub fn with_config(&self, config: Config) -> Result<Self> {
        let json = config_json(&config)?;
        let (layout, values) = (self.theta.layout().clone(), self.theta.values().to_vec());
        let star = Self::new(Theta::new(KIND, json, layout, values)?)?;
        Ok(Self {
            learning_rate: self.learning_rate,
            ..star
        })
    }

    /// Δφ \[1, n\] before the learning rate's factor.
    fn delta(&self, evaluation: &Evaluation) -> Result<Tensor> {
        let blackbox = self
            .config
            .blackbox_term
            .then(|| self.blackbox_term(evaluation));
        let nominal = self.nominal_term(evaluation).transpose()?;
        let step = match (nominal, blackbox.transpose()?) {
            (Some(nominal), Some(blackbox)) => (nominal + blackbox)?,
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => evaluation.gradient.zeros_like()?,
        };
        Ok((step * -self.learning_rate)?)
    }

    /// The update on plain memory by certain instructions; `None` if the MLP's hidden
    /// layers are not 4 and 4.
    pub fn fused_by(&self, isa: Isa, shapes: &[Vec<usize>]) -> Option<Box<dyn FusedUpdate>> {
        per_param(&self.config).fused_by(isa, &self.theta, self.formula(), shapes)
    }

    /// The step as the kernels take it: a term that is off has a factor of 0.
    fn formula(&self) -> Formula {
        let config = &self.config;
        let Multipliers {
            nominal_step,
            nominal_exp,
            blackbox_step,
            blackbox_exp,
        } = config.multipliers;
        let exponent = |scale: f64, shift: f64, magnitude| Exponent {
            scale: scale as f32,
            shift: shift as f32,
            per_tensor: magnitude == Magnitude::PerTensor,
        };
        let (scale, shift) = if config.magnitude_control {
            (nominal_exp, 0.0)
        } else {
            (0.0, nominal_exp)
        };
        let blackbox = if config.blackbox_term {
            blackbox_step
        } else {
            0.0
        };
        Formula {
            nominal: config.nominal.weights().map(|w| (w * nominal_step) as f32),
            nominal_preconditioned: config.nominal.is_preconditioned(),
            nominal_exponent: exponent(scale, shift, config.nominal_magnitude),
            blackbox: blackbox as f32,
            blackbox_preconditioned: config.precondition_blackbox,
            blackbox_exponent: exponent(blackbox_exp, 0.0, config.blackbox_magnitude),
            learning_rate: self.learning_rate as f32,
        }
    }

    /// β₃ · (d · (v + 1e-6)^{-1/2}) · exp(β₄ · m_b).
    fn blackbox_term(&self, evaluation: &Evaluation) -> Result<Tensor> {
        let mut direction = evaluation.head(DIRECTION)?;
        if self.config.precondition_blackbox {
            direction = (direction * &evaluation.features.rsqrt)?;
        }
        let magnitude = self
            .config
            .blackbox_magnitude
            .of(evaluation.head(MAGNITUDE)?)?;
        let multipliers = &self.config.multipliers;
        term(
            &direction,
            &magnitude,
            multipliers.blackbox_step * evaluation.fade,
            multipliers.blackbox_exp,
        )
    }

    /// β₁ · exp(β₂ · m_g) · g̃; without magnitude control m_g is 1.
    fn nominal_term(&self, evaluation: &Evaluation) -> Option<Result<Tensor>> {
        let estimate = self.config.nominal.estimate(evaluation)?;
        let magnitude = || {
            let head = evaluation.head(NOMINAL_MAGNITUDE)?;
            if self.config.magnitude_control {
                self.config.nominal_magnitude.of(head)
            } else {
                Ok(head.ones_like()?)
            }
        };
        let multipliers = &self.config.multipliers;
        Some(estimate.and_then(|estimate| {
            term(
                &estimate,
                &magnitude()?,
                multipliers.nominal_step,
                multipliers.nominal_exp,
            )
        }))
    }
}

/// A θ of `weights/`.
fn embedded(bytes: &[u8]) -> Star {
    Theta::parse(bytes, Path::new("weights"))
        .and_then(Star::new)
        .expect("the embedded θ were checked by the tests")
}

fn per_param(config: &Config) -> PerParam {
    let heads = if config.nominal == Nominal::Off { 2 } else { 3 };
    PerParam::new(&config.hidden, heads).with_time_limit(config.time_limit.unwrap_or(u64::MAX))
}

impl Optimizer for Star {
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

impl LearnedOptimizer for Star {
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
        per_param(&self.config).step(theta, state, params, grads, |evaluation| {
            self.delta(evaluation)
        })
    }
}
