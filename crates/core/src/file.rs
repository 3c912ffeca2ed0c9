//! The file format: safetensors with a single JSON header entry, `lopt`.
//!
//! The entry holds the format's version, the kind of content (such as `theta`, `optimizer-state` or
//! `checkpoint`), a description, and a SHA-256 checksum of all of these and every tensor, so that
//! truncated, corrupted and foreign files are rejected with a clear error. Files are written to a
//! temporary path, synced and renamed: a reader sees either the old content or the new.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::Path,
};

use candle_core::{Device, Tensor, safetensors::Load};
use safetensors::{SafeTensorError, SafeTensors, View};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

const ENTRY: &str = "lopt";
const FORMAT: u32 = 1;
/// The suffix of directories with unfinished writes. They are safe to delete when no process
/// writes.
pub const UNFINISHED: &str = ".unfinished";

/// The header entry.
#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    kind: String,
    sha256: String,
    description: Box<RawValue>,
}

/// The content of a file: the description and the tensors, on the CPU.
#[derive(Debug)]
pub struct Contents {
    /// The JSON description passed to [`write()`].
    pub description: Value,
    /// The tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
}

impl Contents {
    /// Removes and returns the tensor with this name.
    ///
    /// # Errors
    /// Returns [`Error::File`] if there is no such tensor.
    pub fn take(&mut self, name: &str, path: &Path) -> Result<Tensor> {
        self.tensors
            .remove(name)
            .ok_or_else(|| Error::file(path, format!("has no tensor `{name}`")))
    }
}

/// Writes `tensors` with unique names to `path` atomically. The same content gives the same bytes.
///
/// # Errors
/// Returns an error if two names are equal or the file cannot be written; an existing file at
/// `path` is then unchanged.
pub fn write(
    path: &Path,
    kind: &str,
    description: &Value,
    tensors: &[(String, Tensor)],
) -> Result<()> {
    let views: BTreeMap<&str, &Tensor> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    if views.len() != tensors.len() {
        return Err(Error::file(path, "two tensors would have the same name"));
    }
    let unwritable = |e: serde_json::Error| Error::file(path, e.to_string());
    let description = RawValue::from_string(description.to_string()).map_err(unwritable)?;
    let mut digest = Digester::new(kind, &description);
    for (name, tensor) in &views {
        digest.tensor(name, &View::dtype(tensor), tensor.dims(), &tensor.data());
    }
    let header = Header {
        format: FORMAT,
        kind: kind.to_owned(),
        sha256: digest.finish(),
        description,
    };
    let entry = serde_json::to_string(&header).map_err(|e| Error::file(path, e.to_string()))?;
    let metadata = HashMap::from([(ENTRY.to_owned(), entry)]);
    atomically(path, |unfinished| {
        safetensors::serialize_to_file(views, Some(metadata), unfinished).map_err(|e| match e {
            SafeTensorError::IoError(source) => source,
            other => io::Error::other(other),
        })
    })
}

/// Reads and verifies a file written by [`write()`].
///
/// # Errors
/// Returns an error if the file cannot be read, has another format, version or `kind`, or does not
/// match its checksum.
pub fn read(path: &Path, kind: &str) -> Result<Contents> {
    parse(
        &fs::read(path).map_err(Error::io("read", path))?,
        path,
        kind,
    )
}

/// Parses and verifies the content of a file written by [`write()`]. `path` is used in error
/// messages.
///
/// # Errors
/// Returns an error if the content has another format, version or `kind`, or does not match its
/// checksum.
pub fn parse(bytes: &[u8], path: &Path, kind: &str) -> Result<Contents> {
    let foreign = |what: String| {
        Error::file(
            path,
            format!("{what}; expected a safetensors file of kind `{kind}` written by lopt"),
        )
    };
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| {
        foreign(format!(
            "truncated, damaged or not a safetensors file ({e})"
        ))
    })?;
    let views = SafeTensors::deserialize(bytes)
        .map_err(|e| foreign(format!("truncated or damaged ({e})")))?;
    let entry = metadata
        .metadata()
        .as_ref()
        .and_then(|entries| entries.get(ENTRY))
        .ok_or_else(|| {
            foreign(format!(
                "a safetensors file without the header entry `{ENTRY}`"
            ))
        })?;
    let header: Header = serde_json::from_str(entry)
        .map_err(|e| foreign(format!("its header entry `{ENTRY}` cannot be parsed ({e})")))?;
    if header.format != FORMAT {
        return Err(foreign(format!(
            "of format version {}; this version of lopt reads version {FORMAT}",
            header.format
        )));
    }
    if header.kind != kind {
        return Err(foreign(format!("of kind `{}`", header.kind)));
    }
    let mut digest = Digester::new(kind, &header.description);
    let mut names = views.names();
    names.sort_unstable();
    let mut tensors = BTreeMap::new();
    for name in names {
        let view = views.tensor(name).map_err(|e| foreign(e.to_string()))?;
        digest.tensor(name, &view.dtype(), view.shape(), view.data());
        tensors.insert(name.to_owned(), view.load(&Device::Cpu)?);
    }
    if digest.finish() != header.sha256 {
        return Err(foreign(
            "damaged: the content does not match its checksum; use another copy".to_owned(),
        ));
    }
    Ok(Contents {
        description: serde_json::from_str(header.description.get())
            .map_err(|e| foreign(format!("its description cannot be parsed ({e})")))?,
        tensors,
    })
}

/// Writes `bytes` to `path` atomically: after a crash at any moment, `path` holds either the old
/// content or the new.
///
/// # Errors
/// Returns [`Error::Io`] if the file cannot be written; the old content is then unchanged.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    atomically(path, |unfinished| fs::write(unfinished, bytes))
}

/// Calls `write` with a path in a temporary directory next to `path`, then renames the file. The
/// directory also contains the temporary files that `safetensors` itself creates.
fn atomically(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| Error::file(path, "is not a file path"))?
        .to_string_lossy();
    let folder = path.with_file_name(format!(".{name}.{}{UNFINISHED}", std::process::id()));
    let unfinished = folder.join(&*name);
    // A killed process with the same id may have left it.
    let _ = fs::remove_dir_all(&folder);
    let written = fs::create_dir(&folder).and_then(|()| {
        // Those of the file that is replaced, else those of any new file.
        let permissions = match fs::metadata(path) {
            Ok(old) => old.permissions(),
            Err(_) => fs::File::create(&unfinished)?.metadata()?.permissions(),
        };
        write(&unfinished)?;
        let file = fs::File::options().append(true).open(&unfinished)?;
        file.sync_all()?;
        file.set_permissions(permissions)?;
        fs::rename(&unfinished, path)
    });
    // The first error is the one to report.
    let _ = fs::remove_dir_all(&folder);
    written.map_err(Error::io("write", path))?;
    sync_folder(path)
}

/// Syncs the directory, so that the rename is durable.
#[cfg(unix)]
fn sync_folder(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(Error::io("write", folder))
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> Result<()> {
    Ok(())
}

/// SHA-256 of kind, description and tensors, each preceded by its length.
struct Digester(Sha256);

impl Digester {
    fn new(kind: &str, description: &RawValue) -> Self {
        let mut digester = Self(Sha256::new());
        digester.part(kind.as_bytes());
        digester.part(description.get().as_bytes());
        digester
    }

    fn tensor(&mut self, name: &str, dtype: &safetensors::Dtype, shape: &[usize], data: &[u8]) {
        self.part(name.as_bytes());
        self.part(format!("{dtype:?}{shape:?}").as_bytes());
        self.part(data);
    }

    fn part(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

/// The SHA-256 of some bytes, as 64 hexadecimal digits.
pub fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
