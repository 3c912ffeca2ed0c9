//! Claims of the paper by the real binary.

#[allow(dead_code)]
mod common;

use std::fs;

use common::{both, fail, output, succeed};

#[test]
fn claims_are_reproduced_and_meta_trainings_shared() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let arguments = |claim: &'static str| {
        let settings = ["--seeds", "2", "--outer-steps", "10", "--out", "r"];
        [&["reproduce", claim], &settings[..]].concat()
    };
    let run = |claim| succeed(here, &arguments(claim));
    let text = run("C1");
    assert!(
        text.contains("STAR meta-trains faster than the blackbox"),
        "{text}"
    );
    let table = fs::read_to_string(here.join("r/C1.md")).unwrap();
    assert!(
        table.contains("edian over 2 meta-training seeds"),
        "{table}"
    );
    let runs = || {
        let entries = fs::read_dir(here.join("r/runs")).unwrap();
        let mut runs: Vec<_> = entries.map(|run| run.unwrap().path()).collect();
        runs.sort();
        runs
    };
    assert_eq!(runs().len(), 6);
    let changed = || -> Vec<_> {
        let metrics = runs().into_iter().map(|run| run.join("metrics.jsonl"));
        metrics.map(|file| fs::read(file).unwrap()).collect()
    };
    let before = changed();
    // C2 looks at the same runs, by another name of the claim.
    let text = run("c2");
    assert!(text.contains("deviates less over seeds"), "{text}");
    assert!(!text.contains("meta-training STAR"), "{text}");
    assert_eq!(changed(), before);
    // A run of another configuration is not taken for this one.
    let config = here.join("r/runs/STAR-10-seed0/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("sigma = 0.01", "sigma = 0.02")).unwrap();
    let text = fail(here, &arguments("C1"));
    assert!(
        text.contains("STAR-10-seed0 is a run of another configuration"),
        "{text}"
    );
    for claim in ["C1", "C2"] {
        let table = fs::read_to_string(here.join(format!("r/{claim}.md"))).unwrap();
        assert!(table.starts_with(&format!("## {claim}: ")) && table.contains("blackbox"));
        let figure = fs::read_to_string(here.join(format!("r/{claim}.svg"))).unwrap();
        assert!(figure.trim_end().ends_with("</svg>"));
    }
}

#[test]
fn bad_input_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let misspelt = output(here, &["reproduce", "C9"]);
    assert_eq!(misspelt.status.code(), Some(2));
    let text = both(&misspelt);
    assert!(text.contains("C9") && text.contains("C6"), "{text}");
    let text = fail(here, &["reproduce", "C1", "C2", "--seeds", "1"]);
    assert!(text.contains("C2 compares meta-training seeds"), "{text}");
    assert!(!here.join("reproduction").exists());
    fs::create_dir_all(here.join("r/runs/STAR-3-seed0")).unwrap();
    fs::write(here.join("r/runs/STAR-3-seed0/something"), "else").unwrap();
    let text = fail(
        here,
        &["reproduce", "C1", "--outer-steps", "3", "--out", "r"],
    );
    assert!(
        text.contains("STAR-3-seed0") && text.contains("remove it"),
        "{text}"
    );
}
