//! What the commands share.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context;
use lopt_blackbox::Blackbox;
use lopt_core::{LearnedOptimizer, Theta, Workers};
use lopt_kernels::Isa;
use lopt_meta::Provenance;
use lopt_star::Star;
use lopt_tasks::{DataStore, suite::Suite};

/// Where to compute.
#[derive(clap::Args)]
pub struct Compute {
    /// Where tensors live: `cpu` or `cuda:N` (needs a build with `--features cuda`).
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Threads; results do not depend on it. [default: one for each processor]
    #[arg(long)]
    pub threads: Option<NonZeroUsize>,
    /// Folder of full data sets. [default: $LOPT_DATA_DIR, else datasets/downloaded]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl Compute {
    pub fn device(&self) -> anyhow::Result<candle_core::Device> {
        Ok(lopt_core::device::parse(&self.device)?)
    }

    pub fn workers(&self) -> Workers {
        Workers::new(self.threads)
    }

    pub fn store(&self) -> DataStore {
        DataStore::new(self.data_dir.as_deref())
    }
}

/// Which suite of tasks.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum SuiteName {
    Quick,
    Full,
    BeyondMlps,
}

impl SuiteName {
    pub fn suite(self) -> Suite {
        match self {
            SuiteName::Quick => Suite::Quick,
            SuiteName::Full => Suite::Full,
            SuiteName::BeyondMlps => Suite::BeyondMlps,
        }
    }
}

/// The learned optimizer "star" or "blackbox" of a θ file.
pub fn learned(kind: &str, path: &Path) -> anyhow::Result<Box<dyn LearnedOptimizer>> {
    let theta = Theta::load(path)?;
    let built: lopt_core::Result<Box<dyn LearnedOptimizer>> = match kind {
        "star" => Star::new(theta).map(|star| Box::new(star) as _),
        _ => Blackbox::new(theta).map(|blackbox| Box::new(blackbox) as _),
    };
    built.with_context(|| path.display().to_string())
}

/// This program.
pub fn provenance() -> Provenance {
    Provenance {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: env!("LOPT_COMMIT").to_owned(),
        kernels: Isa::best().to_string(),
    }
}

/// [`provenance`] in a word, for the settings of an evaluation.
pub fn program() -> String {
    let here = provenance();
    format!("{} {}", here.version, here.commit)
}

const STOPPING: &str = "stopping as soon as the state is saved; once more to stop at once";

/// A flag that the first Ctrl-C (or a termination signal) sets; the second one ends the
/// process at once.
pub fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    stop_flag_with(STOPPING.to_owned())
}

/// [`stop_flag`], with what a person is told.
pub fn stop_flag_with(message: String) -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(crate::INTERRUPTED));
        }
        if !message.is_empty() {
            eprintln!("\n{message}");
        }
    })
    .context("cannot catch Ctrl-C")?;
    Ok(stop)
}
