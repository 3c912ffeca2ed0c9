//! Rows of the table for meta-training runs of `lopt`.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use lopt_benches::{inner::NetworkSize, timing::median};
use lopt_datasets::DatasetName;
use serde_json::Value;

use crate::table::{Row, Target};

/// Approximate duration of a run.
const SECONDS: f64 = 3.0;
/// Inner steps per outer step: 8 antithetic pairs × 50 steps, both halves counted.
const INNER_STEPS: f64 = 800.0;

/// Source of the images.
pub enum Source {
    Embedded,
    Full(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Embedded => f.write_str("embedded subset"),
            Source::Full(folder) => write!(f, "full set from {}", folder.display()),
        }
    }
}

/// The full data set if it exists, else the embedded subset.
pub fn source(data_dir: Option<&Path>) -> Source {
    let folder = lopt_datasets::data_dir(data_dir);
    let full = folder.join(DatasetName::FashionMnist.to_string()).is_dir();
    match full {
        true => Source::Full(folder),
        false => Source::Embedded,
    }
}

/// Speed, memory and startup time of PES with STAR on one network.
///
/// # Errors
/// Returns an error if the program cannot be run or fails.
pub fn rows(lopt: &Path, source: &Source, size: NetworkSize, rounds: usize) -> Result<Vec<Row>> {
    let first = measure(lopt, source, size, 3)?;
    let steps = (SECONDS * first.inner_steps_per_second / INNER_STEPS).ceil() as u64;
    let runs: Vec<Figures> = (0..rounds)
        .map(|_| measure(lopt, source, size, steps.max(3)))
        .collect::<Result<_>>()?;
    let of = |figure: fn(&Figures) -> f64| median(runs.iter().map(figure).collect());
    let work = format!("PES with STAR, {size}");
    let speed = match size.sizes()[..] {
        [784, 32, 10] => Target::AtLeast(15e3),
        [196, 32, 10] => Target::AtLeast(50e3),
        [64, 32, 10] => Target::AtLeast(95e3),
        [784, 128, 128, 10] => Target::AtLeast(3.5e3),
        _ => Target::None,
    };
    let mut rows = vec![
        Row::new(
            format!("{work}: {}", first.path),
            of(|run| run.inner_steps_per_second),
            "inner steps/s",
        )
        .target(speed),
        Row::new(
            format!("{work}: start to first meta-step"),
            of(|run| run.first_step),
            "s",
        )
        .target(Target::AtMost(1.0)),
    ];
    let data = source.megabytes(size);
    let peaks: Option<Vec<f64>> = runs.iter().map(|run| run.peak_megabytes).collect();
    rows.extend(peaks.map(|peaks| {
        let beyond = median(peaks) - data;
        Row::new(
            format!("{work}: peak memory beyond {data:.0} MB of data"),
            beyond,
            "MB",
        )
        .target(Target::AtMost(150.0))
    }));
    Ok(rows)
}

impl Source {
    fn megabytes(&self, size: NetworkSize) -> f64 {
        let images = match self {
            Source::Embedded => 12e3,
            Source::Full(_) => 70e3,
        };
        // Images that are not resized are stored as bytes, others as f32.
        let bytes = if size.image_size == 28 { 1 } else { 4 };
        images * (bytes * size.sizes()[0] + 1) as f64 / 1e6
    }
}

struct Figures {
    inner_steps_per_second: f64,
    /// Seconds from the start of the process to the first outer step.
    first_step: f64,
    /// `None` where the system does not report it.
    peak_megabytes: Option<f64>,
    path: String,
}

/// Runs the program for `steps` outer steps.
fn measure(lopt: &Path, source: &Source, size: NetworkSize, steps: u64) -> Result<Figures> {
    let folder = tempfile::tempdir()?;
    let run_dir = folder.path().join("run");
    let log = folder.path().join("log");
    let mut command = Command::new(lopt);
    command.args(["meta-train", "--run-dir"]).arg(&run_dir);
    for setting in [
        format!("task.image-size=[{}]", size.image_size),
        format!("task.hidden=[{:?}]", size.hidden),
        format!("outer.steps={steps}"),
        // The last outer step is evaluated in any case.
        "held-out.every=1000000".to_owned(),
        "held-out.horizon=1".to_owned(),
    ] {
        command.args(["--set", &setting]);
    }
    if let Source::Full(data) = source {
        command
            .args(["--set", "task.source=full", "--data-dir"])
            .arg(data);
    }
    let output = || fs::File::create(&log).context("cannot write a temporary file");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output()?);
    let start = Instant::now();
    let child = command.spawn();
    let mut child = child.with_context(|| format!("cannot run {}", lopt.display()))?;
    let metrics = run_dir.join("metrics.jsonl");
    let mut first_step = None;
    let mut peak_megabytes = None;
    let status = loop {
        if first_step.is_none() && fs::metadata(&metrics).is_ok_and(|file| file.len() > 0) {
            first_step = Some(start.elapsed().as_secs_f64());
        }
        peak_megabytes = peak(&child).or(peak_megabytes);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        thread::sleep(Duration::from_millis(2));
    };
    let log = fs::read_to_string(&log)?;
    if !status.success() {
        bail!("{} meta-train ended with {status}:\n{log}", lopt.display());
    }
    let path = log
        .lines()
        .find_map(|line| line.strip_prefix("inner steps: "));
    let seconds = seconds_per_outer_step(&metrics)?;
    Ok(Figures {
        inner_steps_per_second: INNER_STEPS / seconds,
        first_step: first_step.unwrap_or(f64::NAN),
        peak_megabytes,
        path: path.unwrap_or_default().to_owned(),
    })
}

/// The median over the outer steps of a run.
fn seconds_per_outer_step(metrics: &Path) -> Result<f64> {
    let mut seconds = vec![];
    for line in fs::read_to_string(metrics)?.lines() {
        let line: Value = serde_json::from_str(line)?;
        seconds.extend(line["seconds"].as_f64());
    }
    if seconds.is_empty() {
        bail!("{} contains no `seconds`", metrics.display());
    }
    Ok(median(seconds))
}

/// Peak memory of the process in megabytes, where the system reports it (Linux).
fn peak(child: &Child) -> Option<f64> {
    peak_of(&fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?)
}

/// Peak memory in megabytes according to the contents of `/proc/PID/status`.
pub fn peak_of(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0 / 1e6)
}
