//! Configurations and overrides.

use lopt_meta::RunConfig;

/// Parses a configuration. If it is valid, it survives being written, and its θ is finite.
pub fn parsed(text: &str, overrides: &[String]) -> Result<String, String> {
    let config = RunConfig::parse(text, "config.toml", None, overrides);
    let config = config.map_err(|e| e.to_string())?;
    let written = config.to_toml().map_err(|e| e.to_string())?;
    let again = RunConfig::parse(&written, "again", None, &[]);
    assert_eq!(again.unwrap(), config);
    let optimizer = config.optimizer.initial(0).map_err(|e| e.to_string())?;
    let theta = optimizer.theta().values();
    assert!(theta.iter().all(|value| value.is_finite()), "{written}");
    Ok(written)
}
