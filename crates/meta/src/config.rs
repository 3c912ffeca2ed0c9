use std::path::Path;

use lopt_blackbox::Blackbox;
use lopt_core::{LearnedOptimizer, Purpose, Rng, Streams, log_uniform};
use lopt_star::Star;
use lopt_tasks::MlpFamilyConfig;
use serde::{Deserialize, Serialize};

use crate::{Clip, Error, EstimatorConfig, EstimatorKind, OuterConfig, Result};

/// Everything that determines a meta-training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RunConfig {
    /// Seed of all random streams.
    pub seed: u64,
    /// What networks are trained on.
    pub task: MlpFamilyConfig,
    /// What is meta-trained.
    pub optimizer: OptimizerConfig,
    /// How the meta-gradient is estimated.
    pub estimator: EstimatorConfig,
    /// How θ follows it.
    pub outer: OuterConfig,
    /// How the best θ is chosen.
    pub held_out: HeldOutConfig,
    /// When checkpoints are written.
    pub checkpoint: CheckpointConfig,
}

/// The learned optimizer and its start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OptimizerConfig {
    /// Which.
    pub kind: Kind,
    /// Factor on the initial weights of the MLP's last layer; 1 is the reference.
    pub last_layer_scale: f32,
    /// STAR's switches, if they differ from the paper's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub star: Option<lopt_star::Config>,
    /// The blackbox's constants, if they differ from the reference's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blackbox: Option<lopt_blackbox::Config>,
}

/// A learned optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// 202 meta-parameters.
    Star,
    /// 197 meta-parameters.
    Blackbox,
}

impl Kind {
    /// As θ files name it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Star => lopt_star::KIND,
            Kind::Blackbox => lopt_blackbox::KIND,
        }
    }
}

/// How the best θ is chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HeldOutConfig {
    /// Outer steps between evaluations.
    pub every: u64,
    /// Networks trained in each.
    pub unrolls: u64,
    /// Inner steps of each.
    pub horizon: u64,
}

/// When checkpoints are written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CheckpointConfig {
    /// Outer steps between checkpoints.
    pub every: u64,
    /// How many of the newest are kept.
    pub keep: usize,
}

/// Inner steps until the networks start afresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "kind")]
pub enum Horizon {
    /// Always the same.
    Constant {
        /// Inner steps.
        steps: u64,
    },
    /// Log-uniform in \[min, max\].
    LogUniform {
        /// The shortest.
        min: u64,
        /// The longest.
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

/// A configuration that comes with the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Small images, embedded data, minutes.
    Quick,
    /// The paper's task; hours to days.
    Paper,
}

impl Preset {
    /// All presets.
    pub const ALL: [Preset; 2] = [Preset::Quick, Preset::Paper];

    /// The name, as users type it.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Quick => "quick",
            Preset::Paper => "paper",
        }
    }

    /// The TOML text, with its comments.
    pub fn text(self) -> &'static str {
        match self {
            Preset::Quick => include_str!("../presets/quick.toml"),
            Preset::Paper => include_str!("../presets/paper.toml"),
        }
    }
}

impl RunConfig {
    /// Parses TOML, exchanges the estimator for one of another kind if asked to, and applies
    /// `overrides`, each `key.path=value` with a TOML value (text without quotes is taken as
    /// a string; without a value the key is removed). Where one sets `optimizer.kind`, the text's
    /// settings of the other optimizer are left out. `origin` names the text in messages.
    ///
    /// # Errors
    /// If the text or an override is no TOML, a key is unknown or missing, or a value is
    /// out of range.
    pub fn parse(
        text: &str,
        origin: &str,
        estimator: Option<EstimatorKind>,
        overrides: &[String],
    ) -> Result<Self> {
        let mut table: toml::Table = text
            .parse()
            .map_err(|e| Error::Config(format!("{origin} is no TOML: {e}")))?;
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
        let kind = kinds.find_map(|text| text.strip_prefix("optimizer.kind="));
        let optimizer = table.get_mut("optimizer");
        if let (Some(kind), Some(toml::Value::Table(optimizer))) = (kind, optimizer) {
            let kind = kind.trim().trim_matches('"');
            for other in ["star", "blackbox"].iter().filter(|other| **other != kind) {
                optimizer.remove(*other);
            }
        }
        for text in overrides {
            apply_override(&mut table, text)?;
        }
        let config = Self::deserialize(table).map_err(|e| {
            let with = if overrides.is_empty() {
                ""
            } else {
                " with the command line's values"
            };
            Error::Config(format!("{origin}{with}: {e}"))
        })?;
        config.check()?;
        Ok(config)
    }

    /// Reads a TOML file.
    ///
    /// # Errors
    /// As [`RunConfig::parse`], or if the file cannot be read.
    pub fn load(
        path: &Path,
        estimator: Option<EstimatorKind>,
        overrides: &[String],
    ) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(lopt_core::Error::io("read", path))?;
        Self::parse(&text, &path.display().to_string(), estimator, overrides)
    }

    /// As TOML.
    ///
    /// # Errors
    /// None in practice.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self).map_err(|e| Error::Config(e.to_string()))
    }

    /// The optimizer with its initial θ.
    ///
    /// # Errors
    /// None in practice.
    pub fn initial_optimizer(&self) -> Result<Box<dyn LearnedOptimizer>> {
        let mut rng = Streams::new(self.seed).stream(Purpose::ThetaInit, 0, 0, 0);
        let OptimizerConfig {
            kind,
            last_layer_scale,
            star,
            blackbox,
        } = self.optimizer.clone();
        Ok(match kind {
            Kind::Star => Box::new(Star::init(
                star.unwrap_or_default(),
                last_layer_scale,
                &mut rng,
            )?),
            Kind::Blackbox => Box::new(Blackbox::init(
                blackbox.unwrap_or_default(),
                last_layer_scale,
                &mut rng,
            )?),
        })
    }

    fn check(&self) -> Result<()> {
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
        require(
            positive(outer.learning_rate),
            "outer.learning-rate",
            "positive and finite",
        )?;
        let decay_ok = outer.weight_decay >= 0.0 && outer.weight_decay.is_finite();
        require(decay_ok, "outer.weight-decay", "at least 0 and finite")?;
        let clip_ok = match outer.clip {
            Clip::PerCoordinate { max } | Clip::GlobalNorm { max } => positive(max),
            Clip::Off => true,
        };
        require(clip_ok, "outer.clip.max", "positive and finite")?;
        let scale = self.optimizer.last_layer_scale;
        require(scale.is_finite(), "optimizer.last-layer-scale", "finite")?;
        let moves = self.optimizer.kind == Kind::Star || scale != 0.0;
        let must = "other than 0 for the blackbox, which would not move; 1.0 is the reference";
        require(moves, "optimizer.last-layer-scale", must)?;
        let star = self.optimizer.star.as_ref().map(|star| &star.multipliers);
        let blackbox = self.optimizer.blackbox.as_ref();
        for (key, value) in [
            (
                "star.multipliers.nominal-step",
                star.map(|m| m.nominal_step),
            ),
            ("star.multipliers.nominal-exp", star.map(|m| m.nominal_exp)),
            (
                "star.multipliers.blackbox-step",
                star.map(|m| m.blackbox_step),
            ),
            (
                "star.multipliers.blackbox-exp",
                star.map(|m| m.blackbox_exp),
            ),
            (
                "blackbox.step-multiplier",
                blackbox.map(|b| b.step_multiplier),
            ),
            (
                "blackbox.exp-multiplier",
                blackbox.map(|b| b.exp_multiplier),
            ),
        ] {
            let finite = value.is_none_or(f64::is_finite);
            require(finite, &format!("optimizer.{key}"), "finite")?;
        }
        for (key, value) in [
            ("held-out.every", self.held_out.every),
            ("held-out.unrolls", self.held_out.unrolls),
            ("held-out.horizon", self.held_out.horizon),
            ("checkpoint.every", self.checkpoint.every),
            ("checkpoint.keep", self.checkpoint.keep as u64),
        ] {
            require(value >= 1, key, "at least 1")?;
        }
        self.check_optimizer()
    }

    /// A section of the other optimizer would do nothing.
    fn check_optimizer(&self) -> Result<()> {
        let stray = match self.optimizer.kind {
            Kind::Star => self
                .optimizer
                .blackbox
                .is_some()
                .then_some(("blackbox", "star")),
            Kind::Blackbox => self
                .optimizer
                .star
                .is_some()
                .then_some(("star", "blackbox")),
        };
        match stray {
            Some((section, kind)) => Err(Error::Config(format!(
                "`optimizer.{section}` has no effect when `optimizer.kind` is \"{kind}\"; remove one of them"
            ))),
            None => Ok(()),
        }
    }
}

/// Sets `key.path=value` in a table.
fn apply_override(table: &mut toml::Table, text: &str) -> Result<()> {
    let problem = |what: &str| Error::Config(format!("`--set {text}`: {what}"));
    let (path, value) = text
        .split_once('=')
        .ok_or_else(|| problem("say key.path=value, for example outer.steps=500"))?;
    let mut keys: Vec<&str> = path.trim().split('.').collect();
    let last = keys
        .pop()
        .filter(|key| !key.is_empty())
        .ok_or_else(|| problem("no key"))?;
    let mut at = table;
    for key in keys {
        at = at
            .entry(key)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| problem(&format!("`{key}` is a value, not a section")))?;
    }
    match value.trim() {
        "" => at.remove(last),
        value => at.insert(last.to_owned(), parse_value(value)),
    };
    Ok(())
}

fn parse_value(text: &str) -> toml::Value {
    let parsed = format!("value = {text}").parse::<toml::Table>();
    parsed
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quick(overrides: &[&str]) -> Result<RunConfig> {
        let overrides: Vec<String> = overrides.iter().map(|&o| o.to_owned()).collect();
        RunConfig::parse(Preset::Quick.text(), "preset quick", None, &overrides)
    }

    #[test]
    fn presets_parse_and_survive_a_round_trip() {
        for preset in [Preset::Quick, Preset::Paper] {
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
        assert_eq!(
            quick(&[]).unwrap().optimizer.star.unwrap().time_limit,
            Some(500)
        );
        assert_eq!(config.seed, 7);
        assert_eq!(config.outer.learning_rate, 3e-4);
        assert_eq!(
            config.estimator.horizon(),
            Horizon::LogUniform {
                min: 100,
                max: 2000
            }
        );
        assert_eq!(config.task.hidden, [vec![8], vec![16, 16]]);
        let star = config.optimizer.star.unwrap();
        assert_eq!(star.nominal, lopt_star::Nominal::Sgdm);
        assert!(!star.blackbox_term && star.magnitude_control);
        assert_eq!(star.time_limit, None);
        let missing = quick(&["outer.steps="]).unwrap_err().to_string();
        assert!(missing.contains("`steps`"), "{missing}");
    }

    /// What two estimators have in common goes over, what only the old one had goes.
    #[test]
    fn settings_of_the_other_optimizer_are_left_out() {
        let parse = |overrides: &[&str]| {
            let overrides: Vec<_> = overrides.iter().map(ToString::to_string).collect();
            RunConfig::parse(Preset::Quick.text(), "preset quick", None, &overrides)
        };
        assert!(parse(&[]).unwrap().optimizer.star.is_some());
        for kind in ["optimizer.kind=blackbox", "optimizer.kind=\"blackbox\""] {
            let config = parse(&[kind, "optimizer.last-layer-scale=1.0"]).unwrap();
            assert!(config.optimizer.star.is_none());
        }
        assert!(
            parse(&["optimizer.kind=star"])
                .unwrap()
                .optimizer
                .star
                .is_some()
        );
        // Those that somebody sets are not.
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
        for kind in [Pes, Es, FullEs, Backprop] {
            let config = of(kind, &["estimator.tasks=3"]).unwrap();
            let again = RunConfig::parse(&config.to_toml().unwrap(), "again", None, &[]);
            assert_eq!(config, again.unwrap());
            assert_eq!(config.estimator.tasks(), 3);
            assert_eq!(config.estimator.horizon(), Horizon::Constant { steps: 500 });
        }
        let full = of(FullEs, &["estimator.loss=min", "estimator.clip=0.5"]).unwrap();
        let EstimatorConfig::FullEs(full) = full.estimator else {
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
