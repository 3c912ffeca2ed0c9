//! `cargo xtask deps`: the licenses of all dependencies and, where the tools are installed, known
//! vulnerabilities and dependencies that nothing uses.

use std::{
    fs,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail, ensure};

use crate::lopt::{cargo, exit_code, metadata, root, succeeds};

/// Checks that are run if their tool is installed, as arguments of cargo, and the command that gets
/// what they need, if any.
const CHECKS: [(&[&str], Option<&[&str]>); 3] = [
    (&["machete"], None),
    (
        &["deny", "--locked", "check", "bans", "licenses", "sources"],
        None,
    ),
    (
        &["deny", "--locked", "check", "advisories"],
        Some(&["deny", "fetch", "db"]),
    ),
];

/// Checks everything; stops at the first failure.
pub fn run() -> Result<ExitCode> {
    let allowed = allowed()?;
    let packages = packages()?;
    for (name, license) in &packages {
        let problem = || format!("`{name}`: its license is {license:?}; deny.toml lists others");
        let parsed = permits(license, &allowed).with_context(problem)?;
        ensure!(parsed, problem());
    }
    println!("the licenses of {} packages are allowed", packages.len());
    for (arguments, fetch) in CHECKS {
        let (line, tool) = (arguments.join(" "), arguments[0]);
        if !succeeds(plain().args([tool, "--version"])) {
            println!("skipped: cargo {line}; `cargo install --locked cargo-{tool}` installs it");
            continue;
        }
        if fetch.is_some_and(|fetch| !succeeds(plain().args(fetch).current_dir(root()))) {
            println!("skipped: cargo {line}, because its database cannot be downloaded");
            continue;
        }
        println!("$ cargo {line}");
        let status = plain().args(arguments).current_dir(root()).status();
        let status = status.with_context(|| format!("cannot run cargo {tool}"))?;
        if !status.success() {
            return Ok(exit_code(status));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Cargo without the variables of `cargo run`, from which cargo-machete takes itself for a program that
/// is being developed.
fn plain() -> Command {
    let mut command = cargo();
    command.env_remove("CARGO_PKG_NAME");
    command
}

/// The licenses that deny.toml allows.
fn allowed() -> Result<Vec<String>> {
    let path = root().join("deny.toml");
    let text = fs::read_to_string(&path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    let table: toml::Table = text.parse().context("deny.toml is not valid TOML")?;
    let allowed = table.get("licenses").and_then(|l| l.get("allow"));
    let allowed = allowed.context("deny.toml has no licenses.allow")?.clone();
    allowed
        .try_into()
        .context("licenses.allow is not a list of names")
}

/// The name and license of each package, with all features and on all platforms.
fn packages() -> Result<Vec<(String, String)>> {
    let metadata = metadata(&["--locked", "--all-features"])?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let named = packages.iter().map(|package| {
        let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
        (text("name"), text("license"))
    });
    Ok(named.collect())
}

/// Whether an SPDX expression can be satisfied with the allowed licenses. `A/B` is an old form of
/// `A OR B`.
fn permits(expression: &str, allowed: &[String]) -> Result<bool> {
    let spaced = ["(", ")", "/"]
        .iter()
        .fold(expression.to_owned(), |text, mark| {
            let with = if *mark == "/" {
                " OR ".to_owned()
            } else {
                format!(" {mark} ")
            };
            text.replace(mark, &with)
        });
    let mut words: Vec<&str> = spaced.split_whitespace().rev().collect();
    let permitted = any_of(&mut words, allowed)?;
    match words.pop() {
        None => Ok(permitted),
        Some(word) => bail!("`{word}` is in excess"),
    }
}

/// Takes `A OR B OR …` from the end of `words`.
fn any_of(words: &mut Vec<&str>, allowed: &[String]) -> Result<bool> {
    let mut permitted = all_of(words, allowed)?;
    while words.pop_if(|word| *word == "OR").is_some() {
        permitted |= all_of(words, allowed)?;
    }
    Ok(permitted)
}

/// Takes `A AND B AND …` from the end of `words`.
fn all_of(words: &mut Vec<&str>, allowed: &[String]) -> Result<bool> {
    let mut permitted = one(words, allowed)?;
    while words.pop_if(|word| *word == "AND").is_some() {
        permitted &= one(words, allowed)?;
    }
    Ok(permitted)
}

/// Takes a license, which an exception only makes more permissive, or what stands in parentheses.
fn one(words: &mut Vec<&str>, allowed: &[String]) -> Result<bool> {
    let word = words.pop().context("a license is missing")?;
    if word == "(" {
        let permitted = any_of(words, allowed)?;
        ensure!(words.pop() == Some(")"), "a parenthesis is not closed");
        return Ok(permitted);
    }
    if words.pop_if(|word| *word == "WITH").is_some() {
        words.pop().context("an exception is missing")?;
    }
    Ok(allowed.iter().any(|license| license == word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        let allowed = ["MIT", "Unicode-3.0"].map(str::to_owned);
        let permits = |text| permits(text, &allowed);
        for text in [
            "MIT",
            "GPL-3.0 OR MIT",
            "Apache-2.0/MIT",
            "Apache-2.0 / MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "MIT AND Unicode-3.0 OR GPL-3.0",
            "Apache-2.0 WITH LLVM-exception OR MIT",
        ] {
            assert!(permits(text).unwrap(), "{text}");
        }
        for text in ["GPL-3.0", "MIT AND GPL-3.0", "(GPL-3.0 OR Zlib) AND MIT"] {
            assert!(!permits(text).unwrap(), "{text}");
        }
        for text in ["", "MIT OR", "(MIT", "MIT)", "MIT MIT", "MIT WITH"] {
            assert!(permits(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_licenses_are_listed() {
        assert!(allowed().unwrap().contains(&"MIT".to_owned()));
    }
}
