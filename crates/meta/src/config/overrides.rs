//! Overrides of single keys of a configuration.

use crate::{Error, Result};

/// More sections in one another than any configuration has. Tables in tables are dropped recursively:
/// too many would overflow the stack.
const DEEPEST: usize = 16;

/// Sets `key.path=value` in a table, or removes the key if the value is empty.
pub fn apply(table: &mut toml::Table, text: &str) -> Result<()> {
    let problem = |what: &str| Error::Config(format!("`{text}`: {what}"));
    let (path, value) = text
        .split_once('=')
        .ok_or_else(|| problem("expected key.path=value, for example outer.steps=500"))?;
    let mut keys: Vec<&str> = path.split('.').map(str::trim).collect();
    if keys.len() > DEEPEST {
        return Err(Error::Config(format!(
            "an override of {} sections in one another; there are at most {DEEPEST}",
            keys.len()
        )));
    }
    if keys.contains(&"") {
        return Err(problem("a key is missing"));
    }
    let last = keys.pop().unwrap_or_default();
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
        value => at.insert(
            last.to_owned(),
            parse_value(value).map_err(|e| problem(&e))?,
        ),
    };
    Ok(())
}

/// The string that an override sets `key` to, if it does.
pub fn string(text: &str, key: &str) -> Option<String> {
    let (path, value) = text.split_once('=')?;
    let path: Vec<&str> = path.split('.').map(str::trim).collect();
    match parse_value(value.trim()) {
        Ok(toml::Value::String(value)) if path.join(".") == key => Some(value),
        _ => None,
    }
}

/// Parses a TOML value; text that is not one is taken as a string.
fn parse_value(text: &str) -> Result<toml::Value, String> {
    let parsed = format!("value = {text}").parse::<toml::Table>();
    // With more keys, it has several lines.
    let alone = parsed.ok().filter(|table| table.len() == 1);
    match alone.and_then(|mut table| table.remove("value")) {
        Some(value) => Ok(value),
        None if text.parse::<i128>().is_ok() => Err(format!(
            "integers must be from {} to {}",
            i64::MIN,
            i64::MAX
        )),
        None => Ok(toml::Value::String(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::apply;

    #[test]
    fn blanks_do_not_matter_and_large_integers_are_told() {
        let mut table = toml::Table::new();
        apply(&mut table, " outer . steps =  5 ").unwrap();
        assert_eq!(table["outer"]["steps"].as_integer(), Some(5));
        let error = apply(&mut table, "seed=9223372036854775808").unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("seed") && error.contains("9223372036854775807"),
            "{error}"
        );
        assert!(apply(&mut table, "outer..steps=1").is_err());
    }

    #[test]
    fn deep_keys_and_further_lines_are_no_overrides() {
        let mut table = toml::Table::new();
        let deep = format!("{}a=1", "a.".repeat(50_000));
        let error = apply(&mut table, &deep).unwrap_err().to_string();
        assert!(error.contains("50001 sections"), "{error}");
        apply(&mut table, "seed=1\nsteps = 2").unwrap();
        assert_eq!(table["seed"].as_str(), Some("1\nsteps = 2"));
    }
}
