//! Tells the program which commit it was built from, and a checksum of changes since then.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    process::Command,
};

fn main() {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    let changes = git(&["diff", "HEAD"]).unwrap_or_default();
    let changed = if changes.is_empty() {
        String::new()
    } else {
        let mut hasher = DefaultHasher::new();
        changes.hash(&mut hasher);
        format!("+{:08x}", hasher.finish() >> 32)
    };
    println!("cargo::rustc-env=LOPT_COMMIT={commit}{changed}");
    // A file that is never there: looked at again in every build.
    println!("cargo::rerun-if-changed=always");
}
