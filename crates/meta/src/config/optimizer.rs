use std::path::PathBuf;

use lopt_core::{LearnedOptimizer, Purpose, Streams, Theta};
use lopt_per_param::Kind;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::SerializeMap};
use serde_json::Value;

use crate::{Error, Result, registry};

/// The key of the online scale in the section of an optimizer.
pub(super) const ONLINE_SCALE: &str = "online-scale";

/// The learned optimizer to be meta-trained, and its initial θ. In TOML:
///
/// ```toml
/// [optimizer]
/// kind = "star"
/// last-layer-scale = 0.0
/// init = "other/best.safetensors" # optional: starts from this θ instead of a random one
///
/// [optimizer.star] # optional: the configuration of the optimizer of this kind
/// time-limit = 500
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct OptimizerConfig {
    /// The kind of optimizer.
    pub kind: Kind,
    /// The factor on the random initial weights of the MLP's last layer; 1 in the reference.
    pub last_layer_scale: f32,
    /// A file with the θ that a run starts from, instead of a random one. Only its values are taken.
    pub init: Option<PathBuf>,
    /// The complete configuration of the optimizer, or `None` for the default one.
    pub config: Option<Value>,
}

impl OptimizerConfig {
    /// Creates the optimizer with a random initial θ drawn with `seed`.
    ///
    /// # Errors
    /// Returns an error if the configuration does not match the kind.
    pub fn initial(&self, seed: u64) -> Result<Box<dyn LearnedOptimizer>> {
        let mut rng = Streams::new(seed).stream(Purpose::ThetaInit, 0, 0, 0);
        let (config, scale) = (self.config.as_ref(), self.last_layer_scale);
        Ok(self.kind.init(config, scale, &mut rng)?)
    }

    /// Creates the optimizer with the θ that a new run starts from: that of the file `init`, or a
    /// random one drawn with `seed`.
    ///
    /// # Errors
    /// Returns an error if the configuration does not match the kind, or if the file cannot be read
    /// or has the θ of another kind or size.
    pub(super) fn first(&self, seed: u64) -> Result<Box<dyn LearnedOptimizer>> {
        let optimizer = self.initial(seed)?;
        let Some(path) = &self.init else {
            return Ok(optimizer);
        };
        let theta = Theta::load(path)?;
        let problem = |what: String| {
            let path = path.display();
            Err(Error::Config(format!("`optimizer.init`, {path}: {what}")))
        };
        let (kind, n) = (self.kind.name(), optimizer.theta().values().len());
        if theta.kind() != kind {
            let theirs = theta.kind();
            return problem(format!("it has the θ of a `{theirs}`, not of a `{kind}`"));
        }
        if theta.layout() != optimizer.theta().layout() {
            let theirs = theta.values().len();
            return problem(format!(
                "its {theirs} meta-parameters belong to another MLP than the {n} of the run"
            ));
        }
        if theta.config() != optimizer.theta().config() {
            tracing::warn!(
                "θ of {} was made for another configuration of the optimizer ({}); only its values are \
                 taken, and the run's configuration applies",
                path.display(),
                theta.config()
            );
        }
        Ok(optimizer.with_values(theta.values().to_vec())?)
    }

    /// Removes the online scale, if there is one.
    pub fn without_online_scale(mut self) -> Self {
        if let Some(Value::Object(keys)) = &mut self.config {
            keys.remove(ONLINE_SCALE);
        }
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        let scale = self.last_layer_scale;
        let problem = |must: &str| {
            let problem = format!("`optimizer.last-layer-scale` must be {must}");
            Err(Error::Config(problem))
        };
        if !scale.is_finite() {
            return problem("finite");
        }
        if scale == 0.0 && self.init.is_none() && self.kind.last_layer_scale() != 0.0 {
            let kind = self.kind.name();
            let why = "which would not move with 0; the reference uses 1.0";
            return problem(&format!("other than 0 for `{kind}`, {why}"));
        }
        Ok(())
    }
}

impl Serialize for OptimizerConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", self.kind.name())?;
        map.serialize_entry("last-layer-scale", &self.last_layer_scale)?;
        if let Some(init) = &self.init {
            map.serialize_entry("init", init)?;
        }
        if let Some(config) = &self.config {
            map.serialize_entry(self.kind.name(), config)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for OptimizerConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = toml::Table::deserialize(deserializer)?;
        parse(&mut table).map_err(D::Error::custom)
    }
}

fn parse(table: &mut toml::Table) -> Result<OptimizerConfig, String> {
    let mut take = |key: &str| table.remove(key).ok_or(format!("missing field `{key}`"));
    let kind = take("kind")?;
    let kind = kind
        .as_str()
        .ok_or("`kind` must be a string, such as \"star\"")?;
    let kind = registry::kind(kind).map_err(|e| e.to_string())?;
    let scale = f32::deserialize(take("last-layer-scale")?);
    let last_layer_scale = scale.map_err(|e| format!("`last-layer-scale`: {}", e.message()))?;
    let init = table.remove("init").map(PathBuf::deserialize).transpose();
    let init = init.map_err(|e| format!("`init`: {}", e.message()))?;
    let config = table.remove(kind.name());
    if let Some(other) = table.keys().next() {
        return Err(match registry::kind(other) {
            Ok(_) => format!(
                "`optimizer.{other}` has no effect when `optimizer.kind` is \"{}\"; remove one of \
                 them",
                kind.name()
            ),
            Err(_) => format!(
                "unknown field `{other}`, expected `kind`, `last-layer-scale`, `init` or `{}`",
                kind.name()
            ),
        });
    }
    let config = config.map(|section| check_section(kind, section));
    Ok(OptimizerConfig {
        kind,
        last_layer_scale,
        init,
        config: config.transpose()?,
    })
}

/// Returns the complete configuration of an optimizer of this kind, given as a section of TOML.
pub(crate) fn check_section(kind: Kind, section: toml::Value) -> Result<Value, String> {
    check_finite(&section, &format!("optimizer.{}", kind.name()))?;
    let json = serde_json::to_value(section).map_err(|e| e.to_string())?;
    kind.check_config(&json).map_err(|e| e.to_string())
}

/// Returns an error if a value in a section is NaN or ±inf.
fn check_finite(value: &toml::Value, key: &str) -> Result<(), String> {
    match value {
        toml::Value::Float(x) if !x.is_finite() => Err(format!("`{key}` must be finite")),
        toml::Value::Table(table) => table
            .iter()
            .try_for_each(|(name, value)| check_finite(value, &format!("{key}.{name}"))),
        toml::Value::Array(values) => values.iter().try_for_each(|value| check_finite(value, key)),
        _ => Ok(()),
    }
}
