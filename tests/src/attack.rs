//! Reads damaged files by the thousand.

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use allocation_counter::measure;
use lopt_core::file;
use tempfile::TempDir;

use crate::{Damage, Sealed};

/// The variable with the seed of the damage, a number; 0 if it is not set.
pub const SEED: &str = "LOPT_DAMAGE_SEED";

/// The variable with a folder to which the valid files are written, as seeds of the fuzz targets.
pub const SEEDS: &str = "LOPT_FUZZ_SEEDS";

/// A kind of file, and how to attack what reads it.
pub struct Attack<'a> {
    /// The name of the kind, of its folders in `tests/attacks` and `tests/fuzz/corpus`, and of its
    /// fuzz target.
    pub kind: &'a str,
    /// A valid file.
    pub original: &'a [u8],
    /// How many damaged files are read.
    pub rounds: usize,
    /// How many prefixes of the original are read, evenly spread; usually all.
    pub prefixes: usize,
    /// The bytes of memory that reading may take, and those that it may take for each byte of the
    /// file.
    pub memory: [u64; 2],
    /// The checksum of the file. With one, what can be read after damage means the same.
    pub checksum: Checksum,
}

/// What tells that a file was damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// Nothing.
    None,
    /// A checksum of the format.
    OfFormat,
    /// That of [`lopt_core::file`]. One in ten files is forged: its checksum matches.
    Sealed,
}

impl Attack<'_> {
    /// Attacks `read`, which returns what the file means or why it cannot be read. It panics if the
    /// file means something invalid.
    ///
    /// # Panics
    /// Panics, naming the seed and the path of the kept input, if `read` panics, takes more memory
    /// than it may, or takes a damaged file for a valid one with other contents.
    pub fn run(&self, mut read: impl FnMut(&[u8]) -> Result<String, String>) {
        let seed = env::var(SEED).map_or(0, |text| text.parse().expect("a number as the seed"));
        if let Some(corpus) = env::var_os(SEEDS) {
            let folder = PathBuf::from(corpus).join(self.kind);
            let name = &file::sha256(self.original)[..16];
            fs::create_dir_all(&folder)
                .and_then(|()| fs::write(folder.join(name), self.original))
                .unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        }
        let meaning = read(self.original).unwrap_or_else(|e| panic!("{}: {e}", self.kind));
        let same = (self.checksum != Checksum::None).then_some(&*meaning);
        for path in kept("attacks", self.kind)
            .into_iter()
            .chain(kept("fuzz/corpus", self.kind))
        {
            let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            if let Err(what) = self.judge(&mut read, &bytes, None) {
                panic!("{}: {what}", path.display());
            }
        }
        let length = self.original.len();
        let step = length.div_ceil(self.prefixes.max(1)).max(1);
        for end in (0..length).step_by(step) {
            self.check(
                &mut read,
                &self.original[..end],
                same,
                &format!("cut at {end}"),
            );
        }
        let mut damage = Damage::new(seed);
        let sealed = self.checksum == Checksum::Sealed;
        let contents = sealed.then(|| Sealed::open(self.original));
        let (mut readable, mut most) = (0, 0);
        for round in 0..self.rounds {
            let forged = contents.as_ref().filter(|_| round % 10 == 9);
            let (bytes, same) = match forged {
                Some(contents) => (damage.forged(contents).bytes(), None),
                None => (damage.bytes(self.original), same),
            };
            let what = format!("seed {seed}, round {round}");
            let read = self.check(&mut read, &bytes, same, &what);
            readable += usize::from(read.succeeded);
            most = most.max(read.memory);
        }
        println!(
            "{}: seed {seed}, {} damaged files, {readable} of them readable, at most {most} bytes \
             of memory",
            self.kind, self.rounds
        );
    }

    /// Reads one file, and keeps it if that goes wrong.
    fn check(
        &self,
        read: &mut impl FnMut(&[u8]) -> Result<String, String>,
        bytes: &[u8],
        same: Option<&str>,
        when: &str,
    ) -> Reading {
        self.judge(read, bytes, same).unwrap_or_else(|what| {
            let name = &file::sha256(bytes)[..16];
            let folder = folder("attacks", self.kind);
            let path = folder.join(name);
            let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, bytes));
            let kept = match written {
                Ok(()) => format!("the input is kept as {}", path.display()),
                Err(error) => format!("the input cannot be kept: {error}"),
            };
            panic!("{}, {when}: {what}; {kept}", self.kind);
        })
    }

    fn judge(
        &self,
        read: &mut impl FnMut(&[u8]) -> Result<String, String>,
        bytes: &[u8],
        same: Option<&str>,
    ) -> Result<Reading, String> {
        let mut result = None;
        let taken = measure(|| {
            result = catch_unwind(AssertUnwindSafe(|| read(bytes))).ok();
        });
        let [fixed, per_byte] = self.memory;
        let bound = fixed + per_byte * bytes.len() as u64;
        let memory = taken.bytes_max;
        match (result, same) {
            (None, _) => Err("panicked".to_owned()),
            _ if memory > bound => Err(format!("took {memory} bytes of memory, more than {bound}")),
            (Some(Ok(meaning)), Some(same)) if meaning != same => {
                Err(format!("was taken for a valid file: {meaning}"))
            }
            (Some(Err(error)), _) if error.is_empty() => {
                Err("was refused without a word".to_owned())
            }
            (Some(result), _) => Ok(Reading {
                succeeded: result.is_ok(),
                memory,
            }),
        }
    }
}

/// How a file was read.
struct Reading {
    succeeded: bool,
    /// The most bytes that were allocated at a time.
    memory: u64,
}

/// A temporary folder, in memory where the system offers that: thousands of files are written to it.
///
/// # Panics
/// Panics if there is none.
pub fn temporary_folder() -> TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.unwrap_or_else(|_| tempfile::tempdir().expect("a temporary folder"))
}

fn folder(of: &str, kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(of).join(kind)
}

/// The inputs that were kept in a folder, in name order.
fn kept(of: &str, kind: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder(of, kind))
        .into_iter()
        .flatten()
        .flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}
