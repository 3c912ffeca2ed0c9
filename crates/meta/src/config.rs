//! The configuration of a meta-training run.

mod extends;
mod optimizer;
pub(crate) mod overrides;

use std::{path::Path, sync::Arc};

use candle_core::Device;
use lopt_core::{Rng, log_uniform};
use lopt_tasks::{DataStore, TaskFamily, TaskFamilyConfig, did_you_mean};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned, de::Error as _};

use crate::{
    Clip, Error, EstimatorConfig, EstimatorKind, OuterConfig, Resources, Result, SavedRun, Trainer,
    registry::{self, LEARNED},
};

use optimizer::ONLINE_SCALE;
pub use optimizer::OptimizerConfig;
pub(crate) use optimizer::check_section;

/// The configuration of the [`Trainer`], independent of the task family and the optimizer.
///
/// ```
/// use lopt_meta::TrainerConfig;
///
/// let config: TrainerConfig = toml::from_str(
///     r#"
///     seed = 0
///
///     [estimator]
///     kind = "pes"
///     tasks = 8
///     truncation = 50
///     sigma = 0.01
///     horizon = { kind = "constant", steps = 500 }
///
///     [outer]
///     steps = 1000
///     learning-rate = 3e-3
///     weight-decay = 0.1
///     decay = "decoupled"
///     clip = { kind = "off" }
///     warm-up = 0
///     schedule = "cosine"
///
///     [held-out]
///     every = 100
///     unrolls = 4
///     horizon = 500
///
///     [checkpoint]
///     every = 20
///     keep = 3
///     "#,
/// )?;
/// assert_eq!(config.estimator.tasks(), 8);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrainerConfig {
    /// The seed of all random streams.
    pub seed: u64,
    /// How the meta-gradient is estimated.
    pub estimator: EstimatorConfig,
    /// How θ is updated with the meta-gradient.
    pub outer: OuterConfig,
    /// How the best θ is chosen.
    pub held_out: HeldOutConfig,
    /// When checkpoints are written.
    pub checkpoint: CheckpointConfig,
}

/// The configuration stored in a run directory as `config.toml` and in the provenance of the run's
/// θ: a [`TrainerConfig`], or a type that contains one.
pub trait Configuration: Serialize {
    /// Returns the trainer's part of the configuration.
    fn trainer(&self) -> &TrainerConfig;
}

impl Configuration for TrainerConfig {
    fn trainer(&self) -> &TrainerConfig {
        self
    }
}

/// The configuration of a run with its task family and optimizer, as read from a TOML file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunConfig {
    /// The task family.
    pub task: TaskFamilyConfig,
    /// The learned optimizer.
    pub optimizer: OptimizerConfig,
    /// The configuration of the trainer.
    #[serde(flatten)]
    pub trainer: TrainerConfig,
}

impl Configuration for RunConfig {
    fn trainer(&self) -> &TrainerConfig {
        &self.trainer
    }
}

impl<'de> Deserialize<'de> for RunConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = toml::Table::deserialize(deserializer)?;
        let mut parse = || {
            let (task, optimizer) = (
                section(&mut table, "task")?,
                section(&mut table, "optimizer")?,
            );
            let trainer = TrainerConfig::deserialize(std::mem::take(&mut table));
            Ok(Self {
                trainer: trainer.map_err(|e| e.message().to_owned())?,
                task,
                optimizer,
            })
        };
        parse().map_err(|e: String| D::Error::custom(e))
    }
}

fn section<T: DeserializeOwned>(table: &mut toml::Table, key: &str) -> Result<T, String> {
    let section = table.remove(key).ok_or(format!("missing field `{key}`"))?;
    T::deserialize(section).map_err(|e: toml::de::Error| format!("in `{key}`: {}", e.message()))
}

/// How the best θ is chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HeldOutConfig {
    /// The number of outer steps between evaluations.
    pub every: u64,
    /// The number of networks trained in each evaluation.
    pub unrolls: u64,
    /// The number of inner steps of each network.
    pub horizon: u64,
}

/// When checkpoints are written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CheckpointConfig {
    /// The number of outer steps between checkpoints.
    pub every: u64,
    /// The number of checkpoints to keep.
    pub keep: usize,
}

/// The number of inner steps of an unroll.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "kind")]
pub enum Horizon {
    /// The same for all unrolls.
    Constant {
        /// The number of inner steps.
        steps: u64,
    },
    /// Log-uniform in \[min, max\].
    LogUniform {
        /// The minimum.
        min: u64,
        /// The maximum.
        max: u64,
    },
}

impl Horizon {
    /// Draws a horizon.
    pub fn sample(self, rng: &mut Rng) -> u64 {
        match self {
            Horizon::Constant { steps } => steps,
            Horizon::LogUniform { min, max } => {
                let drawn = log_uniform(rng, min as f64, max as f64);
                (drawn.round() as u64).clamp(min, max)
            }
        }
    }
}

/// A predefined configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Small images and embedded data; takes about a minute.
    Quick,
    /// The paper's task; takes hours to days.
    Paper,
    /// The configuration of the shipped STAR: six families of small networks, and an online scale;
    /// takes about ten minutes.
    Universal,
}

impl Preset {
    /// All presets.
    pub const ALL: [Preset; 3] = [Preset::Quick, Preset::Paper, Preset::Universal];

    /// The name of the preset.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Quick => "quick",
            Preset::Paper => "paper",
            Preset::Universal => "universal",
        }
    }

    /// The TOML text, with comments.
    pub fn text(self) -> &'static str {
        match self {
            Preset::Quick => include_str!("../presets/quick.toml"),
            Preset::Paper => include_str!("../presets/paper.toml"),
            Preset::Universal => include_str!("../presets/universal.toml"),
        }
    }
}

impl TrainerConfig {
    /// The trainer's part of a configuration, which may have more in it.
    pub(crate) fn of_toml(text: &str) -> Result<Self> {
        let problem = |e: toml::de::Error| Error::Config(format!("the run's configuration: {e}"));
        let mut table: toml::Table = text.parse().map_err(problem)?;
        let keys = ["seed", "estimator", "outer", "held-out", "checkpoint"];
        table.retain(|key, _| keys.contains(&key));
        Self::deserialize(table).map_err(problem)
    }

    /// Checks that all values are in range.
    ///
    /// # Errors
    /// Returns [`Error::Config`] with the first key whose value is out of range.
    pub fn check(&self) -> Result<()> {
        let require = |ok: bool, key: &str, must: &str| {
            if ok {
                Ok(())
            } else {
                Err(Error::Config(format!("`{key}` must be {must}")))
            }
        };
        let positive = |x: f64| x > 0.0 && x.is_finite();
        self.estimator.check()?;
        let outer = &self.outer;
        let rate_ok = positive(outer.learning_rate);
        require(rate_ok, "outer.learning-rate", "positive and finite")?;
        let decay_ok = outer.weight_decay >= 0.0 && outer.weight_decay.is_finite();
        require(decay_ok, "outer.weight-decay", "at least 0 and finite")?;
        let clip_ok = match outer.clip {
            Clip::PerCoordinate { max } | Clip::GlobalNorm { max } => positive(max),
            Clip::Off => true,
        };
        require(clip_ok, "outer.clip.max", "positive and finite")?;
        for (key, value) in [
            ("outer.steps", outer.steps),
            ("held-out.every", self.held_out.every),
            ("held-out.unrolls", self.held_out.unrolls),
            ("held-out.horizon", self.held_out.horizon),
            ("checkpoint.every", self.checkpoint.every),
            ("checkpoint.keep", self.checkpoint.keep as u64),
        ] {
            require(value >= 1, key, "at least 1")?;
        }
        Ok(())
    }
}

impl RunConfig {
    /// Parses TOML, replaces the estimator by one of the kind `estimator` if given, and applies
    /// `overrides`.
    ///
    /// With the key `extends`, the name of a [`Preset`], the text needs only what differs from it. A
    /// section with another `kind` than the preset's must be complete.
    ///
    /// An override has the form `key.path=value` with a TOML value. A value that is not valid TOML
    /// is taken as a string, and an empty value removes the key. If an override sets
    /// `optimizer.kind`, the text's sections of other optimizers are dropped, except for an online
    /// scale, which the new optimizer takes over if it supports one. `origin` names the text in
    /// error messages.
    ///
    /// # Errors
    /// Returns [`Error::Config`] if the text or an override is not valid, a key is unknown or
    /// missing, or a value is out of range.
    pub fn parse(
        text: &str,
        origin: &str,
        estimator: Option<EstimatorKind>,
        overrides: &[String],
    ) -> Result<Self> {
        let mut table: toml::Table = text
            .parse()
            .map_err(|e| Error::Config(format!("{origin} is not valid TOML: {e}")))?;
        extends::apply(&mut table, origin)?;
        if let Some(kind) = estimator {
            let problem = |e: &dyn std::fmt::Display| Error::Config(format!("{origin}: {e}"));
            let given = table
                .remove("estimator")
                .unwrap_or(toml::Value::Boolean(false));
            let given = EstimatorConfig::deserialize(given).map_err(|e| problem(&e))?;
            let other = toml::Value::try_from(given.of_kind(kind)).map_err(|e| problem(&e))?;
            table.insert("estimator".to_owned(), other);
        }
        let mut kinds = overrides.iter().rev();
        let kind = kinds.find_map(|text| overrides::string(text, "optimizer.kind"));
        let optimizer = table.get_mut("optimizer");
        if let (Some(kind), Some(toml::Value::Table(optimizer))) = (kind, optimizer) {
            let kind = &*kind;
            for other in LEARNED.iter().filter(|other| other.name() != kind) {
                let removed = optimizer.remove(other.name());
                let scale = removed.and_then(|mut section| {
                    let section = section.as_table_mut()?;
                    section.remove(ONLINE_SCALE)
                });
                if let Some(scale) = scale {
                    take_over(optimizer, kind, scale);
                }
            }
        }
        for text in overrides {
            overrides::apply(&mut table, text)?;
        }
        let config = Self::deserialize(table).map_err(|e| {
            let with = if overrides.is_empty() {
                ""
            } else {
                " with its overrides"
            };
            let message = e.message();
            // "unknown field `a`, expected one of `b`, `c`"
            let mut names = message.split('`').skip(1).step_by(2);
            let advice = match names.next() {
                Some(unknown) if message.starts_with("unknown ") => did_you_mean(unknown, names),
                _ if message.starts_with("missing field") => {
                    "; `extends = \"quick\"` at the top takes what is missing from a preset"
                        .to_owned()
                }
                _ => String::new(),
            };
            Error::Config(format!("{origin}{with}: {message}{advice}"))
        })?;
        config.trainer.check()?;
        config.optimizer.check()?;
        Ok(config)
    }

    /// Reads a TOML file; see [`RunConfig::parse`].
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, and the errors of [`RunConfig::parse`].
    pub fn load(
        path: &Path,
        estimator: Option<EstimatorKind>,
        overrides: &[String],
    ) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(lopt_core::Error::io("read", path))?;
        Self::parse(&text, &path.display().to_string(), estimator, overrides)
    }

    /// Returns the configuration as TOML.
    ///
    /// # Errors
    /// Returns [`Error::Config`] if an integer is too large for TOML.
    pub fn to_toml(&self) -> Result<String> {
        to_toml(self)
    }

    /// Starts the run in a new directory; see [`Trainer::start`].
    ///
    /// # Errors
    /// Returns an error if data are missing, and the errors of [`Trainer::start`].
    pub fn start(
        &self,
        path: &Path,
        store: &mut DataStore,
        device: &Device,
        resources: Resources,
    ) -> Result<Trainer> {
        let (family, resources) = self.prepare(store, device, resources)?;
        let optimizer = self.optimizer.first(self.trainer.seed)?;
        Trainer::start(family, optimizer, self, path, resources)
    }

    /// Loads the tasks, and adds the checksums of their data to the resources.
    fn prepare(
        &self,
        store: &mut DataStore,
        device: &Device,
        resources: Resources,
    ) -> Result<(Arc<dyn TaskFamily>, Resources)> {
        let family = self.task.load(store, device)?;
        let data = store.checksums(self.task.full_datasets())?;
        Ok((family, Resources { data, ..resources }))
    }

    /// Resumes the run in a directory with the configuration stored there, in which `outer_steps`, if
    /// given, replaces the number of outer steps; see [`Trainer::resume`].
    ///
    /// # Errors
    /// Returns an error if data are missing, and the errors of [`SavedRun::open`] and
    /// [`Trainer::resume`].
    pub fn resume(
        path: &Path,
        outer_steps: Option<u64>,
        store: &mut DataStore,
        device: &Device,
        resources: Resources,
    ) -> Result<(Self, Trainer)> {
        let mut saved = SavedRun::open(path, &*resources.comm)?;
        if let Some(steps) = outer_steps {
            saved.set_outer_steps(steps)?;
        }
        let config = Self::parse(saved.text(), "the run's configuration", None, &[])?;
        let (family, resources) = config.prepare(store, device, resources)?;
        let optimizer = config.optimizer.initial(config.trainer.seed)?;
        let trainer = Trainer::resume(family, optimizer, &config, saved, resources)?;
        Ok((config, trainer))
    }
}

/// Adds the online scale to the section of an optimizer that supports one.
fn take_over(optimizer: &mut toml::Table, kind: &str, scale: toml::Value) {
    let section = toml::Table::from_iter([(ONLINE_SCALE.to_owned(), scale)]);
    let supported = |json: &serde_json::Value| {
        let kind = registry::kind(kind).ok();
        kind.is_some_and(|kind| kind.check_config(json).is_ok())
    };
    if serde_json::to_value(&section).is_ok_and(|json| supported(&json)) {
        optimizer.insert(kind.to_owned(), section.into());
    }
}

pub(crate) fn to_toml(config: &impl Serialize) -> Result<String> {
    toml::to_string_pretty(config).map_err(|e| Error::Config(e.to_string()))
}

#[cfg(test)]
mod tests {
    use lopt_core::{Purpose, Streams};

    use super::*;

    /// Returns a value of the optimizer's section.
    fn of_optimizer(config: &RunConfig, key: &str) -> serde_json::Value {
        config.optimizer.config.as_ref().unwrap()[key].clone()
    }

    fn quick(overrides: &[&str]) -> Result<RunConfig> {
        let overrides: Vec<String> = overrides.iter().map(|&o| o.to_owned()).collect();
        RunConfig::parse(Preset::Quick.text(), "preset quick", None, &overrides)
    }

    #[test]
    fn presets_parse_and_survive_a_round_trip() {
        for preset in Preset::ALL {
            let config = RunConfig::parse(preset.text(), "preset", None, &[]).unwrap();
            let again = RunConfig::parse(&config.to_toml().unwrap(), "again", None, &[]).unwrap();
            assert_eq!(config, again);
        }
    }

    #[test]
    fn every_kind_of_value_can_be_set() {
        let config = quick(&[
            "seed=7",
            "outer.learning-rate=3e-4",
            "outer.schedule=cosine",
            "estimator.horizon={ kind = \"log-uniform\", min = 100, max = 2000 }",
            "task.hidden=[[8], [16, 16]]",
            "optimizer.star.nominal=sgdm",
            "optimizer.star.blackbox-term=false",
            "optimizer.star.time-limit=",
        ])
        .unwrap();
        assert_eq!(of_optimizer(&quick(&[]).unwrap(), "time-limit"), 500);
        assert_eq!(config.trainer.seed, 7);
        assert_eq!(config.trainer.outer.learning_rate, 3e-4);
        assert_eq!(
            config.trainer.estimator.horizon(),
            Horizon::LogUniform {
                min: 100,
                max: 2000
            }
        );
        let TaskFamilyConfig::Mlp(task) = &config.task else {
            panic!("{}", config.task);
        };
        assert_eq!(task.hidden, [vec![8], vec![16, 16]]);
        assert_eq!(of_optimizer(&config, "nominal"), "sgdm");
        assert_eq!(of_optimizer(&config, "blackbox-term"), false);
        assert_eq!(of_optimizer(&config, "magnitude-control"), true);
        assert!(of_optimizer(&config, "time-limit").is_null());
        let missing = quick(&["outer.steps="]).unwrap_err().to_string();
        assert!(missing.contains("`steps`"), "{missing}");
    }

    /// Replacing the estimator keeps the keys that both have and removes the others.
    #[test]
    fn settings_of_the_other_optimizer_are_left_out() {
        let parse = |overrides: &[&str]| {
            let overrides: Vec<_> = overrides.iter().map(ToString::to_string).collect();
            RunConfig::parse(Preset::Quick.text(), "preset quick", None, &overrides)
        };
        assert!(parse(&[]).unwrap().optimizer.config.is_some());
        for kind in [
            "optimizer.kind=blackbox",
            "optimizer.kind=\"blackbox\"",
            "optimizer.kind='blackbox'",
            "optimizer . kind = blackbox",
        ] {
            let config = parse(&[kind, "optimizer.last-layer-scale=1.0"]).unwrap();
            // It takes over the online scale.
            assert_eq!(of_optimizer(&config, "online-scale")["initial"], 0.3);
            assert!(of_optimizer(&config, "time-limit").is_null());
        }
        for kind in ["optimizer.kind=star", "optimizer.kind='star'"] {
            assert_eq!(parse(&[kind]).unwrap(), parse(&[]).unwrap());
        }
        // Sections that an override sets are kept.
        let both = [
            "optimizer.kind=blackbox",
            "optimizer.last-layer-scale=1.0",
            "optimizer.star.nominal=off",
        ];
        assert!(parse(&both).unwrap_err().to_string().contains("no effect"));
    }

    #[test]
    fn estimators_are_exchanged() {
        use EstimatorKind::{Backprop, Es, FullEs, Pes};
        let of = |kind, set: &[&str]| {
            let set: Vec<String> = set.iter().map(|&o| o.to_owned()).collect();
            RunConfig::parse(Preset::Quick.text(), "preset quick", Some(kind), &set)
        };
        let own = [
            "estimator.kind=full-es",
            "estimator.loss=min",
            "estimator.clip=0.5",
        ];
        let own = of(FullEs, &own).unwrap().trainer.estimator;
        assert_eq!(own.of_kind(FullEs), own);
        for kind in [Pes, Es, FullEs, Backprop] {
            let config = of(kind, &["estimator.tasks=3"]).unwrap();
            let again = RunConfig::parse(&config.to_toml().unwrap(), "again", None, &[]);
            assert_eq!(config, again.unwrap());
            assert_eq!(config.trainer.estimator.tasks(), 3);
            let constant = Horizon::Constant { steps: 500 };
            assert_eq!(config.trainer.estimator.horizon(), constant);
        }
        let full = of(FullEs, &["estimator.loss=min", "estimator.clip=0.5"]).unwrap();
        let EstimatorConfig::FullEs(full) = full.trainer.estimator else {
            panic!("{full:?}");
        };
        assert_eq!((full.sigma, full.clip), (0.01, Some(0.5)));
        for (kind, set, word) in [
            (Backprop, "estimator.sigma=0.1", "sigma"),
            (FullEs, "estimator.truncation=5", "truncation"),
            (Pes, "estimator.loss=min", "loss"),
            (Es, "estimator.sign=0", "estimator.sign"),
            (FullEs, "estimator.clip=-1", "estimator.clip"),
        ] {
            let error = of(kind, &[set]).unwrap_err().to_string();
            assert!(error.contains(word), "{set}: {error}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (bad, words) in [
            ("outer.stepz=3", "stepz"),
            ("estimator.sigma=0", "sigma"),
            ("estimator.sigma=nan", "sigma"),
            (
                "estimator.horizon={ kind = \"log-uniform\", min = 5, max = 2 }",
                "min ≤ max",
            ),
            ("seed=-1", "-1"),
            ("seed.x=1", "`seed` is a value"),
            ("task.activation=[\"reluu\"]", "reluu"),
            ("task.dataset=[\"imagenet\"]", "imagenet"),
            ("optimizer.blackbox.step-multiplier=1", "no effect"),
            ("outer", "key.path=value"),
            ("checkpoint.keep=0", "checkpoint.keep"),
            ("outer.learning-rte=3", "did you mean `learning-rate`?"),
            ("optimizer.kind=blackbox", "which would not move"),
            (
                "optimizer.star.multipliers.nominal-step=nan",
                "nominal-step",
            ),
        ] {
            let error = quick(&[bad]).unwrap_err().to_string();
            assert!(error.contains(words), "{bad}: {error}");
        }
        assert!(
            RunConfig::parse("seed = ", "x.toml", None, &[])
                .unwrap_err()
                .to_string()
                .contains("x.toml")
        );
        assert!(
            RunConfig::parse("", "x.toml", None, &[])
                .unwrap_err()
                .to_string()
                .contains("missing")
        );
    }

    #[test]
    fn log_uniform_horizons() {
        let horizon = Horizon::LogUniform {
            min: 100,
            max: 2000,
        };
        let mut rng = Streams::new(0).stream(Purpose::Horizon, 0, 0, 0);
        let drawn: Vec<u64> = (0..10_000).map(|_| horizon.sample(&mut rng)).collect();
        assert!(drawn.iter().all(|h| (100..=2000).contains(h)));
        // Half of them lie below √(100·2000) = 447.
        let below = drawn.iter().filter(|&&h| h < 447).count() as f64 / 1e4;
        assert!((below - 0.5).abs() < 0.02, "{below}");
    }
}
