//! A run that takes more outer steps than planned, and one that starts from another's θ.

use std::{fs, path::Path};

use lopt_core::Theta;

use crate::{
    common::{fail, succeed, tiny},
    reference,
    runs::{checkpoints, metrics},
};

#[test]
fn a_complete_run_can_be_extended() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let constant = ["--set", "outer.schedule=constant"];
    let whole = reference(here, &constant);
    let short = [&constant[..], &["--set", "outer.steps=8"]].concat();
    succeed(here, &tiny("extended", &short));
    let config = here.join("extended/config.toml");
    let before = fs::read(&config).unwrap();

    let resume = |setting| ["meta-train", "--resume", "extended", "--set", setting];
    for (setting, words) in [
        ("outer.steps=7", "has already taken 8 outer steps"),
        ("outer.steps=0", "at least 1"),
        ("outer.steps=many", "only outer.steps=NUMBER"),
        ("seed=1", "only outer.steps=NUMBER"),
    ] {
        let text = fail(here, &resume(setting));
        assert!(text.contains(words), "{setting}: {text}");
        assert_eq!(fs::read(&config).unwrap(), before, "{setting}");
    }
    let text = succeed(here, &resume("outer.steps=12"));
    assert!(text.contains("12 outer steps, the last 4"), "{text}");
    let extended = here.join("extended");
    assert_eq!(metrics(&whole), metrics(&extended));
    let theta = |run: &Path| fs::read(run.join("theta.safetensors")).unwrap();
    assert!(theta(&whole) == theta(&extended));
    assert!(checkpoints(&whole) == checkpoints(&extended));
    // Its provenance says how long the run was to be when it was found.
    let best = |run: &Path| Theta::load(&run.join("best.safetensors")).unwrap();
    assert_eq!(best(&whole).values(), best(&extended).values());
    // The run remembers its new length.
    let text = succeed(here, &["meta-train", "--resume", "extended"]);
    assert!(text.contains("complete after 12 outer steps"), "{text}");
}

#[test]
fn a_run_can_start_from_another_theta() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let first = reference(here, &[]).join("theta.safetensors");
    // An outer step of 1e-30 changes no bit of a value of 1e-3.
    let still = [
        "--set",
        "outer.steps=1",
        "--set",
        "outer.learning-rate=1e-30",
    ];
    let init = ["--init", "reference/theta.safetensors", "--seed", "3"];
    succeed(here, &tiny("second", &[&still[..], &init].concat()));
    let values = |path| Theta::load(path).unwrap().values().to_vec();
    let second = here.join("second");
    assert_eq!(values(&second.join("theta.safetensors")), values(&first));
    let config = fs::read_to_string(second.join("config.toml")).unwrap();
    assert!(
        config.contains("init = \"reference/theta.safetensors\""),
        "{config}"
    );

    // The file is not needed any more.
    fs::rename(&first, here.join("moved.safetensors")).unwrap();
    succeed(
        here,
        &["meta-train", "--resume", "second", "--set", "outer.steps=2"],
    );
    assert_eq!(metrics(&second).len(), 2);

    let text = fail(here, &tiny("third", &init));
    assert!(text.contains("reference/theta.safetensors"), "{text}");
    let other = ["--init", "moved.safetensors", "--optimizer", "blackbox"];
    let text = fail(here, &tiny("third", &other));
    assert!(
        text.contains("has the θ of a `star`, not of a `blackbox`"),
        "{text}"
    );
    assert!(!here.join("third").exists());
}
