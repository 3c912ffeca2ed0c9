//! Putting checked files into a data folder.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use lopt_datasets::{DatasetName, Finding, examine, files};

use crate::data::describe;

/// Puts `stored` (raw, or gzipped if `gzipped`) of `content` in the place of the canonical
/// file `name`, atomically. A canonical file is never replaced by another, and a file that
/// is not well-formed never gets in.
pub fn put(
    dataset: DatasetName,
    folder: &Path,
    name: &str,
    gzipped: bool,
    stored: &[u8],
    content: &[u8],
) -> Result<Finding> {
    let finding = examine(dataset, name, content);
    if let Finding::Broken(problem) = &finding {
        bail!("{name}: {problem}; nothing was changed");
    }
    if finding != Finding::Canonical && holds_canonical(dataset, folder, name) {
        bail!(
            "{} holds the canonical {name}, the new one is not: {}; nothing was changed",
            folder.display(),
            describe(&finding)
        );
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let packed = format!("{name}.gz");
    let (target, other) = if gzipped {
        (packed.as_str(), name)
    } else {
        (name, packed.as_str())
    };
    write_atomically(&folder.join(target), stored)?;
    // The other form would shadow this one, or be shadowed.
    let other = folder.join(other);
    if other.exists() {
        fs::remove_file(&other).with_context(|| format!("cannot remove {}", other.display()))?;
    }
    Ok(finding)
}

fn holds_canonical(dataset: DatasetName, folder: &Path, name: &str) -> bool {
    match files::read(folder, name) {
        Ok(Some((_, bytes))) => examine(dataset, name, &bytes) == Finding::Canonical,
        _ => false,
    }
}

/// Writes beside `path` and renames.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = Path::new(&unfinished);
    fs::write(unfinished, bytes)
        .and_then(|()| fs::rename(unfinished, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The files of `cifar-10-binary.tar.gz`: canonical name and content.
pub fn unpack_cifar(archive: &[u8]) -> Result<Vec<(&'static str, Vec<u8>)>> {
    use std::io::Read;
    let mut unpacked = vec![];
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    for entry in tar.entries().context("no tar archive")? {
        let mut entry = entry.context("damaged tar archive")?;
        let path = entry.path().context("damaged tar archive")?.into_owned();
        let known = files::CIFAR_FILES
            .iter()
            .find(|name| path.file_name() == Some(name.as_ref()));
        if let Some(&name) = known {
            let mut bytes = vec![];
            entry
                .read_to_end(&mut bytes)
                .context("damaged tar archive")?;
            unpacked.push((name, bytes));
        }
    }
    if unpacked.is_empty() {
        bail!(
            "the archive holds none of {}",
            files::CIFAR_FILES.join(", ")
        );
    }
    Ok(unpacked)
}
