use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};
use lopt_core::{Error as CoreError, FolderLock, LearnedOptimizer, Theta, file};
use lopt_tasks::DataChecksums;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Error, GradientEstimator, HeldOutScore, OuterOptimizer, Result, Snapshot};

/// The program that created a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The version of lopt.
    pub version: String,
    /// The commit that it was built from, with a checksum of uncommitted changes, or "unknown".
    pub commit: String,
    /// The instruction set of the CPU kernels, on which the bits of the results depend.
    pub kernels: String,
}

impl Default for Provenance {
    /// Returns this version of the library with an unknown commit.
    fn default() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: "unknown".to_owned(),
            kernels: lopt_kernels::Isa::best().to_string(),
        }
    }
}

/// Where a run comes from: the file `run.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The program.
    #[serde(flatten)]
    pub provenance: Provenance,
    /// The full data sets.
    #[serde(default, skip_serializing_if = "DataChecksums::is_empty")]
    pub data: DataChecksums,
}

/// A run directory.
///
/// ```text
/// config.toml       the whole configuration
/// run.json          version and commit, checksums of full data sets
/// metrics.jsonl     one line for each outer step
/// checkpoints/      the newest checkpoints, from which the run can be resumed
/// unusable/         damaged checkpoints that a resumed run has passed over
/// best.safetensors  the θ with the best held-out score so far
/// theta.safetensors the final θ, once the run is complete
/// lock              locked while a process uses the directory
/// ```
pub struct RunDir {
    path: PathBuf,
    metrics: Option<File>,
    _lock: FolderLock,
}

/// Everything needed to resume a run, apart from its configuration.
pub struct Checkpoint<'a> {
    /// Identifies the run, by a digest of what may not change in its configuration.
    pub run: &'a str,
    /// The optimizer with the current θ.
    pub optimizer: &'a dyn LearnedOptimizer,
    /// The outer optimizer.
    pub outer: &'a OuterOptimizer,
    /// The state of the unrolls of all ranks.
    pub unrolls: Snapshot,
    /// The best held-out score so far and the outer step it belongs to.
    pub best: Option<(u64, HeldOutScore)>,
    /// The number of inner steps so far.
    pub inner_steps: u64,
}

/// The values read by [`RunDir::resume`].
pub(crate) struct Resumed {
    pub theta: Vec<f32>,
    pub outer_step: u64,
    pub best: Option<(u64, HeldOutScore)>,
    pub inner_steps: u64,
}

const CHECKPOINT: &str = "checkpoint";

impl RunDir {
    /// Creates a run directory, which is complete after [`RunDir::save_config`].
    ///
    /// # Errors
    /// Returns an error if the directory is not empty or cannot be written.
    pub fn create(path: &Path, origin: &Origin) -> Result<Self> {
        fs::create_dir_all(path).map_err(CoreError::io("create", path))?;
        if !is_free(path)? {
            return Err(problem(
                path,
                "is not empty; resume the run in it or choose another directory",
            ));
        }
        let run = Self {
            path: path.to_owned(),
            metrics: None,
            _lock: FolderLock::take(path)?,
        };
        let checkpoints = path.join("checkpoints");
        fs::create_dir_all(&checkpoints).map_err(CoreError::io("create", &checkpoints))?;
        let json =
            serde_json::to_string_pretty(origin).map_err(|e| problem(path, &e.to_string()))?;
        file::write_atomically(&path.join("run.json"), json.as_bytes())?;
        Ok(run)
    }

    /// Writes the configuration, a TOML text. In a new directory it is written after the first
    /// checkpoint, so that every directory with a configuration also has a checkpoint.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written; the previous one is then kept.
    pub fn save_config(&self, config: &str) -> Result<()> {
        let path = self.path.join("config.toml");
        Ok(file::write_atomically(&path, config.as_bytes())?)
    }

    /// Opens an existing run directory. Returns it with its configuration, a TOML text.
    ///
    /// # Errors
    /// Returns an error if the directory is not a run directory or another process is using it.
    pub fn open(path: &Path) -> Result<(Self, String)> {
        let config = path.join("config.toml");
        if !config.is_file() {
            return Err(problem(
                path,
                "is not a run directory: it has no config.toml; start a new run instead",
            ));
        }
        let text = fs::read_to_string(&config).map_err(CoreError::io("read", &config))?;
        let run = Self {
            path: path.to_owned(),
            metrics: None,
            _lock: FolderLock::take(path)?,
        };
        Ok((run, text))
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the program that created the run, and its data.
    ///
    /// # Errors
    /// Returns an error if `run.json` cannot be read.
    pub fn origin(&self) -> Result<Origin> {
        let path = self.path.join("run.json");
        let text = fs::read_to_string(&path).map_err(CoreError::io("read", &path))?;
        serde_json::from_str(&text).map_err(|e| CoreError::file(&path, e.to_string()).into())
    }

    /// Restores the parts of the run from the newest valid checkpoint and returns it with its
    /// content. Newer checkpoints, which cannot be used, are set aside with a warning.
    pub(crate) fn resume(
        &self,
        run: &str,
        optimizer: &dyn LearnedOptimizer,
        outer: &mut OuterOptimizer,
        estimator: &mut dyn GradientEstimator,
    ) -> Result<(Resumed, Vec<u8>)> {
        let mut failure = None;
        let mut unusable: Vec<PathBuf> = vec![];
        for (_, path) in self.checkpoints()?.into_iter().rev() {
            let read = fs::read(&path).map_err(CoreError::io("read", &path));
            let resumed = read.map_err(Error::from).and_then(|bytes| {
                let resumed = restore(&bytes, &path, run, optimizer, outer, estimator)?;
                Ok((resumed, bytes))
            });
            match resumed {
                Ok(resumed) => {
                    unusable.iter().try_for_each(|path| self.set_aside(path))?;
                    return Ok(resumed);
                }
                Err(error) => {
                    tracing::warn!("passing over a checkpoint that cannot be used: {error}");
                    failure.get_or_insert(error);
                    unusable.push(path);
                }
            }
        }
        let what = match failure {
            None => {
                "has no checkpoint to resume from; copy one from a backup into checkpoints/, or \
                     start a new run"
                    .to_owned()
            }
            Some(error) => format!("no checkpoint can be used; error of the newest: {error}"),
        };
        Err(problem(&self.path, &what))
    }

    /// Moves a checkpoint that cannot be used to the folder `unusable`, without replacing a file.
    fn set_aside(&self, path: &Path) -> Result<()> {
        let folder = self.path.join("unusable");
        fs::create_dir_all(&folder).map_err(CoreError::io("create", &folder))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let numbered = (2..).map(|number| format!("{name}.{number}"));
        let mut names = std::iter::once(name.to_string()).chain(numbered);
        let free = names.find(|name| !folder.join(name).exists());
        let aside = folder.join(free.unwrap_or_default());
        tracing::warn!("it is kept as {}", aside.display());
        Ok(fs::rename(path, &aside).map_err(CoreError::io("rename", path))?)
    }

    /// Writes a checkpoint and removes all but the newest `keep`.
    ///
    /// # Errors
    /// Returns an error if the checkpoint cannot be written; older ones are then kept.
    pub fn save_checkpoint(&self, checkpoint: Checkpoint, keep: usize) -> Result<()> {
        let Checkpoint {
            run,
            optimizer,
            outer,
            unrolls,
            best,
            inner_steps,
        } = checkpoint;
        let description = json!({
            "run": run,
            "optimizer": optimizer.theta().kind(),
            "outer_step": outer.step,
            "inner_steps": inner_steps,
            "best": best,
            "estimator": unrolls.description,
        });
        let vector = |values: &[f64]| Tensor::from_slice(values, values.len(), &Device::Cpu);
        let theta = optimizer.theta().values();
        let mut tensors = unrolls.tensors;
        tensors.push((
            "theta".to_owned(),
            Tensor::from_slice(theta, theta.len(), &Device::Cpu)?,
        ));
        tensors.push(("outer/m".to_owned(), vector(&outer.m)?));
        tensors.push(("outer/v".to_owned(), vector(&outer.v)?));
        // The metrics must be on disk before a checkpoint that follows them.
        if let Some(metrics) = &self.metrics {
            let path = self.metrics_path();
            metrics.sync_data().map_err(CoreError::io("write", &path))?;
        }
        let name = checkpoint_name(outer.step);
        let path = self.path.join("checkpoints").join(name);
        file::write(&path, CHECKPOINT, &description, &tensors)?;
        self.remove_old_checkpoints(keep)
    }

    /// Removes all checkpoints but the newest `keep`.
    pub(crate) fn remove_old_checkpoints(&self, keep: usize) -> Result<()> {
        let mut all = self.checkpoints()?;
        all.truncate(all.len().saturating_sub(keep));
        for (_, old) in all {
            fs::remove_file(&old).map_err(CoreError::io("remove", &old))?;
        }
        Ok(())
    }

    /// Opens the metrics and removes the lines after `outer_step`, whose outer steps will be
    /// computed again.
    pub(crate) fn open_metrics(&mut self, outer_step: u64) -> Result<()> {
        let path = self.metrics_path();
        if path.exists() {
            let kept = kept_lines(&path, outer_step)?;
            file::write_atomically(&path, kept.as_bytes())?;
        }
        let open = File::options().create(true).append(true).open(&path);
        self.metrics = Some(open.map_err(CoreError::io("write", &path))?);
        Ok(())
    }

    /// Appends a line to the metrics.
    pub(crate) fn log(&mut self, metrics: &Value) -> Result<()> {
        let path = self.metrics_path();
        let line = format!("{metrics}\n");
        match &mut self.metrics {
            Some(file) => {
                file.write_all(line.as_bytes())
                    .map_err(CoreError::io("write", &path))?;
                Ok(())
            }
            None => Err(problem(&self.path, "the metrics file is not open")),
        }
    }

    /// Writes the best θ so far.
    pub(crate) fn save_best(&self, theta: &Theta) -> Result<()> {
        Ok(theta.save(&self.best_path())?)
    }

    /// Writes the final θ.
    pub(crate) fn save_last(&self, theta: &Theta) -> Result<()> {
        Ok(theta.save(&self.path.join("theta.safetensors"))?)
    }

    /// Removes the final θ, because the run is not complete. The newest checkpoint has it too.
    pub(crate) fn remove_last(&self) -> Result<()> {
        remove(&self.path.join("theta.safetensors"))
    }

    /// Removes the best θ.
    pub(crate) fn remove_best(&self) -> Result<()> {
        remove(&self.best_path())
    }

    /// The path of the best θ.
    pub fn best_path(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }

    fn metrics_path(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// Returns the outer step and path of each checkpoint, oldest first.
    fn checkpoints(&self) -> Result<Vec<(u64, PathBuf)>> {
        let folder = self.path.join("checkpoints");
        let mut found = vec![];
        for entry in fs::read_dir(&folder).map_err(CoreError::io("read", &folder))? {
            let path = entry.map_err(CoreError::io("read", &folder))?.path();
            let step = path.file_name().and_then(|name| {
                name.to_str()?
                    .strip_prefix("step-")?
                    .strip_suffix(".safetensors")?
                    .parse()
                    .ok()
            });
            found.extend(step.map(|step| (step, path)));
        }
        found.sort();
        Ok(found)
    }
}

fn checkpoint_name(outer_step: u64) -> String {
    format!("step-{outer_step:08}.safetensors")
}

fn problem(path: &Path, problem: &str) -> Error {
    Error::RunDir {
        path: path.to_owned(),
        problem: problem.to_owned(),
    }
}

/// Whether the directory is empty, or contains only what is written before the configuration.
fn is_free(path: &Path) -> Result<bool> {
    for entry in fs::read_dir(path).map_err(CoreError::io("read", path))? {
        let entry = entry.map_err(CoreError::io("read", path))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = match name.as_str() {
            "lock" | "run.json" => true,
            "metrics.jsonl" => entry.metadata().is_ok_and(|metadata| metadata.len() == 0),
            "checkpoints" => fs::read_dir(entry.path()).is_ok_and(|all| {
                let initial = checkpoint_name(0);
                all.flatten()
                    .all(|file| file.file_name().to_string_lossy().contains(&initial))
            }),
            _ => name.starts_with('.') && name.ends_with(file::UNFINISHED),
        };
        if !ours {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns the lines of outer steps up to `outer_step`. What follows them is computed again, so it
/// may be damaged.
///
/// # Errors
/// Returns an error if a line among them is damaged.
fn kept_lines(path: &Path, outer_step: u64) -> Result<String> {
    let content = fs::read(path).map_err(CoreError::io("read", path))?;
    let mut kept = String::new();
    let mut last = 0;
    for (index, line) in content.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let text = std::str::from_utf8(line).ok();
        let step = text.filter(|text| text.ends_with('\n')).and_then(|text| {
            let metrics: Value = serde_json::from_str(text).ok()?;
            metrics["outer_step"].as_u64()
        });
        match (step, text) {
            (Some(step), Some(text)) if step <= outer_step => {
                kept.push_str(text);
                last = step;
            }
            (Some(_), _) => break,
            (None, _) if last >= outer_step => break,
            (None, _) if !line.ends_with(b"\n") => {
                tracing::warn!("{}: removing an unfinished last line", path.display());
            }
            (None, _) => {
                let what = format!(
                    "line {} is damaged; repair or remove it, then resume",
                    index + 1
                );
                return Err(CoreError::file(path, what).into());
            }
        }
    }
    if last < outer_step {
        tracing::warn!(
            "{}: the metrics of outer steps {} to {outer_step} are missing",
            path.display(),
            last + 1
        );
    }
    Ok(kept)
}

/// The first integer above 2⁵³, to which a step more could not be added safely.
fn too_large(description: &Value) -> Option<u64> {
    match description {
        Value::Number(number) => number.as_u64().filter(|count| *count > 1 << 53),
        Value::Array(values) => values.iter().find_map(too_large),
        Value::Object(entries) => entries.values().find_map(too_large),
        _ => None,
    }
}

/// Restores the parts of the run from the content of a checkpoint.
pub(crate) fn restore(
    bytes: &[u8],
    path: &Path,
    run: &str,
    optimizer: &dyn LearnedOptimizer,
    outer: &mut OuterOptimizer,
    estimator: &mut dyn GradientEstimator,
) -> Result<Resumed> {
    #[derive(Deserialize)]
    struct Description {
        run: String,
        optimizer: String,
        outer_step: u64,
        inner_steps: u64,
        best: Option<(u64, HeldOutScore)>,
        estimator: Value,
    }
    let mut contents = file::parse(bytes, path, CHECKPOINT)?;
    let description: Description = Deserialize::deserialize(&contents.description)
        .map_err(|e| CoreError::file(path, e.to_string()))?;
    let theta = optimizer.theta();
    if description.optimizer != theta.kind() {
        let what = format!(
            "belongs to the optimizer `{}`, not to `{}`",
            description.optimizer,
            theta.kind()
        );
        return Err(CoreError::file(path, what).into());
    }
    if description.run != run {
        let what = "belongs to a run with another configuration; in config.toml only `outer.steps` and the \
                    section `checkpoint` may be changed";
        return Err(CoreError::file(path, what).into());
    }
    if let Some(count) = too_large(&contents.description) {
        let what = format!("counts {count} of something, more than any run can");
        return Err(CoreError::file(path, what).into());
    }
    let n = theta.values().len();
    let mut vector = |name: &str, dtype: DType| -> Result<Tensor> {
        let tensor = contents.take(name, path)?;
        if tensor.dims() != [n] || tensor.dtype() != dtype {
            let (found, shape) = (tensor.dtype(), tensor.dims());
            let what = format!("`{name}` is {found:?} {shape:?}, not {dtype:?} [{n}]");
            return Err(CoreError::file(path, what).into());
        }
        Ok(tensor)
    };
    let values = vector("theta", DType::F32)?.to_vec1::<f32>()?;
    let m = vector("outer/m", DType::F64)?.to_vec1()?;
    let v = vector("outer/v", DType::F64)?.to_vec1()?;
    if !values.iter().all(|value| value.is_finite()) {
        return Err(CoreError::file(path, "contains a θ with NaN or inf").into());
    }
    estimator.restore(
        &description.estimator,
        &mut contents.tensors,
        optimizer,
        path,
    )?;
    (outer.step, outer.m, outer.v) = (description.outer_step, m, v);
    Ok(Resumed {
        theta: values,
        outer_step: description.outer_step,
        best: description.best,
        inner_steps: description.inner_steps,
    })
}

/// Removes a file, if it exists.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(CoreError::io("remove", path)(error).into())
        }
        _ => Ok(()),
    }
}
