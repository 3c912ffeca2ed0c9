//! The learned optimizers that configurations and files refer to by name.

use std::path::Path;

use lopt_core::{LearnedOptimizer, Theta};
use lopt_per_param::Kind;
use serde_json::{Value, json};

use crate::{
    Error, Result,
    config::{check_section, overrides},
};

/// All kinds. To add a learned optimizer, implement [`Rule`](lopt_per_param::Rule) and add its kind
/// here. Optimizers of other crates need not be registered; see [`crate::Trainer::start`].
pub const LEARNED: &[Kind] = &[
    Kind::pretrained_of::<lopt_star::Config>(),
    Kind::pretrained_of::<lopt_blackbox::Config>(),
];

/// Returns the kind with this name.
///
/// # Errors
/// Returns [`Error::Config`] with the existing names if there is no such kind.
pub fn kind(name: &str) -> Result<Kind> {
    let found = LEARNED.iter().copied().find(|kind| kind.name() == name);
    found.ok_or_else(|| {
        let names: Vec<_> = LEARNED.iter().map(Kind::name).collect();
        let names = names.join(", ");
        Error::Config(format!("no learned optimizer `{name}`; available: {names}"))
    })
}

/// Loads the optimizer of a θ file, of the kind that the file names.
///
/// # Errors
/// Returns an error if the file cannot be read or is damaged, or if θ does not match the
/// configuration in it.
pub fn load(path: &Path) -> Result<Box<dyn LearnedOptimizer>> {
    let theta = Theta::load(path)?;
    let optimizer = kind(theta.kind()).and_then(|kind| Ok(kind.of_theta(theta)?));
    optimizer.map_err(|error| lopt_core::Error::file(path, error.to_string()).into())
}

/// The key of the provenance that lists the settings changed by [`configure`].
const CHANGED: &str = "changed-settings";

/// Returns θ with other settings of its optimizer. Each is `key.path=value`, such as `time-limit=500`;
/// without a value the default applies. The values of θ stay the same, and its provenance lists the
/// settings.
///
/// # Errors
/// Returns [`Error::Config`] if a setting is not one of the optimizer's or has a wrong value, and an
/// error if the MLP of the new configuration has another number of meta-parameters.
pub fn configure(theta: &Theta, settings: &[String]) -> Result<Theta> {
    let kind = kind(theta.kind())?;
    let table = toml::Table::try_from(theta.config());
    let mut table = table.map_err(|error| Error::Config(error.to_string()))?;
    for setting in settings {
        overrides::apply(&mut table, setting)?;
    }
    let config = check_section(kind, toml::Value::Table(table)).map_err(Error::Config)?;
    let (layout, values) = (theta.layout().clone(), theta.values().to_vec());
    let changed = Theta::new(theta.kind(), config, layout, values)?;
    let optimizer = kind.of_theta(changed.with_provenance(changed_by(theta, settings)))?;
    Ok(optimizer.theta().clone())
}

/// The provenance of θ with these settings added to the changed ones.
fn changed_by(theta: &Theta, settings: &[String]) -> Value {
    let mut provenance = match theta.provenance() {
        Value::Object(entries) => entries.clone(),
        Value::Null => Default::default(),
        other => [("before".to_owned(), other.clone())].into_iter().collect(),
    };
    let earlier = provenance.get(CHANGED).and_then(Value::as_array);
    let mut all = earlier.cloned().unwrap_or_default();
    all.extend(settings.iter().map(|setting| json!(setting)));
    provenance.insert(CHANGED.to_owned(), Value::Array(all));
    Value::Object(provenance)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> Theta {
        let optimizer = LEARNED[0].pretrained().unwrap();
        optimizer.theta().clone()
    }

    fn set(theta: &Theta, setting: &str) -> Result<Theta> {
        configure(theta, &[setting.to_owned()])
    }

    #[test]
    fn settings_change_and_values_stay() {
        let before = shipped();
        let after = set(&before, "time-limit=123").unwrap();
        let after = set(&after, "online-scale.initial=0.5").unwrap();
        assert_eq!(after.config()["time-limit"], 123);
        assert_eq!(after.config()["online-scale"]["initial"], 0.5);
        assert_eq!(
            after.config()["multipliers"],
            before.config()["multipliers"]
        );
        assert_eq!(after.values(), before.values());
        let changed = &after.provenance()[CHANGED];
        let changed = changed.as_array().unwrap();
        let last = &changed[changed.len() - 2..];
        assert_eq!(last, ["time-limit=123", "online-scale.initial=0.5"]);
        let configuration = |theta: &Theta| theta.provenance()["configuration"].clone();
        assert!(configuration(&after).is_object());
        assert_eq!(configuration(&after), configuration(&before));
        let without = set(&after, "online-scale=").unwrap();
        assert_eq!(without.config().get("online-scale"), None);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let theta = shipped();
        for (setting, part) in [
            ("time=5", "unknown field `time`"),
            ("time-limit", "expected key.path=value"),
            ("time-limit=soon", "\"soon\", expected u64"),
            ("time-limit=0", "time-limit"),
            ("online-scale.initial=-1", "online-scale.initial"),
            ("multipliers.nominal-step=nan", "finite"),
            ("hidden=[8, 8]", "nn/b0 [8]"),
        ] {
            let error = set(&theta, setting).unwrap_err().to_string();
            assert!(error.contains(part), "{setting}: {error}");
        }
    }
}
