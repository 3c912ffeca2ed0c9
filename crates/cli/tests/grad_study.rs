//! The study of gradient estimators by the real binary, on real images.

#[allow(dead_code)]
mod common;

use std::{collections::BTreeMap, fs, path::Path};

use common::{command, fail, fail_of, succeed};

/// A study of a second.
fn arguments<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["grad-study", "--truncation", "2", "--samples", "4"];
    for setting in ["task.hidden=[[4]]", "task.batch-size=[8]"] {
        arguments.extend(["--set", setting]);
    }
    arguments.extend(["--out", out]);
    arguments.extend(more);
    arguments
}

/// Numbers of a row by optimizer, estimator and length.
fn rows(out: &Path) -> BTreeMap<(String, String, u64), Vec<f64>> {
    let text = fs::read_to_string(out.join("grad-study.csv")).expect("a table");
    let mut lines = text.lines();
    assert_eq!(
        lines.next(),
        Some("optimizer,estimator,length,norm,cosine,sample_cosine,deviation,largest")
    );
    let row = |line: &str| {
        let cells: Vec<_> = line.split(',').collect();
        let length = cells[2].parse().expect("a length");
        let numbers = cells[3..].iter().map(|x| x.parse().expect("a number"));
        let key = (cells[0].to_owned(), cells[1].to_owned(), length);
        (key, numbers.collect())
    };
    lines.map(row).collect()
}

#[test]
fn a_study_writes_its_table_and_figures() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let text = succeed(here, &arguments("study", &["--lengths", "2,4"]));
    assert!(text.contains("single cosine"), "{text}");
    let rows = rows(&here.join("study"));
    let of = |optimizer: &str, estimator: &str, length| {
        &rows[&(optimizer.to_owned(), estimator.to_owned(), length)]
    };
    for optimizer in ["star", "blackbox"] {
        for length in [2, 4] {
            let cosine = of(optimizer, "exact", length)[1];
            assert!((cosine - 1.0).abs() < 1e-12, "{optimizer}: {cosine}");
        }
        // Unrolls of one truncation have nothing to cut off and nothing to persist.
        assert_eq!(of(optimizer, "exact", 2), of(optimizer, "backprop", 2));
        assert_eq!(of(optimizer, "full-es", 2), of(optimizer, "pes", 2));
        assert_eq!(of(optimizer, "pes", 2), of(optimizer, "es", 2));
        // Of two they have.
        assert_ne!(of(optimizer, "exact", 4), of(optimizer, "backprop", 4));
        assert_ne!(of(optimizer, "full-es", 4), of(optimizer, "pes", 4));
        assert_ne!(of(optimizer, "pes", 4), of(optimizer, "es", 4));
        for figure in ["cosine", "deviation", "norm"] {
            let file = here.join(format!("study/{optimizer}-{figure}.svg"));
            let svg = fs::read_to_string(&file).expect("a figure");
            assert!(svg.contains("full-es") && svg.contains("length of the unroll"));
        }
    }
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let table = |threads: &str| {
        let more = ["--lengths", "4", "--threads", threads];
        succeed(folder.path(), &arguments(threads, &more));
        fs::read(folder.path().join(threads).join("grad-study.csv")).unwrap()
    };
    assert!(table("1") == table("3"));
}

#[test]
fn bad_input_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let study = |more: &[&str]| fail(here, &arguments("study", more));
    assert!(study(&["--sigma", "0"]).contains("--sigma must be positive"));
    let text = study(&["--lengths", "3"]);
    assert!(text.contains('3') && text.contains("truncation"), "{text}");
    let text = study(&["--theta", "missing.safetensors"]);
    assert!(text.contains("missing.safetensors"), "{text}");
    let text = study(&["--set", "task.hiden=[[4]]"]);
    assert!(text.contains("hiden"), "{text}");
    let text = study(&["--set", "estimator.truncation=7"]);
    assert!(text.contains("has no effect here"), "{text}");
    assert!(!here.join("study").exists());
}

/// Each of several processes would do the same and write the same files.
#[test]
fn a_launcher_of_several_processes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for size in ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"] {
        for name in ["grad-study", "eval-ood"] {
            let mut lopt = command(folder.path(), common::LOPT, &[name]);
            lopt.env(size, "2");
            let text = fail_of(lopt);
            assert!(text.contains("started as 2 processes"), "{text}");
        }
    }
}
