//! The files of a run directory.

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use candle_core::Device;
use lopt_core::{Theta, Workers};
use lopt_meta::{Alone, Resources, Result, RunConfig, SavedRun, Trainer};
use lopt_tasks::{DataStore, TaskFamily};
use serde_json::Value;

use crate::temporary_folder;

const SETTINGS: [&str; 11] = [
    "outer.steps=3",
    "estimator.tasks=2",
    "estimator.truncation=3",
    "estimator.horizon.steps=5",
    "held-out.every=1",
    "held-out.unrolls=1",
    "held-out.horizon=2",
    "checkpoint.every=1",
    "task.batch-size=[1]",
    "task.hidden=[[1]]",
    "task.image-size=[1]",
];

/// The newest checkpoint.
pub const CHECKPOINT: &str = "checkpoints/step-00000002.safetensors";

/// A run of three steps that was killed after the second.
pub struct Killed {
    folder: tempfile::TempDir,
    config: RunConfig,
    family: Arc<dyn TaskFamily>,
    /// The files of the run directory.
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Killed {
    /// A run with this gradient estimator.
    ///
    /// # Panics
    /// Panics if there is no such estimator or the disk is full.
    pub fn new(estimator: &str) -> Self {
        let folder = temporary_folder();
        let settings = SETTINGS.map(str::to_owned);
        let estimator = estimator.parse().unwrap();
        let config =
            RunConfig::parse("extends = 'quick'", "test", Some(estimator), &settings).unwrap();
        let run = folder.path().join("run");
        let mut store = DataStore::default();
        let family = config.task.load(&mut store, &Device::Cpu).unwrap();
        let optimizer = config.optimizer.initial(0).unwrap();
        let mut trainer =
            Trainer::start(family.clone(), optimizer, &config, &run, resources()).unwrap();
        trainer.run(&AtomicBool::new(false), &mut ()).unwrap();
        drop(trainer);
        fs::remove_file(run.join("theta.safetensors")).unwrap();
        let names = [
            "config.toml",
            "run.json",
            "metrics.jsonl",
            "best.safetensors",
            CHECKPOINT,
        ];
        let read = |name: &str| (run.join(name), fs::read(run.join(name)).unwrap());
        let killed = Self {
            files: names.map(read).into(),
            folder,
            config,
            family,
        };
        killed.set_up();
        killed
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// The contents of a file of the run directory.
    ///
    /// # Panics
    /// Panics if there is no such file.
    pub fn file(&self, name: &str) -> &[u8] {
        let path = self.path().join(name);
        let found = self.files.iter().find(|(other, _)| *other == path);
        &found.unwrap().1
    }

    /// Puts everything back.
    fn set_up(&self) {
        fs::remove_dir_all(self.path()).unwrap();
        fs::create_dir_all(self.path().join("checkpoints")).unwrap();
        for (path, content) in &self.files {
            fs::write(path, content).unwrap();
        }
    }

    /// Resumes the run with another content of a file. Returns its metrics and its θ.
    ///
    /// # Errors
    /// Returns why it cannot be resumed.
    ///
    /// # Panics
    /// Panics if the disk is full.
    pub fn resumed(&self, name: &str, bytes: &[u8]) -> Result<String, String> {
        let path = self.path().join(name);
        fs::write(&path, bytes).unwrap();
        let result = self.resume().map_err(|e| e.to_string());
        if result.is_ok() || self.path().join("unusable").exists() {
            self.set_up();
        }
        fs::write(&path, self.file(name)).unwrap();
        result
    }

    fn resume(&self) -> Result<String> {
        let saved = SavedRun::open(&self.path(), &Alone)?;
        let optimizer = self.config.optimizer.initial(0)?;
        let resumed = Trainer::resume(
            self.family.clone(),
            optimizer,
            &self.config,
            saved,
            resources(),
        );
        let mut trainer = resumed?;
        trainer.run(&AtomicBool::new(false), &mut ())?;
        let theta = Theta::load(&self.path().join("theta.safetensors"))?;
        Ok(format!("{} {}", metrics(&self.path()), theta.digest()))
    }
}

fn resources() -> Resources {
    Resources {
        workers: Workers::new(NonZeroUsize::new(1)),
        ..Resources::default()
    }
}

/// The metrics without the times.
fn metrics(run: &Path) -> String {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| {
        let mut metrics: Value = serde_json::from_str(line).unwrap();
        metrics.as_object_mut().unwrap().remove("seconds");
        metrics.to_string()
    });
    lines.collect()
}
