//! What the configurations of all estimators have in common.

use std::{fmt, str::FromStr};

use super::{EstimatorConfig, EstimatorKind};
use crate::{Error, Horizon, Result};

/// Settings that several estimators have; `None` where an estimator does not have one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Networks, or antithetic pairs of them.
    pub tasks: u64,
    /// Inner steps until the networks start afresh.
    pub horizon: Horizon,
    /// Inner steps of a truncation.
    pub truncation: Option<usize>,
    /// σ, the standard deviation of the perturbations.
    pub sigma: Option<f64>,
    /// The scale of a difference's sign.
    pub sign: Option<f64>,
}

/// The largest number of tasks of an outer step, each of which keeps networks in memory.
const MOST_TASKS: u64 = 65_536;

impl Settings {
    /// The truncation, by default 50 inner steps.
    pub fn truncation_or_default(&self) -> usize {
        self.truncation.unwrap_or(50)
    }

    /// σ, by default 0.01.
    pub fn sigma_or_default(&self) -> f64 {
        self.sigma.unwrap_or(0.01)
    }

    fn check(&self) -> Result<()> {
        let tasks = (1..=MOST_TASKS).contains(&self.tasks);
        require(tasks, "tasks", &format!("from 1 to {MOST_TASKS}"))?;
        let truncation = self.truncation.is_none_or(|steps| steps >= 1);
        require(truncation, "truncation", "at least 1")?;
        require_positive(self.sigma, "sigma")?;
        require_positive(self.sign, "sign")?;
        let horizon = match self.horizon {
            Horizon::Constant { steps } => steps >= 1,
            Horizon::LogUniform { min, max } => 1 <= min && min <= max,
        };
        require(horizon, "horizon", "at least 1, and min ≤ max")
    }
}

/// The configuration of one kind of estimator.
pub trait WithSettings {
    /// The settings it shares with other kinds.
    fn settings(&self) -> Settings;

    /// The configuration with these shared settings and defaults for its other settings.
    fn new(settings: &Settings) -> Self
    where
        Self: Sized;

    /// Checks its own settings; the shared ones are checked for all kinds.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// One line for each estimator: its documentation, variant, configuration, name in TOML and on
/// the command line, and the function from the configuration to the estimator.
macro_rules! estimators {
    ($($(#[$doc:meta])* $kind:ident($config:ty) = $name:literal => $estimator:expr;)*) => {
        /// The kind of estimator and its settings.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum EstimatorConfig {
            $($(#[$doc])* #[serde(rename = $name)] $kind($config),)*
        }

        /// The kind of an [`EstimatorConfig`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum EstimatorKind {
            $($(#[$doc])* $kind,)*
        }

        impl EstimatorKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// The name in TOML and on the command line, such as "full-es".
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }

        impl EstimatorConfig {
            /// An estimator of this kind with these shared settings; where it has settings of
            /// its own, they have their defaults.
            pub fn new(kind: EstimatorKind, settings: &Settings) -> Self {
                match kind {
                    $(EstimatorKind::$kind => Self::$kind(WithSettings::new(settings)),)*
                }
            }

            /// The kind.
            pub fn kind(&self) -> EstimatorKind {
                match self {
                    $(Self::$kind(_) => EstimatorKind::$kind,)*
                }
            }

            fn configuration(&self) -> &dyn WithSettings {
                match self {
                    $(Self::$kind(config) => config,)*
                }
            }

            /// The estimator at the start of a run.
            ///
            /// # Errors
            /// Returns an error if a task cannot be started.
            pub fn start(
                &self,
                seed: u64,
                family: Arc<dyn TaskFamily>,
                workers: Workers,
                optimizer: &dyn LearnedOptimizer,
                comm: &dyn Comm,
            ) -> Result<Box<dyn GradientEstimator>> {
                Ok(match self {
                    $(Self::$kind(config) => {
                        let estimator = $estimator(config.clone());
                        Box::new(Driver::new(estimator, seed, family, workers, optimizer, comm)?)
                    })*
                })
            }
        }
    };
}

pub(super) use estimators;

impl EstimatorConfig {
    /// The settings that it shares with other kinds.
    pub fn settings(&self) -> Settings {
        self.configuration().settings()
    }

    /// Networks, or antithetic pairs of them.
    pub fn tasks(&self) -> u64 {
        self.settings().tasks
    }

    /// Inner steps until the networks start afresh.
    pub fn horizon(&self) -> Horizon {
        self.settings().horizon
    }

    /// This estimator if it is of that kind; else one of that kind with the settings that both have.
    /// The truncation is 50 inner steps and σ 0.01 where this one has none.
    pub fn of_kind(&self, kind: EstimatorKind) -> Self {
        match self.kind() == kind {
            true => self.clone(),
            false => Self::new(kind, &self.settings()),
        }
    }

    /// Checks the ranges of all settings.
    ///
    /// # Errors
    /// Returns [`Error::Config`] with the first key whose value is out of range.
    pub fn check(&self) -> Result<()> {
        self.settings().check()?;
        self.configuration().check()
    }
}

impl fmt::Display for EstimatorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for EstimatorKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|kind| kind.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|kind| kind.name()).collect();
            let names = names.join(", ");
            Error::Config(format!("no estimator `{name}`; available: {names}"))
        })
    }
}

fn require(ok: bool, key: &str, must: &str) -> Result<()> {
    match ok {
        true => Ok(()),
        false => Err(Error::Config(format!("`estimator.{key}` must be {must}"))),
    }
}

/// If it is given.
pub fn require_positive(value: Option<f64>, key: &str) -> Result<()> {
    let ok = value.is_none_or(|x| x > 0.0 && x.is_finite());
    require(ok, key, "positive and finite")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kind's name is the `kind` of its configuration, which keeps the shared settings.
    #[test]
    fn kinds_and_configurations_agree() {
        let settings = Settings {
            tasks: 3,
            horizon: Horizon::Constant { steps: 7 },
            truncation: Some(5),
            sigma: Some(0.5),
            sign: Some(2.0),
        };
        for &kind in EstimatorKind::ALL {
            let config = EstimatorConfig::new(kind, &settings);
            let json = serde_json::to_value(&config).unwrap();
            assert_eq!(json["kind"], kind.name());
            assert_eq!(kind.name().parse::<EstimatorKind>().unwrap(), kind);
            let kept = config.settings();
            assert_eq!((kept.tasks, kept.horizon), (3, settings.horizon));
            assert!(kept.truncation.is_none_or(|steps| steps == 5));
            assert!(kept.sigma.is_none_or(|sigma| sigma == 0.5));
            assert!(kept.sign.is_none_or(|sign| sign == 2.0));
        }
        let error = "bptt".parse::<EstimatorKind>().unwrap_err().to_string();
        assert!(error.contains("pes, es, full-es, backprop"), "{error}");
    }
}
