//! Taking data that are already on the machine.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use lopt_datasets::{DatasetName, Error, files};

use crate::{data::describe, store};

/// Copies every canonical file that `path` holds.
pub fn run(path: &Path, dataset: DatasetName, data_dir: &Path) -> Result<()> {
    let target = data_dir.join(dataset.name());
    let imported = if path.is_dir() {
        import_folder(path, dataset, &target)?
    } else {
        import_archive(path, dataset, &target)?
    };
    if imported == 0 {
        bail!(
            "{} holds none of the files of {dataset}: {} (raw or .gz)",
            path.display(),
            files::names(dataset).join(", ")
        );
    }
    println!("{dataset} is in {}", target.display());
    Ok(())
}

fn import_folder(path: &Path, dataset: DatasetName, target: &Path) -> Result<usize> {
    // A folder of data sets, or of this one.
    let own = path.join(dataset.name());
    let folder = if own.is_dir() { own } else { path.to_owned() };
    let mut imported = 0;
    for name in files::names(dataset) {
        let (from, content) = match files::read(&folder, name) {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            Err(Error::Broken { path, problem }) => bail!("{}: {problem}", path.display()),
            Err(error) => return Err(error.into()),
        };
        let gzipped = from.extension().is_some_and(|extension| extension == "gz");
        let stored = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        let finding = store::put(dataset, target, name, gzipped, &stored, &content)?;
        println!("{name}: {}", describe(&finding));
        imported += 1;
    }
    Ok(imported)
}

fn import_archive(path: &Path, dataset: DatasetName, target: &Path) -> Result<usize> {
    if dataset != DatasetName::Cifar10 {
        bail!(
            "{} is no folder; {dataset} is imported from one",
            path.display()
        );
    }
    let archive = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let unpacked = store::unpack_cifar(&archive).with_context(|| format!("{}", path.display()))?;
    for (name, content) in &unpacked {
        let finding = store::put(dataset, target, name, false, content, content)?;
        println!("{name}: {}", describe(&finding));
    }
    Ok(unpacked.len())
}
