//! Files that are truncated, corrupt, foreign or of the wrong kind are rejected with a message,
//! and a failed write keeps the old file.

use std::{fs, path::Path};

use lopt_blackbox::Blackbox;
use lopt_core::{LearnedOptimizer, Theta, file};
use lopt_star::Star;
use serde_json::json;

#[test]
fn theta_round_trips_and_is_written_reproducibly() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let theta = Star::untrained().theta().clone();
    let theta = theta.with_provenance(json!({"seed": 3}));
    theta.save(&a).unwrap();
    theta.save(&b).unwrap();
    assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
    assert_eq!(Theta::load(&a).unwrap(), theta);
    Star::new(Theta::load(&a).unwrap()).unwrap();
}

/// Every truncation and every flipped bit is an error that names the file.
#[test]
fn damaged_files_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("theta.safetensors");
    Star::untrained().theta().save(&path).unwrap();
    let good = fs::read(&path).unwrap();
    let refused = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        let error = Theta::load(&path).expect_err(what).to_string();
        assert!(error.contains("theta.safetensors"), "{what}: {error}");
    };
    for length in (0..good.len()).step_by(7) {
        refused(&good[..length], &format!("cut at {length}"));
    }
    for byte in 0..good.len() {
        let mut flipped = good.clone();
        flipped[byte] ^= 1 << (byte % 8);
        // White space that pads the header has no meaning.
        if good[byte] == b' ' && Theta::load(&path).is_ok() {
            continue;
        }
        refused(&flipped, &format!("bit flipped in byte {byte}"));
    }
    let mut longer = good.clone();
    longer.push(0);
    refused(&longer, "an extra byte");
    refused(b"hello", "a foreign file");
    refused(&[], "an empty file");
}

#[test]
fn files_of_another_kind_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.safetensors");
    let message = |result: Result<Star, lopt_core::Error>| result.unwrap_err().to_string();

    Blackbox::untrained().theta().save(&path).unwrap();
    let error = message(Theta::load(&path).and_then(Star::new));
    assert!(
        error.contains("`blackbox`") && error.contains("`star`"),
        "{error}"
    );

    file::write(&path, "checkpoint", &json!({}), &[]).unwrap();
    let error = message(Theta::load(&path).and_then(Star::new));
    assert!(
        error.contains("`checkpoint`") && error.contains("`theta`"),
        "{error}"
    );

    let plain: Vec<(String, candle_core::Tensor)> = vec![];
    let plain = safetensors::serialize(plain.iter().map(|(n, t)| (n.as_str(), t)), None).unwrap();
    fs::write(&path, plain).unwrap();
    let error = message(Theta::load(&path).and_then(Star::new));
    assert!(error.contains("header entry"), "{error}");

    let error = message(Theta::load(Path::new("/nowhere/θ")).and_then(Star::new));
    assert!(error.contains("/nowhere/θ"), "{error}");
}

/// The configuration of θ requires another shape, or is invalid.
#[test]
fn a_theta_that_does_not_fit_its_configuration_is_rejected() {
    let theta = Star::untrained().theta().clone();
    let with = |config: serde_json::Value| {
        let theta = Theta::new(
            "star",
            config,
            theta.layout().clone(),
            theta.values().to_vec(),
        );
        Star::new(theta.unwrap()).unwrap_err().to_string()
    };
    let error = with(json!({"hidden": [8, 8]}));
    assert!(
        error.contains("nn/w0") && error.contains("[39, 8]"),
        "{error}"
    );
    let error = with(json!({"hiden": [4, 4]}));
    assert!(error.contains("hiden"), "{error}");
    assert!(Theta::new("star", json!({}), theta.layout().clone(), vec![0.0; 5]).is_err());
}

#[test]
fn a_failed_write_keeps_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("theta.safetensors");
    let theta = Star::untrained().theta().clone();
    theta.save(&path).unwrap();
    // A file in place of the temporary folder makes the write fail.
    let name = format!(
        ".theta.safetensors.{}{}",
        std::process::id(),
        file::UNFINISHED
    );
    fs::write(folder.path().join(name), b"").unwrap();
    let error = Blackbox::untrained()
        .theta()
        .save(&path)
        .unwrap_err()
        .to_string();
    assert!(error.contains("theta.safetensors"), "{error}");
    assert_eq!(Theta::load(&path).unwrap(), theta);
}

/// New files have the permissions that the system gives them, replaced ones keep theirs.
#[cfg(unix)]
#[test]
fn permissions_are_those_of_other_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (usual, path) = (folder.path().join("usual"), folder.path().join("theta"));
    fs::write(&usual, "").unwrap();
    let theta = Star::untrained().theta().clone();
    theta.save(&path).unwrap();
    assert_eq!(mode(&path), mode(&usual));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
    theta.save(&path).unwrap();
    assert_eq!(mode(&path), 0o664);
}

/// Floats in descriptions round-trip exactly, so that the checksum matches.
#[test]
fn descriptions_round_trip_exactly() {
    use lopt_core::{Purpose, Streams, normal};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.safetensors");
    let mut rng = Streams::new(0).stream(Purpose::Evaluation, 0, 0, 0);
    let floats: Vec<f64> = (0..2000)
        .map(|i| f64::from(normal(&mut rng)) * (f64::from(i) * 0.7).exp2() / 3.0)
        .filter(|x| x.is_finite())
        .collect();
    file::write(&path, "test", &json!(floats), &[]).unwrap();
    assert_eq!(
        file::read(&path, "test").unwrap().description,
        json!(floats)
    );
}
