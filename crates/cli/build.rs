//! Sets `LOPT_COMMIT` to the commit that the program is built from, followed by a checksum of
//! uncommitted changes if there are any.

use std::{fs, path::Path, process::Command};

use sha2::{Digest, Sha256};

fn main() {
    let commit = git(".", &["rev-parse", "--short=12", "HEAD"]);
    let commit = commit.map_or_else(|| "unknown".to_owned(), |commit| text(&commit));
    println!("cargo::rustc-env=LOPT_COMMIT={commit}{}", changes());
    // This file never exists, so cargo runs the script in every build.
    println!("cargo::rerun-if-changed=always");
}

/// "+" and the start of the SHA-256 of the changes to tracked files and of the untracked files
/// that are not ignored; empty if there are none.
fn changes() -> String {
    let root = git(".", &["rev-parse", "--show-toplevel"]).unwrap_or_default();
    let root = text(&root);
    let diff = ["diff", "--no-ext-diff", "--no-textconv", "--binary", "HEAD"];
    let diff = git(&root, &diff).unwrap_or_default();
    let untracked = ["ls-files", "--others", "--exclude-standard", "-z"];
    let untracked = git(&root, &untracked).unwrap_or_default();
    if diff.is_empty() && untracked.is_empty() {
        return String::new();
    }
    let mut hasher = Sha256::new_with_prefix(diff);
    for name in untracked.split(|&byte| byte == 0).filter(|n| !n.is_empty()) {
        let path = Path::new(&root).join(text(name));
        hasher.update(name);
        hasher.update(Sha256::digest(fs::read(path).unwrap_or_default()));
    }
    let digest = hasher.finalize();
    let short: String = digest[..4].iter().map(|b| format!("{b:02x}")).collect();
    format!("+{short}")
}

fn git(folder: &str, arguments: &[&str]) -> Option<Vec<u8>> {
    let mut git = Command::new("git");
    let output = git.arg("-C").arg(folder).args(arguments).output().ok()?;
    output.status.success().then_some(output.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
