//! ARCHITECTURE.md against the tree.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cells of the table rows below a heading.
fn rows(page: &str, heading: &str) -> Vec<Vec<String>> {
    let section = page
        .split("\n## ")
        .find(|section| section.starts_with(heading));
    let lines = section.expect(heading).lines();
    let rows = lines.filter(|line| line.starts_with("| "));
    let cells = |line: &str| -> Vec<String> {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    };
    rows.skip(1).map(cells).collect()
}

/// What stands in backticks and looks like a path.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|quoted| quoted.contains('/') && !quoted.contains([' ', '(']))
}

#[test]
fn every_path_exists() {
    for page in ["ARCHITECTURE.md", "README.md"] {
        for path in paths(&text(page)) {
            let generated = ["runs/", "eval/", "reproduction/"];
            if !generated.iter().any(|folder| path.starts_with(folder)) {
                assert!(root().join(path).exists(), "{page}: there is no {path}");
            }
        }
    }
}

/// The crates of the workspace that a manifest depends on.
fn dependencies(folder: &str) -> BTreeSet<String> {
    let manifest: toml::Table = text(&format!("{folder}/Cargo.toml")).parse().unwrap();
    let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
    let names = dependencies.into_iter().flat_map(toml::Table::keys);
    let ours = names.filter_map(|name| name.strip_prefix("lopt-"));
    ours.map(str::to_owned).collect()
}

/// Crates are listed with their true dependencies, each below those it uses.
#[test]
fn crates_use_what_the_table_says() {
    let mut above = BTreeSet::new();
    for row in rows(&text("ARCHITECTURE.md"), "Crates") {
        let [path, _, uses, _] = row.as_slice() else {
            panic!("{row:?}");
        };
        let path = path.trim_matches('`');
        let named = uses.split(", ").filter(|name| !name.is_empty());
        let uses: BTreeSet<String> = named.map(str::to_owned).collect();
        assert_eq!(uses, dependencies(path), "{path}");
        for name in &uses {
            assert!(above.contains(name), "{path} stands above {name}");
        }
        let name = path.rsplit('/').next().unwrap();
        above.insert(name.to_owned());
    }
    let folders = fs::read_dir(root().join("crates")).unwrap();
    let folders = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    for folder in folders {
        assert!(
            above.contains(&folder),
            "crates/{folder} is not in the table"
        );
    }
}

/// The crates that may have `unsafe`, with lints of their own.
const WITH_UNSAFE: [&str; 2] = ["crates/kernels", "crates/cuda-backend"];

/// Only kernels and their launches have `unsafe`, and kernels do not know candle.
#[test]
fn kernels_stand_alone() {
    for kernels in ["crates/kernels", "crates/cuda"] {
        let manifest = text(&format!("{kernels}/Cargo.toml"));
        let manifest: toml::Table = manifest.parse().unwrap();
        let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
        assert!(dependencies.is_none_or(|table| !table.contains_key("candle-core")));
    }
    for row in rows(&text("ARCHITECTURE.md"), "Crates") {
        let path = row[0].trim_matches('`');
        let manifest: toml::Table = text(&format!("{path}/Cargo.toml")).parse().unwrap();
        let inherits = manifest["lints"].get("workspace").is_some();
        assert_eq!(inherits, !WITH_UNSAFE.contains(&path), "{path}: lints");
    }
}
