use lopt_core::{Error, LearnedOptimizer, Result, Rng, Theta};
use serde_json::Value;

use crate::{
    Learned, Pretrained, Rule,
    learned::{json, sizes},
};

type Boxed = Box<dyn LearnedOptimizer>;

/// A named kind of learned optimizer, to create optimizers without knowing their type. A list of
/// kinds is a registry.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    name: &'static str,
    last_layer_scale: f32,
    check_config: fn(&Value) -> Result<Value>,
    init: fn(Option<&Value>, f32, &mut Rng) -> Result<Boxed>,
    of_theta: fn(Theta) -> Result<Boxed>,
    pretrained: Option<fn() -> Boxed>,
}

impl Kind {
    /// Creates the kind of a rule.
    pub const fn of<R: Rule>() -> Self {
        Self {
            name: R::KIND,
            last_layer_scale: R::LAST_LAYER_SCALE,
            check_config: |config| {
                let rule = parsed::<R>(config)?;
                sizes(&rule).map_err(|error| in_section::<R>(&error))?;
                json(&rule)
            },
            init: |config, scale, rng| {
                let rule = config.map(parsed::<R>).transpose()?.unwrap_or_default();
                Ok(Box::new(Learned::init(rule, scale, rng)?))
            },
            of_theta: |theta| Ok(Box::new(Learned::<R>::new(theta)?)),
            pretrained: None,
        }
    }

    /// Creates the kind of a rule with meta-trained weights.
    pub const fn pretrained_of<R: Pretrained>() -> Self {
        Self {
            pretrained: Some(|| Box::new(Learned::<R>::pretrained())),
            ..Self::of::<R>()
        }
    }

    /// The name in files and configurations.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The rule's [`Rule::LAST_LAYER_SCALE`]. If it is not 0, an optimizer of this kind that is
    /// initialized with a scale of 0 does not update the parameters.
    pub fn last_layer_scale(&self) -> f32 {
        self.last_layer_scale
    }

    /// Returns the configuration with its defaults filled in.
    ///
    /// # Errors
    /// Returns an error if it has an unknown key or a value of the wrong type.
    pub fn check_config(&self, config: &Value) -> Result<Value> {
        (self.check_config)(config)
    }

    /// Creates an optimizer with an initial θ; see [`Learned::init`]. `None` stands for the default
    /// configuration.
    ///
    /// # Errors
    /// Returns the errors of [`Kind::check_config`] and [`Learned::init`].
    pub fn init(&self, config: Option<&Value>, scale: f32, rng: &mut Rng) -> Result<Boxed> {
        (self.init)(config, scale, rng)
    }

    /// Creates the optimizer of `theta`; see [`Learned::new`].
    ///
    /// # Errors
    /// Returns the errors of [`Learned::new`].
    pub fn of_theta(&self, theta: Theta) -> Result<Boxed> {
        (self.of_theta)(theta)
    }

    /// Returns the meta-trained optimizer, if the rule's crate has one.
    pub fn pretrained(&self) -> Option<Boxed> {
        self.pretrained.map(|make| make())
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

fn parsed<R: Rule>(config: &Value) -> Result<R> {
    let parsed = R::deserialize(config);
    parsed.map_err(|error| in_section::<R>(&error))
}

fn in_section<R: Rule>(error: &dyn std::fmt::Display) -> Error {
    Error::Mismatch(format!("`optimizer.{}`: {error}", R::KIND))
}
