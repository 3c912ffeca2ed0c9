use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use candle_core::Device;
use lopt_core::{FolderLock, Workers, file};
use lopt_tasks::{DataChecksums, DataStore, LoadedTask, suite};
use serde::Serialize;

use crate::{
    Contender, Error, Outcome, Result, Settings, TaskReport,
    runs::{Runner, Runs},
    task_run::TaskRun,
};

/// An evaluation of a suite.
#[derive(Clone, Copy)]
pub struct Evaluation<'a> {
    /// What is compared, on which tasks.
    pub settings: &'a Settings,
    /// The contenders of the settings.
    pub contenders: &'a [Contender],
    /// The device to train on.
    pub device: &'a Device,
    /// The threads; results do not depend on their number.
    pub workers: Workers,
    /// The folder of the results.
    pub out: &'a Path,
    /// The folder of another evaluation, whose runs of tuned baselines are used again.
    pub reuse: Option<&'a Path>,
    /// Set by the caller to stop.
    pub stop: &'a AtomicBool,
}

/// The progress of an evaluation.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The evaluation starts. It has this many training steps, some of which may already be done.
    Total(u64),
    /// This many training steps were done before.
    Kept(u64),
    /// This many training steps were taken, or turned out not to be needed.
    Steps(u64),
    /// A task is finished.
    Task(&'a TaskReport),
}

/// Evaluates the suite.
///
/// Each finished task is saved in `out`, and so is each training run that takes longer than a
/// second: the same call resumes after them if it was interrupted. With `reuse`, the runs of the
/// tuned baselines are taken from another evaluation where it has them. As a check, one of these runs of
/// each baseline is repeated on each task, if possible one at the best learning rate.
///
/// # Errors
/// Returns an error if `out` holds results of other settings, is in use by another process or cannot
/// be written, `reuse` is not the folder of an evaluation, a run from there cannot be repeated bit
/// for bit, a task fails, or the data of all tasks are missing, and [`Error::Stopped`] once `stop` is
/// set.
pub fn evaluate(
    evaluation: Evaluation,
    store: &mut DataStore,
    observer: &(dyn Fn(Event) + Sync),
) -> Result<Vec<TaskReport>> {
    let Evaluation { settings, out, .. } = evaluation;
    settings.check()?;
    let entries = settings.entries()?;
    let _lock = claim(out, settings)?;
    same_data(evaluation, &entries, store)?;
    let runs = Runs::new(out, evaluation.reuse)?;
    let runners = Runner::all(settings, evaluation.contenders);
    let cost = |entry: &suite::Entry| settings.steps(entry.horizon);
    observer(Event::Total(entries.iter().map(cost).sum()));
    let mut reports = vec![];
    for (index, entry) in entries.into_iter().enumerate() {
        let path = task_file(out, index);
        let report = match read_report(&path, &entry, settings)? {
            Some(report) => {
                observer(Event::Kept(cost(&entry)));
                report
            }
            None => {
                let outcome = match entry.task.load(store, evaluation.device) {
                    Err(error) if error.is_missing_data() => {
                        observer(Event::Kept(cost(&entry)));
                        Outcome::Skipped {
                            reason: error.to_string(),
                        }
                    }
                    task => {
                        let LoadedTask { task, examples } = task?;
                        let run = TaskRun {
                            evaluation,
                            runs: &runs,
                            runners: &runners,
                            observer,
                            entry: &entry,
                            task,
                            examples,
                            index: index as u64,
                        };
                        run.compare()?
                    }
                };
                let report = TaskReport { entry, outcome };
                // A skipped task is tried again next time.
                if matches!(report.outcome, Outcome::Done { .. }) {
                    write_report(&path, &report)?;
                }
                report
            }
        };
        observer(Event::Task(&report));
        reports.push(report);
    }
    nothing_done(&reports).map_or(Ok(reports), Err)
}

/// An error if all tasks were skipped.
fn nothing_done(reports: &[TaskReport]) -> Option<Error> {
    let reasons = reports.iter().map(|report| match &report.outcome {
        Outcome::Skipped { reason } => Some(&**reason),
        Outcome::Done { .. } => None,
    });
    let mut reasons: Vec<&str> = reasons.collect::<Option<_>>()?;
    reasons.sort_unstable();
    reasons.dedup();
    Some(Error::NothingEvaluated(reasons.join("; ")))
}

/// The file of a finished task.
pub(crate) fn task_file(out: &Path, index: usize) -> PathBuf {
    out.join("tasks").join(format!("{index:03}.safetensors"))
}

/// Creates `out` for these settings, or checks that it holds results of the same settings. Other
/// processes cannot write there until what is returned is dropped.
pub(crate) fn claim(out: &Path, settings: &Settings) -> Result<FolderLock> {
    let tasks = out.join("tasks");
    fs::create_dir_all(&tasks).map_err(lopt_core::Error::io("create", &tasks))?;
    let lock = FolderLock::take(out)?;
    let path = out.join("settings.json");
    if path.exists() {
        let text = fs::read_to_string(&path).map_err(lopt_core::Error::io("read", &path))?;
        if serde_json::from_str(&text).ok().as_ref() != Some(settings) {
            return Err(Error::Settings(format!(
                "{} holds results of other settings (optimizers, suite, seeds, program, CPU or \
                 device); use another folder or remove this one",
                out.display()
            )));
        }
        return Ok(lock);
    }
    write_json(&path, settings)?;
    Ok(lock)
}

/// Checks that the full data sets of the tasks are those of the results in the folders of this and
/// of the other evaluation, and saves their checksums.
fn same_data(
    evaluation: Evaluation,
    entries: &[suite::Entry],
    store: &mut DataStore,
) -> Result<()> {
    let found = store.checksums(entries.iter().filter_map(|entry| entry.task.full_dataset()))?;
    if let Some(other) = evaluation.reuse {
        read_data(&other.join(DATA))?.add(&found)?;
    }
    let path = evaluation.out.join(DATA);
    let mut data = read_data(&path)?;
    data.add(&found)?;
    match data.is_empty() {
        true => Ok(()),
        false => write_json(&path, &data),
    }
}

/// The file of the checksums of full data sets.
const DATA: &str = "data.json";

fn read_data(path: &Path) -> Result<DataChecksums> {
    let Some(bytes) = read_file(path)? else {
        return Ok(DataChecksums::default());
    };
    let parsed = serde_json::from_slice(&bytes);
    Ok(parsed.map_err(|error| lopt_core::Error::file(path, error.to_string()))?)
}

/// Reads a file; `None` if it does not exist.
fn read_file(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(lopt_core::Error::io("read", path)(error).into()),
    }
}

/// The kind of the file of a finished task.
const TASK_REPORT: &str = "task-report";

/// Reads a finished task; `None` if the file is missing, damaged, or of another task or other
/// settings.
pub(crate) fn read_report(
    path: &Path,
    entry: &suite::Entry,
    settings: &Settings,
) -> Result<Option<TaskReport>> {
    let bytes = read_file(path)?;
    let contents = bytes.and_then(|bytes| file::parse(&bytes, path, TASK_REPORT).ok());
    let report = contents.and_then(|found| serde_json::from_value(found.description).ok());
    let fits = |report: &TaskReport| report.entry == *entry && report.outcome.fits(settings);
    Ok(report.filter(fits))
}

fn write_report(path: &Path, report: &TaskReport) -> Result<()> {
    let description = serde_json::to_value(report)
        .map_err(|e| Error::Settings(format!("{}: {e}", path.display())))?;
    Ok(file::write(path, TASK_REPORT, &description, &[])?)
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::Settings(format!("{}: {e}", path.display())))?;
    Ok(file::write_atomically(path, text.as_bytes())?)
}
