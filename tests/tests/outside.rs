//! A crate outside the workspace with the dependencies and the code of the README.

use std::{env, fs, path::Path, process::Command};

/// The first block of a language in the README.
fn block<'a>(readme: &'a str, language: &str) -> &'a str {
    let (_, rest) = readme
        .split_once(&format!("```{language}\n"))
        .expect(language);
    rest.split_once("```").expect(language).0
}

#[test]
fn the_example_of_the_readme_compiles_in_a_crate_of_its_own() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();

    let clone = "lopt/crates/star";
    let dependencies = block(&readme, "toml");
    assert!(dependencies.contains(clone), "{dependencies}");
    let ours = root.join("crates/star").display().to_string();
    let dependencies = dependencies.replace(clone, &ours);
    // With the profile of the workspace, most of what other checks compiled is used again.
    let workspace = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let (_, profile) = workspace.split_once("[profile.dev]").unwrap();
    write(
        "Cargo.toml",
        format!(
            "[package]\nname = \"outside\"\nedition = \"2024\"\n\n{dependencies}\n[workspace]\n\n\
             [profile.dev]{profile}"
        ),
    );
    fs::create_dir(folder.path().join("src")).unwrap();
    write("src/main.rs", block(&readme, "rust").to_owned());
    // The versions that are already downloaded.
    fs::copy(root.join("Cargo.lock"), folder.path().join("Cargo.lock")).unwrap();

    // The test binary is in TARGET/PROFILE/deps. Its dependencies are there too.
    let test = env::current_exe().unwrap();
    let target = test.ancestors().nth(3).unwrap();
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["check", "--offline", "--quiet", "--target-dir"])
        .arg(target)
        .current_dir(&folder)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(!errors.contains("warning"), "{errors}");
}
