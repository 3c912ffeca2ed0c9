//! `cargo xtask data import`: imports data sets that are already on this machine.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use lopt_datasets::{DatasetName, Finding, examine, files, idx, sha256};

use crate::{
    archive,
    store::{Incoming, put_all},
    verify::describe,
};

/// Copies every canonical file in `path`, if all of them are well-formed.
pub fn run(path: &Path, dataset: DatasetName, data_dir: &Path) -> Result<()> {
    let incoming = if path.is_dir() {
        from_folder(path, dataset)?
    } else {
        from_archive(path, dataset)?
    };
    let target = data_dir.join(dataset.name());
    let judge = |name: &str, content: &[u8]| examine(dataset, name, content);
    put_all(&target, &incoming, &judge)?;
    for file in &incoming {
        println!("  {:24} {}", file.name, describe(&file.finding));
    }
    println!("{dataset} is in {}", target.display());
    Ok(())
}

fn from_folder(path: &Path, dataset: DatasetName) -> Result<Vec<Incoming>> {
    // `path` is a folder of data sets or of this data set.
    let own = path.join(dataset.name());
    let folder = if own.is_dir() { &own } else { path };
    let mut incoming = vec![];
    let mut contents = vec![];
    for name in files::names(dataset) {
        let Some(stored) = files::find(folder, name)? else {
            continue;
        };
        let (gzipped, bytes) = (stored.gzipped, stored.bytes.clone());
        let from = stored.path.display().to_string();
        let content = stored.unpack().with_context(|| from.clone())?;
        let finding = examine(dataset, name, &content);
        if let Finding::Broken(problem) = finding {
            return Err(problem).context(from);
        }
        incoming.push(Incoming {
            name,
            gzipped,
            bytes,
            finding,
        });
        contents.push((*name, content));
    }
    let names = files::names(dataset).join(", ");
    ensure!(
        !incoming.is_empty(),
        "{} contains none of the files of {dataset}: {names} (raw or .gz)",
        folder.display()
    );
    check_pairs(&contents).with_context(|| folder.display().to_string())?;
    Ok(incoming)
}

/// Returns an error if a pair of images and labels do not match; each is well-formed.
fn check_pairs(contents: &[(&str, Vec<u8>)]) -> Result<()> {
    let find = |wanted: &str| contents.iter().find(|(name, _)| *name == wanted);
    for pair in files::IDX_FILES.chunks(2) {
        if let (Some((name, images)), Some((_, labels))) = (find(pair[0]), find(pair[1])) {
            idx::read(images, labels, usize::from(u8::MAX)).with_context(|| (*name).to_owned())?;
        }
    }
    Ok(())
}

fn from_archive(path: &Path, dataset: DatasetName) -> Result<Vec<Incoming>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    if dataset != DatasetName::Cifar10 {
        bail!(
            "{} is a file; {dataset} is imported from the folder that contains its files",
            path.display()
        );
    }
    let contents = archive::read(&bytes).with_context(|| path.display().to_string())?;
    match sha256(&bytes) {
        found if found == archive::SHA256 => println!("the archive is the published one"),
        found => println!(
            "the archive is NOT the published one: SHA-256 is {found}, expected {}",
            archive::SHA256
        ),
    }
    let incoming = |(name, bytes): (&'static str, Vec<u8>)| Incoming {
        name,
        gzipped: false,
        finding: examine(dataset, name, &bytes),
        bytes,
    };
    Ok(contents.into_iter().map(incoming).collect())
}
