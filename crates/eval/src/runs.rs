use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use candle_core::{Device, Tensor};
use lopt_core::{Optimizer, file};
use lopt_tasks::{TestScore, suite};
use serde_json::{Value, json};

use crate::{Contender, Curve, Error, Result, Settings};

/// The kind of these files.
const KIND: &str = "training-run";
/// Runs that take less time than this are repeated rather than kept.
const WORTH_KEEPING: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 1 });

/// An optimizer of an evaluation, with everything that determines its runs on a task.
pub struct Runner {
    pub optimizer: Arc<dyn Optimizer>,
    identity: Value,
    /// Whether it is a tuned baseline at one of its learning rates.
    baseline: bool,
}

impl Runner {
    /// The contenders, then each tuned baseline at each learning rate.
    pub fn all(settings: &Settings, contenders: &[Contender]) -> Vec<Self> {
        let contenders = contenders.iter().map(|c| Self {
            optimizer: c.optimizer.clone(),
            identity: json!([c.name, c.identity]),
            baseline: false,
        });
        let baselines = settings.tuned.iter().flat_map(|tuning| {
            tuning.grid.iter().map(|&rate| Self {
                optimizer: tuning.baseline.optimizer(rate),
                identity: json!([tuning.baseline, rate]),
                baseline: true,
            })
        });
        contenders.chain(baselines).collect()
    }
}

/// Where a run was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the folder of this evaluation.
    Own,
    /// In the folder of another evaluation.
    Other,
}

/// The long runs of an evaluation, each in a file of its own, and those of the tuned baselines in
/// another evaluation.
pub struct Runs {
    own: PathBuf,
    other: Option<PathBuf>,
}

impl Runs {
    /// The runs in the folder of this evaluation, and of another one.
    pub fn new(out: &Path, other: Option<&Path>) -> Result<Self> {
        let own = out.join("runs");
        std::fs::create_dir_all(&own).map_err(lopt_core::Error::io("create", &own))?;
        if let Some(folder) = other.filter(|folder| !folder.join("runs").is_dir()) {
            let problem = format!("{} is not the folder of an evaluation", folder.display());
            return Err(Error::Settings(problem));
        }
        let other = other.map(|folder| folder.join("runs"));
        Ok(Self { own, other })
    }

    /// Whether there is a file of this run.
    pub fn has(&self, entry: &suite::Entry, runner: &Runner, seed: u64) -> bool {
        let name = name(&describe(entry, runner, seed));
        let mut folders = self.folders(runner);
        folders.any(|(_, folder)| folder.join(&name).exists())
    }

    /// A finished run; `None` if it is missing or damaged. The file does not have the upper bound of the
    /// losses, which belongs to the task.
    pub fn find(
        &self,
        entry: &suite::Entry,
        runner: &Runner,
        seed: u64,
    ) -> Option<(Curve, Source)> {
        let description = describe(entry, runner, seed);
        let name = name(&description);
        let mut found = self.folders(runner).filter_map(|(source, folder)| {
            let curve = read(&folder.join(&name), &description)?;
            (curve.losses.len() as u64 == entry.horizon).then_some((curve, source))
        });
        found.next()
    }

    /// Keeps a run that took long enough.
    pub fn keep(
        &self,
        entry: &suite::Entry,
        runner: &Runner,
        seed: u64,
        curve: &Curve,
        took: Duration,
    ) -> Result<()> {
        if took < WORTH_KEEPING {
            return Ok(());
        }
        let description = describe(entry, runner, seed);
        let vector = |values: Vec<f32>| -> Result<Tensor> {
            let tensor = Tensor::new(values, &Device::Cpu);
            Ok(tensor.map_err(lopt_core::Error::from)?)
        };
        let test = curve.tests.iter().flatten();
        let tensors = [
            ("losses".to_owned(), vector(curve.losses.clone())?),
            (
                "not-finite".to_owned(),
                vector(vec![curve.not_finite.into()])?,
            ),
            (
                "test".to_owned(),
                vector(test.flat_map(|t| [t.loss, t.accuracy]).collect())?,
            ),
        ];
        let path = self.own.join(name(&description));
        Ok(file::write(&path, KIND, &description, &tensors)?)
    }

    /// The folders where the runs of this optimizer may be.
    fn folders(&self, runner: &Runner) -> impl Iterator<Item = (Source, &Path)> {
        let other = self.other.as_deref().filter(|_| runner.baseline);
        let own = std::iter::once((Source::Own, &*self.own));
        own.chain(other.map(|folder| (Source::Other, folder)))
    }
}

/// Everything that determines a run, but for the program and the machine.
fn describe(entry: &suite::Entry, runner: &Runner, seed: u64) -> Value {
    json!({
        "task": entry.task,
        "horizon": entry.horizon,
        "seed": seed,
        "optimizer": runner.identity,
    })
}

fn name(description: &Value) -> String {
    let digits = &file::sha256(description.to_string())[..32];
    format!("{digits}.safetensors")
}

fn read(path: &Path, description: &Value) -> Option<Curve> {
    let mut contents = file::read(path, KIND).ok()?;
    if contents.description != *description {
        return None;
    }
    let mut vector = |name: &str| contents.take(name, path).ok()?.to_vec1::<f32>().ok();
    let test = vector("test")?;
    let test = test
        .first_chunk()
        .map(|&[loss, accuracy]| TestScore { loss, accuracy });
    Some(Curve {
        losses: vector("losses")?,
        ceiling: f32::INFINITY,
        not_finite: vector("not-finite")? != [0.0],
        tests: vec![test],
    })
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::atomic::{AtomicBool, AtomicU64, Ordering},
    };

    use lopt_core::{Workers, file::Contents};
    use lopt_tasks::{DataStore, suite::Suite};
    use lopt_tests::{Attack, Checksum, temporary_folder};

    use super::*;
    use crate::{Evaluation, Event, Outcome, TaskReport, Tuning, evaluate, untuned};

    /// An evaluation of the group `batch-size`, with the number of training steps that were taken.
    fn evaluated(
        out: &Path,
        reuse: Option<&Path>,
        program: &str,
    ) -> Result<(Vec<TaskReport>, u64)> {
        let contenders = untuned();
        let mut settings = Settings::new(Suite::Quick, 1, program.into(), &contenders);
        settings.groups = vec!["batch-size".to_owned()];
        settings.adam_horizons = 1;
        let grids = settings.tuned.iter_mut();
        grids.for_each(|tuning: &mut Tuning| tuning.grid.truncate(2));
        let taken = AtomicU64::new(0);
        let evaluation = Evaluation {
            settings: &settings,
            contenders: &contenders,
            device: &Device::Cpu,
            workers: Workers::new(None),
            out,
            reuse,
            stop: &AtomicBool::new(false),
        };
        let reports = evaluate(evaluation, &mut DataStore::default(), &|event| {
            if let Event::Steps(steps) = event {
                taken.fetch_add(steps, Ordering::Relaxed);
            }
        })?;
        Ok((reports, taken.into_inner()))
    }

    fn files(out: &Path) -> Vec<PathBuf> {
        let folder = fs::read_dir(out.join("runs")).unwrap();
        folder.map(|file| file.unwrap().path()).collect()
    }

    #[test]
    fn runs_are_kept_and_reused() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (&folder.path().join("1"), &folder.path().join("2"));
        let (reports, taken) = evaluated(first, None, "program").unwrap();
        // Two tasks of 500 steps; two contenders, three baselines at two learning rates, and
        // Adam's continuation.
        assert_eq!((taken, files(first).len()), (2 * 9 * 500, 16));

        // An interrupted evaluation takes only the steps that are missing.
        fs::remove_dir_all(first.join("tasks")).unwrap();
        fs::remove_file(files(first).pop().unwrap()).unwrap();
        fs::write(files(first).pop().unwrap(), "damaged").unwrap();
        let (again, taken) = evaluated(first, None, "program").unwrap();
        assert_eq!((&again, taken, files(first).len()), (&reports, 4 * 500, 16));

        // Another one repeats the contenders.
        let (other, taken) = evaluated(second, Some(first), "another").unwrap();
        assert_eq!(
            (&other, taken, files(second).len()),
            (&reports, 2 * 3 * 500, 4)
        );

        assert!(matches!(
            evaluated(&folder.path().join("3"), Some(&folder.path().join("none")), "x"),
            Err(Error::Settings(message)) if message.contains("none is not the folder")
        ));
    }

    /// Also if the best run of a baseline is one of this evaluation's own, and only others are reused.
    #[test]
    fn runs_that_cannot_be_repeated_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (&folder.path().join("1"), &folder.path().join("2"));
        let (reports, _) = evaluated(first, None, "program").unwrap();
        let (partly, _) = evaluated(second, None, "program").unwrap();
        assert_eq!(reports, partly);
        fs::remove_dir_all(second.join("tasks")).unwrap();
        let Outcome::Done { tuned, .. } = &reports[0].outcome else {
            panic!("{reports:?}");
        };
        let best = json!([tuned[0].baseline, tuned[0].learning_rate]);
        let of_adam = |description: &Value| description["optimizer"][0] == "adam";
        for path in files(first) {
            let mut contents = file::read(&path, KIND).unwrap();
            if of_adam(&contents.description) {
                let mut losses = contents.tensors["losses"].to_vec1::<f32>().unwrap();
                losses[3] *= 0.999;
                let losses = Tensor::new(losses, &Device::Cpu).unwrap();
                contents.tensors.insert("losses".to_owned(), losses);
                let tensors: Vec<_> = contents.tensors.into_iter().collect();
                file::write(&path, KIND, &contents.description, &tensors).unwrap();
            }
        }
        for path in files(second) {
            let Contents { description, .. } = file::read(&path, KIND).unwrap();
            if of_adam(&description) && description["optimizer"] != best {
                fs::remove_file(path).unwrap();
            }
        }
        for out in [&folder.path().join("3"), second] {
            assert!(matches!(
                evaluated(out, Some(first), "program"),
                Err(Error::Settings(message)) if message.contains("the runs of adam to reuse")
            ));
        }
    }

    /// A finished task whose file is damaged or of other settings is repeated.
    #[test]
    fn damaged_reports_are_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path();
        let (reports, _) = evaluated(out, None, "program").unwrap();
        let path = out.join("tasks/000.safetensors");
        let whole = fs::read(&path).unwrap();
        let mut contents = file::read(&path, "task-report").unwrap();
        let results = &mut contents.description["outcome"]["done"]["results"];
        results[0]["final_losses"] = json!([]);
        file::write(&path, "task-report", &contents.description, &[]).unwrap();
        let forged = fs::read(&path).unwrap();
        for content in [
            b"\xff\xfe".to_vec(),
            whole[..whole.len() - 1].to_vec(),
            forged,
        ] {
            fs::write(&path, content).unwrap();
            assert_eq!(evaluated(out, None, "program").unwrap().0, reports);
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
    }

    /// What cannot be used is trained again.
    #[test]
    fn damaged_training_run() {
        let folder = temporary_folder();
        let contenders = untuned();
        let settings = Settings::new(Suite::Quick, 1, "program".into(), &contenders);
        let (entry, runner) = (
            &Suite::Quick.entries()[0],
            &Runner::all(&settings, &contenders)[0],
        );
        let losses = (0..entry.horizon).map(|step| 2.0 / (step + 1) as f32);
        let test = TestScore {
            loss: 0.5,
            accuracy: 0.25,
        };
        let curve = Curve {
            losses: losses.collect(),
            ceiling: f32::INFINITY,
            not_finite: false,
            tests: vec![Some(test)],
        };
        let runs = Runs::new(folder.path(), None).unwrap();
        runs.keep(entry, runner, 0, &curve, WORTH_KEEPING).unwrap();
        let path = &files(folder.path())[0];
        let attack = Attack {
            kind: "training-run",
            original: &fs::read(path).unwrap(),
            rounds: 10_000,
            prefixes: usize::MAX,
            memory: [100_000, 50],
            checksum: Checksum::Sealed,
        };
        attack.run(|bytes| {
            fs::write(path, bytes).unwrap();
            let (curve, _) = runs.find(entry, runner, 0).ok_or("unusable")?;
            assert_eq!(curve.losses.len() as u64, entry.horizon);
            Ok(format!("{curve:?}"))
        });
    }
}
