//! Telling how the files of the data sets are.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use lopt_datasets::{DatasetName, Finding, Report, verify};

/// Fails if any data set is not sound; one that is missing is.
pub fn run(names: &[DatasetName], data_dir: &Path) -> Result<ExitCode> {
    let all = if names.is_empty() {
        &DatasetName::ALL
    } else {
        names
    };
    println!("{}", data_dir.display());
    let mut sound = true;
    for &name in all {
        let report = verify(name, data_dir)?;
        print(&report);
        sound &= report.is_sound();
    }
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(report: &Report) {
    println!("{}: {}", report.dataset, summary(report));
    if !report.is_missing() {
        for file in &report.files {
            println!("  {:24} {}", file.name, describe(&file.finding));
        }
    }
}

fn summary(report: &Report) -> String {
    let fetch = format!("`cargo xtask data fetch {}`", report.dataset);
    if report.is_missing() {
        format!("missing; {fetch} gets it")
    } else if !report.is_loadable() {
        format!("CANNOT BE LOADED; {fetch} replaces what is missing or broken")
    } else if !report.is_sound() {
        format!("NOT CANONICAL; {fetch} replaces what differs")
    } else if report.is_complete() {
        "complete".to_owned()
    } else {
        "a part of it, which can be used".to_owned()
    }
}

/// One finding in words.
pub fn describe(finding: &Finding) -> String {
    match finding {
        Finding::Canonical => "ok, the canonical file".to_owned(),
        Finding::WellFormed => "structure ok, no reference checksum".to_owned(),
        Finding::Partial { rows, of } => format!("partial: {rows} of {of} images"),
        Finding::Different { expected, found } => {
            format!("NOT CANONICAL: SHA-256 is {found}, expected {expected}")
        }
        Finding::Broken(problem) => format!("BROKEN: {problem}"),
        Finding::Missing => "missing".to_owned(),
    }
}
