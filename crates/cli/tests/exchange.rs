//! Checkpoints of the JAX original by the real binary.

#[allow(dead_code)]
mod common;

use std::{fs, path::Path};

use common::{fail, succeed};

#[test]
fn checkpoints_are_imported_and_exported() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/flax/star.params");
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::create_dir(here.join("original")).unwrap();
    fs::copy(&golden, here.join("original/params")).unwrap();
    let import = ["import", "original/params"];
    let text = succeed(here, &import);
    assert!(
        text.contains("202 meta-parameters") && text.contains("defaults"),
        "{text}"
    );
    let text = fail(here, &import);
    assert!(text.contains("theta.safetensors exists"), "{text}");

    let gin = "MLPNomLOpt.nominal_stepsize = 0.001\nMLPNomLOpt.nominal_controller = True\n";
    fs::write(here.join("original/config.gin"), gin).unwrap();
    let text = succeed(
        here,
        &["import", "original/params", "--out", "star.safetensors"],
    );
    assert!(
        text.contains("original/config.gin") && text.contains("\"nominal-step\": 0.001"),
        "{text}"
    );
    let text = succeed(here, &["export", "star.safetensors"]);
    assert!(text.contains("checkpoint/params"), "{text}");
    assert!(fs::read(here.join("checkpoint/params")).unwrap() == fs::read(&golden).unwrap());
    let written = fs::read_to_string(here.join("checkpoint/config.gin")).unwrap();
    assert!(
        written.contains("MLPNomLOpt.nominal_stepsize = 0.001"),
        "{written}"
    );
    let text = fail(here, &["export", "star.safetensors"]);
    assert!(text.contains("not an empty folder"), "{text}");

    fs::write(
        here.join("original/config.gin"),
        "MLPNomLOpt.weight_decay = 0.1\n",
    )
    .unwrap();
    let text = fail(
        here,
        &["import", "original/params", "--out", "other.safetensors"],
    );
    assert!(
        text.contains("weight_decay") && !here.join("other.safetensors").exists(),
        "{text}"
    );
    let text = fail(
        here,
        &[
            "import",
            "original/config.gin",
            "--out",
            "other.safetensors",
        ],
    );
    assert!(text.contains("original/config.gin"), "{text}");
}

#[test]
fn theta_is_written_with_other_settings() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../star/weights/star.safetensors");
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::copy(&shipped, here.join("star.safetensors")).unwrap();
    let configure = [
        "configure",
        "star.safetensors",
        "--set",
        "time-limit=7",
        "--set",
        "online-scale=",
        "--out",
        "other.safetensors",
    ];
    let text = succeed(here, &configure);
    assert!(
        text.contains("202 meta-parameters")
            && text.contains("\"time-limit\": 7")
            && !text.contains("online-scale"),
        "{text}"
    );
    let text = fail(here, &configure);
    assert!(text.contains("other.safetensors exists"), "{text}");
    let unchanged = fs::read(here.join("star.safetensors")).unwrap();
    assert!(unchanged == fs::read(&shipped).unwrap());
    let text = fail(here, &["configure", "star.safetensors", "--set", "limit=7"]);
    assert!(
        text.contains("star.safetensors") && text.contains("limit"),
        "{text}"
    );
    assert!(!here.join("theta.safetensors").exists());
}
