//! Code shared by several commands.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use lopt_core::{LearnedOptimizer, Theta, Workers, file};
use lopt_experiments::Table;
use lopt_kernels::Isa;
use lopt_meta::{Provenance, registry};
use lopt_plot::Figure;
use lopt_tasks::DataStore;

/// Arguments for the device, threads and data.
#[derive(clap::Args)]
pub struct Compute {
    /// Device to compute on: `cpu` or `cuda:N` (needs a build with `--features cuda`).
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Number of threads; results do not depend on it. [default: one per processor]
    #[arg(long)]
    pub threads: Option<NonZeroUsize>,
    /// Folder with the full data sets. [default: $LOPT_DATA_DIR, else datasets/downloaded]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl Compute {
    pub fn device(&self) -> anyhow::Result<candle_core::Device> {
        Ok(lopt_core::device::parse(&self.device)?)
    }

    /// The arguments for the same device and data in another command, each after a blank. There are none
    /// for the defaults.
    pub fn arguments(&self) -> String {
        let device = match &*self.device {
            "cpu" => String::new(),
            device => format!(" --device {device}"),
        };
        let data = self.data_dir.as_ref().map(|path| quoted(path));
        device + &data.map_or_else(String::new, |path| format!(" --data-dir {path}"))
    }

    pub fn workers(&self) -> Workers {
        Workers::new(self.threads)
    }

    pub fn store(&self) -> DataStore {
        DataStore::new(self.data_dir.as_deref())
    }
}

/// What a user types before a subcommand: `lopt`, or the command that `cargo xtask` sets.
pub fn invocation() -> String {
    std::env::var("LOPT_PROGRAM").unwrap_or_else(|_| "lopt".to_owned())
}

/// A path as a word of a shell's command line.
pub fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    match path.chars().all(plain) && !path.is_empty() {
        true => path,
        false => format!("'{}'", path.replace('\'', "'\\''")),
    }
}

/// A number with what it counts: `1 task`, `2 tasks`.
pub fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Parses the name of one of `choices`. The help lists the names.
pub fn one_of<T: Clone + Send + Sync + 'static>(
    choices: impl IntoIterator<Item = (impl Into<PossibleValue>, T)>,
) -> impl TypedValueParser<Value = T> {
    let choices: Vec<(PossibleValue, T)> = choices
        .into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect();
    let names: Vec<PossibleValue> = choices.iter().map(|(name, _)| name.clone()).collect();
    PossibleValuesParser::new(names).try_map(move |text| {
        let found = choices.iter().find(|(name, _)| name.matches(&text, true));
        found.map(|(_, value)| value.clone()).ok_or("unknown name")
    })
}

/// Loads θ files: the optimizer of each kind, with its file.
pub fn thetas(files: &[PathBuf]) -> anyhow::Result<BTreeMap<&'static str, Loaded>> {
    let mut loaded = BTreeMap::new();
    for file in files {
        let optimizer = registry::load(file)?;
        let kind = optimizer.kind();
        if let Some((other, _)) = loaded.insert(kind, (file.clone(), optimizer)) {
            let (file, other) = (file.display(), other.display());
            anyhow::bail!("{other} and {file} are both θ of `{kind}`; give one of each kind");
        }
    }
    Ok(loaded)
}

/// A θ file and its optimizer.
pub type Loaded = (PathBuf, Box<dyn LearnedOptimizer>);

/// Writes NAME.svg and NAME.csv.
pub fn save(out: &Path, name: &str, figure: &Figure, numbers: &Table) -> anyhow::Result<()> {
    save_figure(out, name, figure)?;
    save_table(out, name, numbers)
}

/// Writes NAME.csv.
pub fn save_table(out: &Path, name: &str, numbers: &Table) -> anyhow::Result<()> {
    create(out)?;
    let path = out.join(format!("{name}.csv"));
    Ok(file::write_atomically(&path, &numbers.csv()?)?)
}

fn create(folder: &Path) -> anyhow::Result<()> {
    let created = std::fs::create_dir_all(folder);
    created.with_context(|| format!("cannot create {}", folder.display()))
}

/// Writes NAME.svg.
pub fn save_figure(out: &Path, name: &str, figure: &Figure) -> anyhow::Result<()> {
    create(out)?;
    Ok(figure.save(&out.join(format!("{name}.svg")))?)
}

/// The version and commit of this program.
pub fn provenance() -> Provenance {
    Provenance {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: env!("LOPT_COMMIT").to_owned(),
        kernels: Isa::best().to_string(),
    }
}

/// Checks that there is no file yet where a θ file is to be written.
pub fn ensure_free(out: &Path) -> anyhow::Result<()> {
    let path = out.display();
    anyhow::ensure!(
        !out.exists(),
        "{path} exists; choose another file with --out"
    );
    Ok(())
}

/// Writes a θ file and says what it contains.
pub fn save_theta(theta: &Theta, out: &Path) -> anyhow::Result<()> {
    theta.save(out)?;
    let (path, kind, count) = (out.display(), theta.kind(), theta.values().len());
    println!("{path}: θ of `{kind}`, {count} meta-parameters");
    Ok(())
}
