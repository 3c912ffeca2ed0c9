//! Stores verified files in the folder of a data set: all of them or none, and never replacing a
//! better file.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use anyhow::{Context, Result, bail};
use lopt_datasets::{Finding, files};

use crate::verify::describe;

/// Compares the unpacked content of the file with this name with the canonical one.
pub type Judge<'a> = &'a dyn Fn(&str, &[u8]) -> Finding;

/// A file to store.
pub struct Incoming {
    /// The canonical name.
    pub name: &'static str,
    /// Whether `bytes` are gzipped.
    pub gzipped: bool,
    /// The bytes to write.
    pub bytes: Vec<u8>,
    /// How the file compares with the canonical one.
    pub finding: Finding,
}

/// Stores all files in `folder`. Each is written atomically, and nothing is changed if one of
/// them is broken or would replace a better file.
pub fn put_all(folder: &Path, incoming: &[Incoming], judge: Judge) -> Result<()> {
    for file in incoming {
        check(folder, file, judge)?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    incoming.iter().try_for_each(|file| put(folder, file))
}

fn check(folder: &Path, file: &Incoming, judge: Judge) -> Result<()> {
    let new = describe(&file.finding);
    if rank(&file.finding) == Rank::Useless {
        bail!("{}: {new}; nothing was changed", file.name);
    }
    for gzipped in [false, true] {
        let Some(stored) = files::read(folder, file.name, gzipped)? else {
            continue;
        };
        let path = stored.path.clone();
        let present = match stored.unpack() {
            Ok(content) => judge(file.name, &content),
            Err(problem) => Finding::Broken(problem),
        };
        if rank(&present) > rank(&file.finding) {
            bail!(
                "{} is better ({}) than the new file ({new}); nothing was changed. To use the new \
                 file, delete the old one first",
                path.display(),
                describe(&present)
            );
        }
    }
    Ok(())
}

/// Quality of a file, worst first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Useless,
    Different,
    Partial(usize),
    WellFormed,
    Canonical,
}

fn rank(finding: &Finding) -> Rank {
    match finding {
        Finding::Missing | Finding::Broken(_) => Rank::Useless,
        Finding::Different { .. } => Rank::Different,
        Finding::Partial { rows, .. } => Rank::Partial(*rows),
        Finding::WellFormed => Rank::WellFormed,
        Finding::Canonical => Rank::Canonical,
    }
}

fn put(folder: &Path, file: &Incoming) -> Result<()> {
    let path = |gzipped| folder.join(files::stored_name(file.name, gzipped));
    write_atomically(&path(file.gzipped), &file.bytes)?;
    // A raw file shadows a gzipped one.
    let other = path(!file.gzipped);
    if other.exists() {
        fs::remove_file(&other).with_context(|| format!("cannot remove {}", other.display()))?;
    }
    Ok(())
}

/// Writes a temporary file beside `path`, syncs it to disk, and renames it.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}.unfinished", std::process::id()));
    let unfinished = Path::new(&unfinished);
    let written = File::create(unfinished)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(unfinished, path));
    if written.is_err() {
        // Best effort: the first error is the one to report.
        let _ = fs::remove_file(unfinished);
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use lopt_datasets::Malformed;

    use super::*;

    const NAME: &str = "test_batch.bin";

    /// Rates a content by its first byte.
    fn judge(_: &str, content: &[u8]) -> Finding {
        match content.first() {
            Some(b'c') => Finding::Canonical,
            Some(b'w') => Finding::WellFormed,
            Some(b'p') => {
                let (rows, of) = (content.len(), 10);
                Finding::Partial { rows, of }
            }
            _ => Finding::Broken(Malformed::Empty),
        }
    }

    fn incoming(name: &'static str, content: &str) -> Incoming {
        Incoming {
            name,
            gzipped: false,
            bytes: content.into(),
            finding: judge(name, content.as_bytes()),
        }
    }

    #[test]
    fn only_better_or_equal_files_replace() {
        let folder = tempfile::tempdir().unwrap();
        let put = |content| put_all(folder.path(), &[incoming(NAME, content)], &judge);
        for (content, expected) in [
            ("junk", ""),
            ("p", "p"),
            ("ppp", "ppp"),
            ("pp", "ppp"),
            ("ppq", "ppq"),
            ("w", "w"),
            ("ppp", "w"),
            ("c", "c"),
            ("w", "c"),
            ("junk", "c"),
            ("cc", "cc"),
        ] {
            let result = put(content);
            let present = fs::read_to_string(folder.path().join(NAME)).unwrap_or_default();
            assert_eq!(present, expected, "after {content}");
            assert_eq!(result.is_ok(), content == expected, "{content}");
        }
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 1, "a temporary file remains");
    }

    #[test]
    fn all_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let files = [incoming("data_batch_1.bin", "c"), incoming(NAME, "junk")];
        let error = put_all(folder.path(), &files, &judge).unwrap_err();
        assert!(error.to_string().contains(NAME), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_gzipped_file_is_replaced_by_a_raw_one_unless_it_is_better() {
        let folder = tempfile::tempdir().unwrap();
        let gz = folder.path().join(format!("{NAME}.gz"));
        let packed = crate::embed::gzip(b"w").unwrap();
        fs::write(&gz, &packed).unwrap();
        let put = |content| put_all(folder.path(), &[incoming(NAME, content)], &judge);
        let error = put("p").unwrap_err().to_string();
        assert!(error.contains("test_batch.bin.gz is better"), "{error}");
        assert_eq!(fs::read(&gz).unwrap(), packed);
        put("c").unwrap();
        assert!(!gz.exists() && folder.path().join(NAME).exists());
    }
}
