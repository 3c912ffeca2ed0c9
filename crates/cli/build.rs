//! Sets `LOPT_COMMIT` to the commit that the program is built from, followed by a checksum of
//! uncommitted changes if there are any.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest, Sha256};

fn main() {
    let commit = git(".", &["rev-parse", "--short=12", "HEAD"]);
    let commit = commit.map_or_else(|| "unknown".to_owned(), |commit| text(&commit));
    println!("cargo::rustc-env=LOPT_COMMIT={commit}{}", changes());
    let sources = SOURCES.map(|name| Path::new(ROOT).join(name));
    for path in sources
        .into_iter()
        .chain(head())
        .filter(|path| path.exists())
    {
        println!("cargo::rerun-if-changed={}", path.display());
    }
}

/// The root of the workspace.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// What the program is built from.
const SOURCES: [&str; 5] = ["Cargo.lock", "Cargo.toml", "crates", "datasets", ".cargo"];

/// The files that name the commit.
fn head() -> Vec<PathBuf> {
    let branch = git(ROOT, &["rev-parse", "--symbolic-full-name", "HEAD"]);
    let branch = branch.map(|name| text(&name)).unwrap_or_default();
    let names = ["HEAD", "packed-refs", &branch];
    let named = names.into_iter().filter(|name| !name.is_empty());
    let path = |name| git(ROOT, &["rev-parse", "--git-path", name]);
    let paths = named.filter_map(path);
    paths
        .map(|path| Path::new(ROOT).join(text(&path)))
        .collect()
}

/// "+" and the start of the SHA-256 of the changes to tracked sources and of the untracked ones
/// that are not ignored; empty if there are none.
fn changes() -> String {
    let of_sources = |command: &[&str]| git(ROOT, &[command, &["--"], &SOURCES].concat());
    let diff = ["diff", "--no-ext-diff", "--no-textconv", "--binary", "HEAD"];
    let diff = of_sources(&diff).unwrap_or_default();
    let untracked = ["ls-files", "--others", "--exclude-standard", "-z"];
    let untracked = of_sources(&untracked).unwrap_or_default();
    if diff.is_empty() && untracked.is_empty() {
        return String::new();
    }
    let mut hasher = Sha256::new_with_prefix(diff);
    for name in untracked.split(|&byte| byte == 0).filter(|n| !n.is_empty()) {
        let path = Path::new(ROOT).join(text(name));
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
