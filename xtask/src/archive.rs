//! The archive of CIFAR-10.

use std::io::Read;

use anyhow::{Context, Result, ensure};
use lopt_datasets::{files::CIFAR_FILES, unpack};

/// File name of the archive.
pub const NAME: &str = "cifar-10-binary.tar.gz";
/// SHA-256 of the published archive.
pub const SHA256: &str = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd";

/// Returns the names and contents of the canonical files in an archive.
pub fn read(archive: &[u8]) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let tar = unpack(archive)?;
    let mut found = vec![];
    for entry in tar::Archive::new(&tar[..]).entries()? {
        let mut entry = entry.context("corrupt tar archive")?;
        let path = entry.path().context("corrupt tar archive")?;
        let known = CIFAR_FILES.into_iter().find(|name| path.ends_with(name));
        if let Some(name) = known {
            let mut content = vec![];
            entry
                .read_to_end(&mut content)
                .context("corrupt tar archive")?;
            found.push((name, content));
        }
    }
    let names = CIFAR_FILES.join(", ");
    ensure!(!found.is_empty(), "the archive contains none of {names}");
    Ok(found)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::embed::gzip;

    /// Makes an archive of `files`, names and contents.
    pub fn make(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(vec![]);
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            let path = format!("cifar-10-batches-bin/{name}");
            tar.append_data(&mut header, path, *content).unwrap();
        }
        gzip(&tar.into_inner().unwrap()).unwrap()
    }

    #[test]
    fn known_files_are_found() {
        let archive = make(&[
            ("readme.html", b"read me"),
            ("data_batch_2.bin", b"two"),
            ("test_batch.bin", b"test"),
        ]);
        let expected = [
            ("data_batch_2.bin", b"two".to_vec()),
            ("test_batch.bin", b"test".to_vec()),
        ];
        assert_eq!(read(&archive).unwrap(), expected);
    }

    #[test]
    fn damage_is_reported() {
        let error = |archive: &[u8]| format!("{:#}", read(archive).unwrap_err());
        let archive = make(&[("data_batch_1.bin", &[1; 2000])]);
        assert!(error(&archive[..archive.len() - 9]).contains("truncated"));
        assert!(error(b"<html>").contains("not a gzip file"));
        assert!(error(&make(&[("readme.html", b"")])).contains("none of data_batch_1.bin"));
        let cut = unpack(&archive).unwrap()[..1000].to_vec();
        let message = error(&gzip(&cut).unwrap());
        assert!(message.contains("corrupt tar archive"), "{message}");
        let message = error(&gzip(&[b'x'; 2000]).unwrap());
        assert!(message.contains("corrupt tar archive"), "{message}");
    }
}
