//! Downloading, with the system's curl.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use lopt_datasets::{DatasetName, Finding, examine, files, sha256};

use crate::{data::describe, store};

/// CIFAR-10's binary version.
pub const CIFAR_ARCHIVE: &str = "cifar-10-binary.tar.gz";
const CIFAR_SHA256: &str = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd";

/// Where a data set lives.
fn home(dataset: DatasetName) -> &'static str {
    match dataset {
        DatasetName::FashionMnist => "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        DatasetName::Mnist => "https://ossci-datasets.s3.amazonaws.com/mnist",
        DatasetName::Cifar10 => "https://www.cs.toronto.edu/~kriz",
    }
}

/// Fetches what is not yet there in its canonical form.
pub fn run(dataset: DatasetName, data_dir: &Path, mirror: Option<&str>) -> Result<()> {
    let folder = data_dir.join(dataset.name());
    let base = mirror.unwrap_or(home(dataset)).trim_end_matches('/');
    match dataset {
        DatasetName::Cifar10 => fetch_cifar(dataset, &folder, base)?,
        DatasetName::FashionMnist | DatasetName::Mnist => {
            for name in files::IDX_FILES {
                fetch_idx(dataset, &folder, base, name)?;
            }
        }
    }
    println!("{dataset} is in {}", folder.display());
    Ok(())
}

fn fetch_idx(dataset: DatasetName, folder: &Path, base: &str, name: &str) -> Result<()> {
    if let Ok(Some((path, bytes))) = files::read(folder, name)
        && examine(dataset, name, &bytes) == Finding::Canonical
    {
        println!("{} is there already", path.display());
        return Ok(());
    }
    let url = format!("{base}/{name}.gz");
    let part = download(&url, folder, &format!("{name}.gz"))?;
    let packed = fs::read(&part).with_context(|| format!("cannot read {}", part.display()))?;
    let checked = files::unpack(&packed).map(|content| {
        let finding = examine(dataset, name, &content);
        (content, finding)
    });
    match checked {
        Ok((content, Finding::Canonical)) => {
            store::put(dataset, folder, name, true, &packed, &content)?;
            remove(&part)
        }
        Ok((_, finding)) => reject(&part, &url, &describe(&finding)),
        Err(problem) => reject(&part, &url, &problem),
    }
}

fn fetch_cifar(dataset: DatasetName, folder: &Path, base: &str) -> Result<()> {
    let complete = files::CIFAR_FILES
        .iter()
        .all(|name| folder.join(name).exists());
    if complete {
        println!("{} is complete already", folder.display());
        return Ok(());
    }
    let url = format!("{base}/{CIFAR_ARCHIVE}");
    let part = download(&url, folder, CIFAR_ARCHIVE)?;
    let archive = fs::read(&part).with_context(|| format!("cannot read {}", part.display()))?;
    let found = sha256(&archive);
    if found != CIFAR_SHA256 {
        return reject(&part, &url, &format!("SHA-256 {found}, not {CIFAR_SHA256}"));
    }
    for (name, content) in store::unpack_cifar(&archive)? {
        store::put(dataset, folder, name, false, &content, &content)?;
    }
    remove(&part)
}

/// Downloads into `NAME.part`, from where it was left the last time.
fn download(url: &str, folder: &Path, name: &str) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let part = folder.join(format!("{name}.part"));
    println!("fetching {url}");
    let status = Command::new("curl")
        .args([
            "--fail",
            "--location",
            "--retry",
            "3",
            "--connect-timeout",
            "20",
        ])
        .args(["--continue-at", "-", "--progress-bar", "--output"])
        .arg(&part)
        .arg(url)
        .status()
        .context("cannot run curl; install it, or use `cargo xtask data import`")?;
    if !status.success() {
        bail!(
            "curl could not fetch {url} ({status}). Without a network: bring the files here by \
             other means and use `cargo xtask data import`"
        );
    }
    Ok(part)
}

/// A download that is not what it should be is removed, or the next one would go on from it.
fn reject(part: &Path, url: &str, problem: &str) -> Result<()> {
    remove(part)?;
    bail!("{url} is not the canonical file: {problem}; nothing was changed. Try another --mirror")
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
}
