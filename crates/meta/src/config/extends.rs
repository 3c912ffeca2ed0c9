//! Configurations that extend a preset.

use crate::{Error, Preset, Result};

/// The key of the preset that a configuration extends.
const EXTENDS: &str = "extends";

/// Adds what the preset that a configuration extends has and the configuration does not.
pub fn apply(table: &mut toml::Table, origin: &str) -> Result<()> {
    let Some(name) = table.remove(EXTENDS) else {
        return Ok(());
    };
    let preset = Preset::ALL
        .into_iter()
        .find(|p| name.as_str() == Some(p.name()));
    let preset = preset.ok_or_else(|| {
        let names = Preset::ALL.map(Preset::name).join(", ");
        Error::Config(format!("{origin}: `{EXTENDS}` must be a preset: {names}"))
    })?;
    let base: toml::Table = preset
        .text()
        .parse()
        .map_err(|e| Error::Config(format!("preset {}: {e}", preset.name())))?;
    merge(table, base);
    Ok(())
}

/// Adds the keys of `base` that are missing, also in the sections that both have, unless `table` has
/// a section of another kind.
fn merge(table: &mut toml::Table, base: toml::Table) {
    for (key, value) in base {
        match (table.get_mut(&key), value) {
            (None, value) => {
                table.insert(key, value);
            }
            (Some(toml::Value::Table(ours)), toml::Value::Table(theirs)) => {
                if ours
                    .get("kind")
                    .is_none_or(|kind| theirs.get("kind") == Some(kind))
                {
                    merge(ours, theirs);
                }
            }
            (Some(_), _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Horizon, Preset, RunConfig};

    fn parse(text: &str) -> crate::Result<RunConfig> {
        RunConfig::parse(text, "config.toml", None, &[])
    }

    #[test]
    fn a_configuration_can_extend_a_preset() {
        let quick = parse(Preset::Quick.text()).unwrap();
        assert_eq!(parse("extends = \"quick\"").unwrap(), quick);
        let config = parse("extends = 'quick'\nseed = 3\n[outer]\nsteps = 7\n").unwrap();
        assert_eq!((config.trainer.seed, config.trainer.outer.steps), (3, 7));
        assert_eq!(config.task, quick.task);
        let mlp = "extends = 'quick'\n[task]\nkind = 'mlp'\nhidden = [[8]]\n";
        assert_eq!(parse(mlp).unwrap().trainer, quick.trainer);
        // A section of another kind stands for itself.
        let es = "extends = 'quick'\n[estimator]\nkind = 'full-es'\ntasks = 2\nsigma = 0.1\n\
                  horizon = { kind = 'constant', steps = 9 }\n";
        let config = parse(es).unwrap().trainer;
        assert_eq!(config.estimator.horizon(), Horizon::Constant { steps: 9 });
        assert_eq!(config.estimator.tasks(), 2);
    }

    #[test]
    fn what_is_missing_is_told() {
        let error = parse("seed = 3").unwrap_err().to_string();
        assert!(
            error.contains("`task`") && error.contains("extends = \"quick\""),
            "{error}"
        );
        let error = parse("extends = 'fast'").unwrap_err().to_string();
        assert!(error.contains("quick, paper, universal"), "{error}");
    }
}
