//! Folders that one process at a time writes to.

use std::{
    fs::{self, File, TryLockError},
    path::Path,
};

use crate::{Error, Result, file};

/// A folder that no other process may write to until this is dropped. The operating system also
/// releases it when the process ends, however it ends.
#[derive(Debug)]
pub struct FolderLock {
    /// Dropping the file releases the lock.
    _file: File,
}

impl FolderLock {
    /// Locks an existing folder by a file `lock` in it, and removes what killed processes left
    /// unfinished in the folder and in the folders directly within it.
    ///
    /// # Errors
    /// Returns [`Error::File`] if another process has locked the folder, [`Error::Io`] if it cannot be
    /// written.
    pub fn take(folder: &Path) -> Result<Self> {
        let path = folder.join("lock");
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(Error::io("write", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let problem = "is in use by another process; wait for it or stop it";
                return Err(Error::file(folder, problem));
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
        }
        remove_unfinished(folder);
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_unfinished(&entry.path());
            }
        }
        Ok(Self { _file: file })
    }
}

fn remove_unfinished(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().ends_with(file::UNFINISHED) {
            // What cannot be removed does no harm.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_nothing_unfinished() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let left = path.join("inner/.θ.7.unfinished");
        fs::create_dir_all(&left).unwrap();
        fs::create_dir(path.join(".x.8.unfinished")).unwrap();
        let lock = FolderLock::take(path).unwrap();
        assert!(!left.exists() && !path.join(".x.8.unfinished").exists());
        assert!(path.join("inner").exists());
        let error = FolderLock::take(path).unwrap_err().to_string();
        assert!(error.contains("another process"), "{error}");
        drop(lock);
        FolderLock::take(path).unwrap();
        assert!(FolderLock::take(&path.join("missing")).is_err());
    }
}
