//! Coverage-guided fuzzing of everything that reads files: a target for each kind of file, named like
//! the folder of its corpus. `cargo xtask fuzz --guided` runs them all.

use lopt_tests::Sealed;

/// Reads a file with a checksum as it is, and once more with the checksum that its contents have: a
/// fuzzer cannot guess it.
pub fn sealed(bytes: &[u8], mut read: impl FnMut(&[u8]) -> Result<String, String>) {
    drop(read(bytes));
    if let Some(contents) = Sealed::parse(bytes) {
        drop(read(&contents.bytes()));
    }
}
