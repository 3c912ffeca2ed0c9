//! `cargo xtask data fetch`: downloads data sets.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use lopt_datasets::{DatasetName, Finding, examine, files, sha256, unpack};

use crate::{
    archive, curl,
    store::{Incoming, Judge, put_all},
    verify::describe,
};

/// Base URL of a data set.
fn home(dataset: DatasetName) -> &'static str {
    match dataset {
        DatasetName::FashionMnist => "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        DatasetName::Mnist => "https://ossci-datasets.s3.amazonaws.com/mnist",
        DatasetName::Cifar10 => "https://www.cs.toronto.edu/~kriz",
    }
}

/// Downloads the files that do not exist yet or are not canonical.
pub fn run(dataset: DatasetName, data_dir: &Path, mirror: Option<&str>) -> Result<()> {
    let judge = |name: &str, content: &[u8]| examine(dataset, name, content);
    let fetch = Fetch {
        folder: data_dir.join(dataset.name()),
        base: mirror.unwrap_or(home(dataset)).trim_end_matches('/'),
        judge: &judge,
        archive_sha256: archive::SHA256,
    };
    match dataset {
        DatasetName::FashionMnist | DatasetName::Mnist => {
            files::IDX_FILES
                .into_iter()
                .try_for_each(|name| fetch.idx(name))?;
        }
        DatasetName::Cifar10 => fetch.cifar()?,
    }
    println!("{dataset} is in {}", fetch.folder.display());
    Ok(())
}

struct Fetch<'a> {
    /// Target folder.
    folder: PathBuf,
    /// Base URL without a trailing slash.
    base: &'a str,
    judge: Judge<'a>,
    archive_sha256: &'a str,
}

impl Fetch<'_> {
    /// Downloads one gzipped file.
    fn idx(&self, name: &'static str) -> Result<()> {
        if self.present(name)? == Finding::Canonical {
            println!("{name} already exists");
            return Ok(());
        }
        let download = self.download(&format!("{name}.gz"))?;
        match unpack(&download.bytes).map(|content| (self.judge)(name, &content)) {
            Ok(Finding::Canonical) => self.accept(
                &download.part,
                &[Incoming {
                    name,
                    gzipped: true,
                    bytes: download.bytes,
                    finding: Finding::Canonical,
                }],
            ),
            Ok(finding) => download.reject(&describe(&finding)),
            Err(problem) => download.reject(&problem.to_string()),
        }
    }

    /// Downloads the archive, whose checksum covers the files that have none of their own.
    fn cifar(&self) -> Result<()> {
        if self.has_all(&files::CIFAR_FILES)? {
            println!("all files already exist");
            return Ok(());
        }
        let download = self.download(archive::NAME)?;
        let found = sha256(&download.bytes);
        if found != self.archive_sha256 {
            let expected = self.archive_sha256;
            return download.reject(&format!("SHA-256 is {found}, expected {expected}"));
        }
        let contents = archive::read(&download.bytes).context(archive::NAME)?;
        let incoming: Vec<Incoming> = contents
            .into_iter()
            .map(|(name, bytes)| Incoming {
                name,
                gzipped: false,
                finding: (self.judge)(name, &bytes),
                bytes,
            })
            .collect();
        self.accept(&download.part, &incoming)
    }

    fn has_all(&self, names: &[&str]) -> Result<bool> {
        for name in names {
            if !matches!(
                self.present(name)?,
                Finding::Canonical | Finding::WellFormed
            ) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn present(&self, name: &str) -> Result<Finding> {
        let found = files::find(&self.folder, name)?;
        Ok(match found.map(files::Stored::unpack) {
            None => Finding::Missing,
            Some(Err(problem)) => Finding::Broken(problem),
            Some(Ok(content)) => (self.judge)(name, &content),
        })
    }

    fn download(&self, file: &str) -> Result<Download> {
        let folder = &self.folder;
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let part = folder.join(format!("{file}.part"));
        let url = format!("{}/{file}", self.base);
        curl::download(&url, &part)?;
        let bytes = fs::read(&part).with_context(|| format!("cannot read {}", part.display()))?;
        Ok(Download { url, part, bytes })
    }

    fn accept(&self, part: &Path, incoming: &[Incoming]) -> Result<()> {
        put_all(&self.folder, incoming, self.judge)?;
        remove(part)
    }
}

/// A finished download.
struct Download {
    url: String,
    part: PathBuf,
    bytes: Vec<u8>,
}

impl Download {
    /// Removes the download, so that the next one does not resume it, and returns an error.
    fn reject(&self, problem: &str) -> Result<()> {
        remove(&self.part)?;
        bail!(
            "{} is not the published file: {problem}. The download was removed and nothing else \
             was changed; run the command again or use another --mirror",
            self.url
        )
    }
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::gzip;

    const NAME: &str = "train-labels-idx1-ubyte";

    /// Accepts one content as the published one.
    fn judge(_: &str, content: &[u8]) -> Finding {
        if content == b"good" {
            Finding::Canonical
        } else {
            let (expected, found) = ("a checksum", sha256(content));
            Finding::Different { expected, found }
        }
    }

    /// Runs `test` with a folder as mirror; without curl, asserts on the error instead.
    fn with_mirror(test: impl Fn(&Path, &Fetch)) {
        let (mirror, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let base = format!("file://{}", mirror.path().display());
        let sum = sha256(&archive());
        let fetch = Fetch {
            folder: target.path().join("set"),
            base: &base,
            judge: &judge,
            archive_sha256: &sum,
        };
        if std::process::Command::new("curl").output().is_ok() {
            test(mirror.path(), &fetch);
        } else {
            let error = format!("{:#}", fetch.idx(NAME).unwrap_err());
            assert!(error.contains("install it"), "{error}");
        }
    }

    fn archive() -> Vec<u8> {
        let files = files::CIFAR_FILES.map(|name| (name, b"good" as &[u8]));
        archive::tests::make(&files)
    }

    #[test]
    fn a_valid_file_is_stored_and_not_fetched_again() {
        with_mirror(|mirror, fetch| {
            let packed = gzip(b"good").unwrap();
            fs::write(mirror.join(format!("{NAME}.gz")), &packed).unwrap();
            fetch.idx(NAME).unwrap();
            let target = fetch.folder.join(format!("{NAME}.gz"));
            assert_eq!(fs::read(&target).unwrap(), packed);
            assert_eq!(fs::read_dir(&fetch.folder).unwrap().count(), 1);
            fs::remove_dir_all(mirror).unwrap();
            fetch.idx(NAME).unwrap();
        });
    }

    #[test]
    fn a_partial_download_is_resumed() {
        with_mirror(|mirror, fetch| {
            let packed = gzip(b"good").unwrap();
            let part = fetch.folder.join(format!("{NAME}.gz.part"));
            fs::write(mirror.join(format!("{NAME}.gz")), &packed).unwrap();
            for length in [0, 7, packed.len()] {
                fs::create_dir_all(&fetch.folder).unwrap();
                fs::write(&part, &packed[..length]).unwrap();
                fetch.idx(NAME).unwrap();
                fs::remove_dir_all(&fetch.folder).unwrap();
            }
        });
    }

    #[test]
    fn other_files_are_rejected() {
        with_mirror(|mirror, fetch| {
            let raw = fetch.folder.join(NAME);
            fs::create_dir_all(&fetch.folder).unwrap();
            fs::write(&raw, b"mine").unwrap();
            for (served, words) in [
                (gzip(b"other").unwrap(), "expected a checksum"),
                (b"<html>".to_vec(), "not a gzip file"),
            ] {
                fs::write(mirror.join(format!("{NAME}.gz")), served).unwrap();
                let error = fetch.idx(NAME).unwrap_err().to_string();
                assert!(error.contains(words), "{error}");
                assert_eq!(fs::read(&raw).unwrap(), b"mine");
                assert_eq!(fs::read_dir(&fetch.folder).unwrap().count(), 1);
            }
        });
    }

    #[test]
    fn a_failed_download_is_reported_with_its_url() {
        with_mirror(|_, fetch| {
            let error = fetch.idx(NAME).unwrap_err().to_string();
            assert!(
                error.contains(fetch.base) && error.contains("data import"),
                "{error}"
            );
        });
    }

    #[test]
    fn an_archive_is_checked_as_a_whole() {
        with_mirror(|mirror, fetch| {
            let file = mirror.join(archive::NAME);
            fs::write(&file, archive::tests::make(&[("test_batch.bin", b"good")])).unwrap();
            let error = fetch.cifar().unwrap_err().to_string();
            assert!(error.contains(fetch.archive_sha256), "{error}");
            assert_eq!(fs::read_dir(&fetch.folder).unwrap().count(), 0);
            fs::write(&file, archive()).unwrap();
            fetch.cifar().unwrap();
            assert_eq!(fs::read_dir(&fetch.folder).unwrap().count(), 6);
            fs::remove_file(&file).unwrap();
            fetch.cifar().unwrap();
            fs::write(fetch.folder.join("test_batch.bin"), b"damaged").unwrap();
            fetch.cifar().unwrap_err();
        });
    }
}
