//! `cargo xtask fuzz`: the tests of damaged files, with one seed after another; or libFuzzer on the same
//! readers, guided by coverage.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::lopt::{cargo, exit_code, root, succeeds};

/// Arguments of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub struct Args {
    /// How long to run, in seconds; a seed that is in progress at the end is still finished.
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
    /// The first seed. The tests themselves use 0.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run libFuzzer on each kind of file in turn, with the AddressSanitizer, in place of the tests. Needs
    /// `cargo install --locked cargo-fuzz`.
    #[arg(long, conflicts_with = "seed")]
    guided: bool,
    /// With --guided: only this kind of file, such as `theta`; may be repeated. [default: all]
    #[arg(long, value_name = "NAME", requires = "guided")]
    kind: Vec<String>,
}

/// The tests of damaged files, as arguments of `cargo test`.
const TESTS: [&str; 8] = [
    "--release",
    "--package",
    "lopt-tests",
    "--package",
    "lopt-eval",
    "--lib",
    "--test",
    "damage",
];

fn tests() -> Command {
    let mut command = cargo();
    command.arg("test").args(TESTS).current_dir(root());
    command
}

/// Runs until the time is over or something fails.
pub fn run(args: &Args) -> Result<ExitCode> {
    match args.guided {
        true => guided(args),
        false => seeds(args),
    }
}

/// Builds the tests and runs them with one seed after another.
fn seeds(args: &Args) -> Result<ExitCode> {
    let build = tests().arg("--no-run").status();
    let build = build.context("cannot run cargo")?;
    if !build.success() {
        return Ok(exit_code(build));
    }
    let (start, limit) = (Instant::now(), Duration::from_secs(args.seconds));
    for seed in args.seed.. {
        let mut command = tests();
        command.args(["--quiet", "--", "damaged", "--nocapture"]);
        let output = command.env("LOPT_DAMAGE_SEED", seed.to_string()).output();
        let output = output.context("cannot run cargo")?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            eprintln!("{text}{errors}\nseed {seed} failed");
            return Ok(exit_code(output.status));
        }
        let kinds = text.lines().filter(|line| line.contains("damaged files"));
        let seconds = start.elapsed().as_secs();
        println!(
            "seed {seed}: {} attacks without failure, {seconds} s",
            kinds.count()
        );
        if start.elapsed() >= limit {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder of the fuzz targets, a package of its own.
const FUZZ: &str = "tests/fuzz";

/// Runs each fuzz target, starting from its kept corpus and from a valid file.
fn guided(args: &Args) -> Result<ExitCode> {
    ensure!(
        succeeds(cargo().args(["fuzz", "--version"])),
        "cannot run `cargo fuzz`; `cargo install --locked cargo-fuzz` installs it"
    );
    let known = targets()?;
    for kind in &args.kind {
        ensure!(
            known.contains(kind),
            "there is no kind `{kind}`; there are {}",
            known.join(", ")
        );
    }
    let kinds = match args.kind.is_empty() {
        true => &known,
        false => &args.kind,
    };
    let found = root().join("target/fuzz");
    let seeds = found.join("seeds");
    let status = tests().env("LOPT_FUZZ_SEEDS", &seeds).status();
    let status = status.context("cannot run cargo")?;
    if !status.success() {
        return Ok(exit_code(status));
    }
    let seconds = (args.seconds / kinds.len() as u64).max(1);
    for kind in kinds {
        let kept = root().join(FUZZ).join("corpus").join(kind);
        let corpus = [found.join("corpus").join(kind), kept, seeds.join(kind)];
        for folder in &corpus {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let status = fuzz(kind, &corpus, seconds).status();
        let status = status.context("cannot run cargo")?;
        if !status.success() {
            return Ok(exit_code(status));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Finds new inputs into the first folder of the corpus.
fn fuzz(kind: &str, corpus: &[impl AsRef<Path>], seconds: u64) -> Command {
    let mut command = cargo();
    command
        .args(["fuzz", "run", "--fuzz-dir", FUZZ, kind])
        .args(corpus.iter().map(AsRef::as_ref))
        .args(["--", "-print_final_stats=1", "-verbosity=0"])
        .arg(format!("-max_total_time={seconds}"))
        .current_dir(root())
        // The sanitizer and the coverage counters are unstable options of the compiler.
        .env("RUSTC_BOOTSTRAP", "1");
    command
}

/// The names of the fuzz targets.
fn targets() -> Result<Vec<String>> {
    let folder = root().join(FUZZ).join("targets");
    let entries =
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()));
    let mut names = vec![];
    for entry in entries? {
        let path = entry?.path();
        names.extend(
            path.file_stem()
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_in_the_manifest() {
        let path = root().join(FUZZ).join("Cargo.toml");
        let text = fs::read_to_string(path).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        let bins = manifest["bin"].as_array().unwrap().iter();
        let mut names: Vec<_> = bins
            .map(|bin| bin["name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        assert_eq!(names, targets().unwrap());
    }
}
