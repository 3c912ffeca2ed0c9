//! `cargo xtask data verify`: compares the files of data sets with the published ones.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use lopt_datasets::{DatasetName, Finding, Report, verify};

/// Prints a report and fails if any data set is not sound; a missing data set is sound.
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
        format!("missing; {fetch} downloads it")
    } else if !report.is_loadable() {
        format!("CANNOT BE LOADED; {fetch} replaces the missing or broken files")
    } else if !report.is_sound() {
        format!("NOT CANONICAL; {fetch} replaces the files that differ")
    } else if report.is_complete() {
        "complete".to_owned()
    } else {
        "partial, but usable".to_owned()
    }
}

/// Describes a finding in words.
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
