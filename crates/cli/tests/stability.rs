//! Figures of stability by the real binary.

#[allow(dead_code)]
mod common;

use std::{fs, path::Path};

use common::{both, fail, lopt, output, succeed, tiny};

/// The lines of a table by their cells, the header first. All have the same number of cells.
fn table(file: &Path) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new();
    let reader = reader.has_headers(false).from_path(file);
    let records = reader.expect("a table").into_records();
    let cells = |record: csv::StringRecord| record.iter().map(str::to_owned).collect();
    records
        .map(|record| cells(record.expect("a line")))
        .collect()
}

#[test]
fn the_theory_is_drawn_and_its_numbers_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let text = succeed(here, &["stability"]);
    for name in [
        "eigenvalues",
        "stable-region",
        "losses",
        "meta-gradients",
        "robust-bounds",
        "cancelling",
        "shrinking-nominal",
        "momentum",
    ] {
        assert!(text.contains(name), "{text}");
        let svg = fs::read_to_string(here.join(format!("stability/{name}.svg"))).expect("a figure");
        assert!(svg.trim_end().ends_with("</svg>"));
        let lines = table(&here.join(format!("stability/{name}.csv")));
        assert!(lines.len() > 10, "{name}");
    }
    // Alone some eigenvalues are outside of the unit circle, with all means none.
    let radius = |means: &str| {
        let lines = table(&here.join("stability/eigenvalues.csv"));
        let of = lines.iter().filter(|line| line[0] == means);
        let norm = |line: &Vec<String>| -> f64 {
            let (re, im): (f64, f64) = (line[4].parse().unwrap(), line[5].parse().unwrap());
            re.hypot(im)
        };
        of.map(norm).fold(0.0, f64::max)
    };
    assert!(radius("blackbox alone") > 1.0 && radius("all three") < 1.0);
    // The same seed gives the same numbers.
    succeed(here, &["stability", "--out", "again"]);
    let read = |out: &str| fs::read(here.join(out).join("meta-gradients.csv")).unwrap();
    assert!(read("stability") == read("again"));
}

#[test]
fn meta_trained_optimizers_are_linearised_in_training() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    succeed(here, &tiny("star", &[]));
    succeed(here, &tiny("blackbox", &["--optimizer", "blackbox"]));
    let text = succeed(
        here,
        &[
            "stability",
            "--theta",
            "star/best.safetensors",
            "--theta",
            "blackbox/best.safetensors",
            "--task",
            "width 8",
            "--steps",
            "1,4",
            "--products",
            "20",
        ],
    );
    assert!(text.contains("nominal share"), "{text}");
    let out = here.join("stability/training");
    assert!(out.join("training.svg").is_file());
    let lines = table(&out.join("training.csv"));
    assert_eq!(lines.len(), 1 + 2 * 2);
    for line in &lines[1..] {
        let radius: f64 = line[3].parse().unwrap();
        assert!(radius > 0.9 && radius < 100.0, "{line:?}");
        let share: f64 = line[9].parse().unwrap();
        assert_eq!(share > 0.0, line[0].starts_with("star"), "{line:?}");
    }
}

#[test]
fn bad_input_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    succeed(here, &tiny("star", &[]));
    let star = "star/best.safetensors";
    let text = fail(here, &["stability", "--theta", star, "--task", "width 9"]);
    assert!(
        text.contains("no task `width 9`") && text.contains("width 8"),
        "{text}"
    );
    for option in [
        ["--task", "width 8"],
        ["--suite", "full"],
        ["--steps", "4"],
        ["--products", "9"],
        ["--device", "cpu"],
        ["--data-dir", "."],
    ] {
        let output = output(here, &["stability", option[0], option[1]]);
        assert_eq!(output.status.code(), Some(2), "{option:?}");
        assert!(
            both(&output).contains("--theta <FILE>"),
            "{}",
            both(&output)
        );
    }
    let text = fail(here, &["stability", "--theta", "none.safetensors"]);
    assert!(text.contains("none.safetensors"), "{text}");
    let text = fail(here, &["stability", "--theta", star, "--steps", "4,4"]);
    assert!(text.contains("ascend"), "{text}");
    assert!(!here.join("stability").exists());
}

/// In a terminal of 80 columns, help fits.
#[test]
fn help_is_wrapped() {
    for command in [
        "meta-train",
        "eval-ood",
        "grad-study",
        "reproduce",
        "stability",
        "watch",
    ] {
        let mut help = lopt(Path::new("."), &[command, "--help"]);
        let output = help.env("COLUMNS", "80").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let long = text.lines().find(|line| line.chars().count() > 80);
        assert_eq!(long, None, "{command}");
    }
}
