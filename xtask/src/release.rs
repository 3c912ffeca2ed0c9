//! `cargo xtask release --dry-run`: checks everything that publishing to crates.io needs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::lopt::{cargo, metadata, root, succeeds};

/// Arguments of `cargo xtask release`.
#[derive(clap::Args)]
pub struct Args {
    /// Check without publishing. There is no other way to run it: publishing is done by a person,
    /// who follows RELEASING.md.
    #[arg(long, required = true)]
    dry_run: bool,
}

/// The largest package that crates.io accepts.
const MAX_BYTES: u64 = 10 << 20;

/// A crate that is to be published.
struct Package {
    name: String,
    version: String,
    folder: PathBuf,
}

/// Checks the packages' descriptions and files, builds each from its archive, and compiles the
/// workspace with the oldest supported Rust.
pub fn run(args: &Args) -> Result<ExitCode> {
    ensure!(args.dry_run, "only --dry-run is supported");
    let metadata = metadata(&["--no-deps"])?;
    let packages = packages(&metadata)?;
    for package in &packages {
        check_files(package)?;
    }
    println!("{} packages have all that crates.io shows", packages.len());
    succeed(&["package", "--workspace", "--allow-dirty"], None)?;
    let target = metadata["target_directory"]
        .as_str()
        .context("no target directory")?;
    check_sizes(&packages, &Path::new(target).join("package"))?;
    check_oldest_rust(&metadata)?;
    println!("ready to be published as RELEASING.md says");
    Ok(ExitCode::SUCCESS)
}

/// The crates that are to be published, all of which must be described.
fn packages(metadata: &Value) -> Result<Vec<Package>> {
    let all = metadata["packages"].as_array().context("no packages")?;
    let published = all.iter().filter(|package| package["publish"].is_null());
    let each = |package: &Value| {
        let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
        let name = text("name");
        for key in [
            "description",
            "license",
            "documentation",
            "readme",
            "rust_version",
        ] {
            ensure!(
                !text(key).is_empty(),
                "{name} has no `{key}` in its Cargo.toml"
            );
        }
        for key in ["keywords", "categories"] {
            let some = package[key]
                .as_array()
                .is_some_and(|words| !words.is_empty());
            ensure!(some, "{name} has no `{key}` in its Cargo.toml");
        }
        let manifest = PathBuf::from(text("manifest_path"));
        Ok(Package {
            name,
            version: text("version"),
            folder: manifest.parent().unwrap_or(&manifest).to_owned(),
        })
    };
    published.map(each).collect()
}

/// The package contains its README and both licenses.
fn check_files(package: &Package) -> Result<()> {
    for file in ["README.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        let path = package.folder.join(file);
        let content = fs::read_to_string(&path);
        let content = content.with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(!content.trim().is_empty(), "{} is empty", path.display());
    }
    Ok(())
}

/// Prints the sizes of the archives, the largest first.
fn check_sizes(packages: &[Package], folder: &Path) -> Result<()> {
    let mut sizes = vec![];
    for Package { name, version, .. } in packages {
        let archive = folder.join(format!("{name}-{version}.crate"));
        let size = fs::metadata(&archive);
        let size = size.with_context(|| format!("cannot read {}", archive.display()))?;
        sizes.push((size.len(), name));
    }
    sizes.sort_by(|a, b| b.cmp(a));
    for (bytes, name) in &sizes {
        println!("{name}: {:.2} MiB", *bytes as f64 / f64::from(1 << 20));
        ensure!(
            *bytes <= MAX_BYTES,
            "{name} is larger than the 10 MiB of crates.io"
        );
    }
    Ok(())
}

/// Compiles the workspace with the Rust that `rust-version` promises.
fn check_oldest_rust(metadata: &Value) -> Result<()> {
    let mut versions = metadata["packages"].as_array().into_iter().flatten();
    let version = versions.find_map(|package| package["rust_version"].as_str());
    let version = version.context("no `rust-version`")?;
    let version = match version.matches('.').count() {
        1 => format!("{version}.0"),
        _ => version.to_owned(),
    };
    if !succeeds(Command::new("rustup").args(["run", &version, "rustc", "--version"])) {
        bail!(
            "cannot check the oldest supported Rust; install it with: rustup toolchain install \
             {version} --profile minimal"
        );
    }
    succeed(&["check", "--workspace", "--locked"], Some(&version))
}

/// Runs cargo, of another toolchain if given.
fn succeed(arguments: &[&str], toolchain: Option<&str>) -> Result<()> {
    let mut command = match toolchain {
        Some(version) => {
            let mut command = Command::new("rustup");
            command.args(["run", version, "cargo"]);
            // Those of this toolchain.
            command.env_remove("CARGO").env_remove("RUSTC");
            command
        }
        None => cargo(),
    };
    println!("$ cargo {}", arguments.join(" "));
    let status = command.args(arguments).current_dir(root()).status();
    let status = status.context("cannot run cargo")?;
    ensure!(status.success(), "failed: cargo {}", arguments.join(" "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_has_what_crates_io_shows() {
        let packages = packages(&metadata(&["--no-deps"]).unwrap()).unwrap();
        assert!(packages.iter().any(|package| package.name == "lopt-star"));
        assert!(!packages.iter().any(|package| package.name == "xtask"));
        for package in &packages {
            check_files(package).unwrap();
        }
    }
}
