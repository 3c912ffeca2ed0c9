//! Overrides of single keys of a configuration.

use crate::{Error, Result};

/// Sets `key.path=value` in a table, or removes the key if the value is empty.
pub fn apply(table: &mut toml::Table, text: &str) -> Result<()> {
    let problem = |what: &str| Error::Config(format!("`{text}`: {what}"));
    let (path, value) = text
        .split_once('=')
        .ok_or_else(|| problem("expected key.path=value, for example outer.steps=500"))?;
    let mut keys: Vec<&str> = path.trim().split('.').collect();
    let last = keys
        .pop()
        .filter(|key| !key.is_empty())
        .ok_or_else(|| problem("the key is missing"))?;
    let mut at = table;
    for key in keys {
        at = at
            .entry(key)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| problem(&format!("`{key}` is a value, not a section")))?;
    }
    match value.trim() {
        "" => at.remove(last),
        value => at.insert(last.to_owned(), parse_value(value)),
    };
    Ok(())
}

/// Parses a TOML value; text that is not one is taken as a string.
fn parse_value(text: &str) -> toml::Value {
    let parsed = format!("value = {text}").parse::<toml::Table>();
    parsed
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()))
}
