//! The settings of the original's classes and those of ours.

use lopt_blackbox::Blackbox;
use lopt_core::{Result, Theta};
use lopt_star::{Config as StarConfig, Magnitude, Multipliers, Nominal, Star};
use serde_json::{Map, Value, json};

use crate::mismatch;

/// The classes of the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    MlpNomLOpt,
    AdafacMlpLOpt,
}

/// The outputs of the MLPs of `MLPNomLOpt` and `AdafacMLPLOpt`.
pub const OUTPUTS: [usize; 2] = [4, 2];

const ESTIMATORS: [(&str, Nominal); 5] = [
    ("SGD", Nominal::Sgd),
    ("SGDM", Nominal::Sgdm),
    ("AggMo", Nominal::AggMo),
    ("Adam", Nominal::Adam),
    ("AdamAggMo", Nominal::AdamAggMo),
];

/// Settings that have no counterpart here, with the value that they must have.
fn fixed() -> [(&'static str, Value); 9] {
    [
        ("regularization_controller", json!(false)),
        ("weight_decay", json!(0.0)),
        ("selfnormalize_blackbox", json!(false)),
        ("clip_grad", json!(false)),
        ("make_separate_weights", json!(false)),
        ("split_weights", json!(false)),
        ("initial_momentum_decays", json!([0.9, 0.99, 0.999])),
        ("initial_rms_decays", json!([0.999])),
        ("initial_adafactor_decays", json!([0.9, 0.99, 0.999])),
    ]
}

/// Settings without an effect on the function.
const NEUTRAL: [&str; 2] = ["concat_weights", "aggregate_reg_magnitude"];

impl Class {
    pub fn of_outputs(outputs: usize) -> Result<Self> {
        match outputs {
            n if n == OUTPUTS[0] => Ok(Class::MlpNomLOpt),
            n if n == OUTPUTS[1] => Ok(Class::AdafacMlpLOpt),
            n => Err(mismatch(format!(
                "the MLP has {n} outputs; that of `MLPNomLOpt` has {} and that of `AdafacMLPLOpt` {}",
                OUTPUTS[0], OUTPUTS[1]
            ))),
        }
    }

    pub fn of_kind(kind: &str) -> Result<Self> {
        match kind {
            "star" => Ok(Class::MlpNomLOpt),
            "blackbox" => Ok(Class::AdafacMlpLOpt),
            other => Err(mismatch(format!(
                "the original has no optimizer `{other}`; θ of `star` and `blackbox` can be exported"
            ))),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Class::MlpNomLOpt => "MLPNomLOpt",
            Class::AdafacMlpLOpt => "AdafacMLPLOpt",
        }
    }

    pub fn kind(self) -> &'static str {
        match self {
            Class::MlpNomLOpt => "star",
            Class::AdafacMlpLOpt => "blackbox",
        }
    }

    /// The outputs of the original's MLP.
    pub fn outputs(self) -> usize {
        OUTPUTS[usize::from(self == Class::AdafacMlpLOpt)]
    }

    /// The outputs of our MLP.
    pub fn heads(self) -> usize {
        match self {
            Class::MlpNomLOpt => 3,
            Class::AdafacMlpLOpt => 2,
        }
    }

    /// Our optimizer can be made with this θ.
    pub fn check(self, theta: Theta) -> Result<()> {
        match self {
            Class::MlpNomLOpt => Star::new(theta).map(|_| ()),
            Class::AdafacMlpLOpt => Blackbox::new(theta).map(|_| ()),
        }
    }

    /// Our configuration for the original's settings and the widths of the hidden layers.
    pub fn config(self, given: &Map<String, Value>, hidden: &[usize]) -> Result<Value> {
        let mut given = Given {
            class: self.name(),
            left: given.clone(),
        };
        for (name, needed) in fixed() {
            let value = given.left.remove(name).unwrap_or_else(|| needed.clone());
            if !same(&value, &needed) {
                return Err(given.problem(name, &value, &format!("only {needed} is supported")));
            }
        }
        for name in NEUTRAL {
            given.left.remove(name);
        }
        let size = given.number("hidden_size", hidden.first().copied().unwrap_or(4) as f64)?;
        let layers = given.number("hidden_layers", hidden.len() as f64)?;
        if hidden.len() as f64 != layers || hidden.iter().any(|&width| width as f64 != size) {
            return Err(mismatch(format!(
                "config.gin says {layers} hidden layers of {size}, but the checkpoint has {hidden:?}"
            )));
        }
        let config = match self {
            Class::MlpNomLOpt => {
                let exp = given.numbers("exp_mult", [1e-3; 3])?;
                let config = StarConfig {
                    hidden: hidden.to_vec(),
                    nominal: given.estimator()?,
                    magnitude_control: given.flag("nominal_controller")?,
                    nominal_magnitude: given.magnitude("aggregate_nom_magnitude")?,
                    blackbox_term: true,
                    precondition_blackbox: given.flag("normalize_blackbox")?,
                    blackbox_magnitude: given.magnitude("aggregate_magnitude")?,
                    time_limit: None,
                    online_scale: None,
                    multipliers: Multipliers {
                        nominal_step: given.number("nominal_stepsize", 0.0)?,
                        nominal_exp: exp[1],
                        blackbox_step: given.number("step_mult", 1e-3)?,
                        blackbox_exp: exp[0],
                    },
                };
                serde_json::to_value(config)
            }
            Class::AdafacMlpLOpt => serde_json::to_value(lopt_blackbox::Config {
                hidden: hidden.to_vec(),
                step_multiplier: given.number("step_mult", 1e-3)?,
                exp_multiplier: given.number("exp_mult", 1e-3)?,
                online_scale: None,
            }),
        };
        if let Some((name, value)) = given.left.iter().next() {
            return Err(given.problem(name, value, "this setting is not known"));
        }
        config.map_err(|e| mismatch(e.to_string()))
    }

    /// The original's settings for our configuration.
    pub fn gin(self, config: &Value, without_extensions: bool) -> Result<String> {
        let mut config = config.clone();
        for extension in ["time-limit", "online-scale"] {
            let keys = config.as_object_mut();
            let found = keys.and_then(|keys| keys.remove(extension));
            if found.is_some_and(|value| !value.is_null()) && !without_extensions {
                return Err(mismatch(format!(
                    "θ was made for an optimizer with `{extension}`, which the original does not \
                     have; it can only be exported without it (`--without-extensions`)"
                )));
            }
        }
        let problem = |e: serde_json::Error| mismatch(e.to_string());
        let mut lines: Vec<(&str, String)> = vec![];
        let hidden = match self {
            Class::MlpNomLOpt => {
                let config: StarConfig = serde_json::from_value(config).map_err(problem)?;
                let Multipliers {
                    nominal_step,
                    nominal_exp,
                    blackbox_step,
                    blackbox_exp,
                } = config.multipliers;
                let flag = |on: bool| if on { "True" } else { "False" }.to_owned();
                let per_tensor = |magnitude| flag(magnitude == Magnitude::PerTensor);
                let estimator = ESTIMATORS
                    .iter()
                    .find(|(_, nominal)| *nominal == config.nominal);
                // Without a nominal term its step is 0.
                let step = if estimator.is_some() {
                    nominal_step
                } else {
                    0.0
                };
                let estimator = estimator.map_or("AdamAggMo", |(name, _)| name);
                let blackbox = if config.blackbox_term {
                    blackbox_step
                } else {
                    0.0
                };
                lines.extend([
                    (
                        "exp_mult",
                        format!("({blackbox_exp:?}, {nominal_exp:?}, 0.001)"),
                    ),
                    ("step_mult", format!("{blackbox:?}")),
                    ("nominal_stepsize", format!("{step:?}")),
                    ("nominal_grad_estimator", format!("'{estimator}'")),
                    ("nominal_controller", flag(config.magnitude_control)),
                    ("normalize_blackbox", flag(config.precondition_blackbox)),
                    ("aggregate_magnitude", per_tensor(config.blackbox_magnitude)),
                    (
                        "aggregate_nom_magnitude",
                        per_tensor(config.nominal_magnitude),
                    ),
                    ("regularization_controller", flag(false)),
                    ("weight_decay", "0.0".to_owned()),
                ]);
                config.hidden
            }
            Class::AdafacMlpLOpt => {
                let config: lopt_blackbox::Config =
                    serde_json::from_value(config).map_err(problem)?;
                lines.extend([
                    ("exp_mult", format!("{:?}", config.exp_multiplier)),
                    ("step_mult", format!("{:?}", config.step_multiplier)),
                ]);
                config.hidden
            }
        };
        let width = hidden.first().copied().unwrap_or(4);
        if hidden.iter().any(|&other| other != width) {
            return Err(mismatch(format!(
                "the hidden layers {hidden:?} have different widths, which the original does not support"
            )));
        }
        lines.push(("hidden_size", width.to_string()));
        lines.push(("hidden_layers", hidden.len().to_string()));
        let line = |(name, value): (&str, String)| format!("{}.{name} = {value}\n", self.name());
        Ok(lines.into_iter().map(line).collect())
    }
}

/// The settings that have not been used yet.
struct Given {
    class: &'static str,
    left: Map<String, Value>,
}

impl Given {
    fn problem(&self, name: &str, value: &Value, why: &str) -> lopt_core::Error {
        mismatch(format!(
            "config.gin: `{}.{name}` is {value}; {why}",
            self.class
        ))
    }

    fn take<T>(
        &mut self,
        name: &str,
        default: T,
        kind: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<T> {
        match self.left.remove(name) {
            None => Ok(default),
            Some(value) => read(&value)
                .ok_or_else(|| self.problem(name, &value, &format!("it must be {kind}"))),
        }
    }

    fn flag(&mut self, name: &str) -> Result<bool> {
        self.take(name, false, "True or False", Value::as_bool)
    }

    fn number(&mut self, name: &str, default: f64) -> Result<f64> {
        self.take(name, default, "a number", Value::as_f64)
    }

    fn numbers(&mut self, name: &str, default: [f64; 3]) -> Result<[f64; 3]> {
        self.take(name, default, "three numbers", |value| {
            let values = value.as_array()?.iter().map(Value::as_f64);
            values.collect::<Option<Vec<f64>>>()?.try_into().ok()
        })
    }

    fn magnitude(&mut self, name: &str) -> Result<Magnitude> {
        Ok(match self.flag(name)? {
            true => Magnitude::PerTensor,
            false => Magnitude::PerParameter,
        })
    }

    fn estimator(&mut self) -> Result<Nominal> {
        let names = ESTIMATORS.map(|(name, _)| name).join(", ");
        self.take(
            "nominal_grad_estimator",
            Nominal::AdamAggMo,
            &format!("one of {names}"),
            |value| {
                let found = ESTIMATORS
                    .iter()
                    .find(|(name, _)| Some(*name) == value.as_str());
                found.map(|(_, nominal)| *nominal)
            },
        )
    }
}

/// Whether two values are equal, with 0 and 0.0 the same.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}
