//! The bindings of one class in a gin file.

use lopt_core::Result;
use serde_json::{Map, Value};

use crate::mismatch;

/// Larger files than this are no settings.
const MAX_BYTES: usize = 1 << 20;

/// The values of the lines `class.name = value`, also with a module or scope before the class. Bindings
/// of other classes are passed over.
pub fn bindings(text: &str, class: &str) -> Result<Map<String, Value>> {
    if text.len() > MAX_BYTES {
        return Err(mismatch("config.gin has more than 1 MiB"));
    }
    let mut found = Map::new();
    for statement in statements(text)? {
        if statement.starts_with("include ") || statement.ends_with(':') {
            return Err(mismatch(format!(
                "config.gin: `{statement}` is not supported; write each setting as \
                 `{class}.name = value`"
            )));
        }
        let Some((target, value)) = statement.split_once('=') else {
            continue;
        };
        let Some((owner, name)) = target.trim().rsplit_once('.') else {
            continue;
        };
        if owner.rsplit(['.', '/']).next() != Some(class) {
            continue;
        }
        let value = literal(value.trim(), true).ok_or_else(|| {
            mismatch(format!(
                "config.gin: cannot read the value of `{class}.{name}`: {}",
                value.trim()
            ))
        })?;
        found.insert(name.to_owned(), value);
    }
    Ok(found)
}

/// The statements without comments. One goes on over lines while a bracket is open or after a
/// backslash.
fn statements(text: &str) -> Result<Vec<String>> {
    let mut statements = vec![];
    let mut current = String::new();
    let mut open = 0i64;
    for line in text.lines() {
        let (line, opened) = without_comment(line);
        open += opened;
        let line = line.trim();
        let (line, continued) = match line.strip_suffix('\\') {
            Some(line) => (line, true),
            None => (line, false),
        };
        current.push_str(line);
        if continued || open > 0 {
            current.push(' ');
        } else if !current.is_empty() {
            statements.push(std::mem::take(&mut current));
        }
    }
    if !current.is_empty() {
        let start: String = current.chars().take(80).collect();
        return Err(mismatch(format!("config.gin ends within `{start}`")));
    }
    Ok(statements)
}

/// The line up to a `#`, and how many more brackets it opens than it closes. Neither counts in quotes.
fn without_comment(line: &str) -> (&str, i64) {
    let (mut quote, mut open) = (None, 0);
    for (index, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') => return (&line[..index], open),
            (None, '"' | '\'') => quote = Some(c),
            (None, '(' | '[' | '{') => open += 1,
            (None, ')' | ']' | '}') => open -= 1,
            (Some(opened), c) if opened == c => quote = None,
            _ => {}
        }
    }
    (line, open)
}

/// A Python literal: a number, truth value, `None`, text, or, if `lists`, a tuple or list of them.
fn literal(text: &str, lists: bool) -> Option<Value> {
    let text = text.trim();
    match text {
        "True" => return Some(Value::Bool(true)),
        "False" => return Some(Value::Bool(false)),
        "None" => return Some(Value::Null),
        _ => {}
    }
    for (open, close) in [('(', ')'), ('[', ']')] {
        if !lists {
            break;
        }
        if let Some(inside) = text.strip_prefix(open).and_then(|t| t.strip_suffix(close)) {
            let inside = inside.trim().trim_end_matches(',');
            let items = inside.split(',').filter(|item| !item.trim().is_empty());
            let items = items.map(|item| literal(item, false));
            return items.collect::<Option<_>>().map(Value::Array);
        }
    }
    for quote in ['"', '\''] {
        if let Some(inside) = text.strip_prefix(quote).and_then(|t| t.strip_suffix(quote)) {
            return (!inside.contains([quote, '\\'])).then(|| Value::from(inside));
        }
    }
    if let Ok(number) = text.parse::<i64>() {
        return Some(number.into());
    }
    let number: f64 = text.parse().ok()?;
    serde_json::Number::from_f64(number).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::bindings;

    #[test]
    fn bindings_of_one_class_are_read() {
        let text = "import learned_optimization
# A comment with MLPNomLOpt.step_mult = 7
MLPNomLOpt.exp_mult = (0.1,
    0.2,  # the nominal term's
    0.3)
train/learned_optimizers.MLPNomLOpt.nominal_grad_estimator = 'Adam' # 'SGD'
MLPNomLOpt.step_mult = \\
    1e-3
MLPNomLOpt.hidden_size = 8
AdafacMLPLOpt.hidden_size = 9
MLPNomLOpt.nominal_controller = True
run.optimizer = @MLPNomLOpt()
";
        let found = serde_json::Value::Object(bindings(text, "MLPNomLOpt").unwrap());
        let expected = json!({
            "exp_mult": [0.1, 0.2, 0.3],
            "nominal_grad_estimator": "Adam",
            "step_mult": 0.001,
            "hidden_size": 8,
            "nominal_controller": true,
        });
        assert_eq!(found, expected);
        for (text, words) in [
            ("include 'base.gin'", "include 'base.gin'"),
            ("MLPNomLOpt:\n  step_mult = 1", "`MLPNomLOpt:`"),
            ("MLPNomLOpt.exp_mult = (1,\n2", "ends within"),
            ("MLPNomLOpt.exp_mult = ((1, 2), 3)", "cannot read"),
        ] {
            let error = bindings(text, "MLPNomLOpt").unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let quoted = "Other.name = '(' \nMLPNomLOpt.step_mult = 2.0";
        assert_eq!(bindings(quoted, "MLPNomLOpt").unwrap()["step_mult"], 2.0);
        let error = bindings("AdafacMLPLOpt.step_mult = %STEP", "AdafacMLPLOpt").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("AdafacMLPLOpt.step_mult`: %STEP"),
            "{error}"
        );
    }
}
