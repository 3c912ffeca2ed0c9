use std::{fmt, sync::Arc};

use candle_core::Device;
use lopt_datasets::{DatasetName, Source};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned, de::Error as _};

use super::{
    MixtureConfig, MlpFamily, MlpFamilyConfig, ModelFamily, ModelFamilyConfig, TaskFamily,
};
use crate::{
    DataConfig, DataStore, ModelKind, Reparametrize, Result, TaskConfig, error::not_empty,
};

/// A task family, as the section `[task]` of a run's configuration describes it.
///
/// The key `kind` selects the family:
///
/// | `kind` | family |
/// |---|---|
/// | none, or `mlp` | [`MlpFamilyConfig`] |
/// | a name of [`ModelKind`], such as `conv-net` | [`ModelFamilyConfig`] |
/// | `mixture` | [`MixtureConfig`] |
///
/// ```
/// use candle_core::Device;
/// use lopt_core::{Purpose, Streams};
/// use lopt_tasks::{DataStore, TaskFamilyConfig};
///
/// let config: TaskFamilyConfig = toml::from_str(
///     r#"
///     kind = "conv-net"
///     width = [4, 8]
///     depth = [2]
///     data = [{ kind = "images", dataset = "mnist", source = "embedded", image-size = 8 }]
///     batch-size = [16]
///     "#,
/// )?;
/// let family = config.load(&mut DataStore::default(), &Device::Cpu)?;
/// let task = family.sample(&mut Streams::new(0).stream(Purpose::TaskSample, 0, 0, 0));
/// assert_eq!(task.name(), "mnist-8px conv-net batch 16");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum TaskFamilyConfig {
    /// Plain MLPs on images.
    Mlp(MlpFamilyConfig),
    /// Networks of another architecture.
    Model(ModelFamilyConfig),
    /// A weighted mixture of families.
    Mixture(MixtureConfig),
}

const MLP: &str = "mlp";
const MIXTURE: &str = "mixture";

impl TaskFamilyConfig {
    /// Loads the data and builds every task of the family, so that mistakes are found before
    /// meta-training starts.
    ///
    /// # Errors
    /// Returns an error that names the key if a list is empty or a value is not valid, and an
    /// error if data are missing.
    pub fn load(&self, store: &mut DataStore, device: &Device) -> Result<Arc<dyn TaskFamily>> {
        Ok(match self {
            Self::Mlp(config) => Arc::new(MlpFamily::new(config, store, device)?),
            Self::Model(config) => Arc::new(ModelFamily::new(config, store, device)?),
            Self::Mixture(config) => Arc::new(config.load(store, device)?),
        })
    }

    /// A single task of the family, without reparametrization: the one with the first entry of each
    /// list. For a mixture, it is that of the first family.
    ///
    /// # Errors
    /// Returns an error that names the key if a list is empty or a size is not valid.
    pub fn first_task(&self) -> Result<TaskConfig> {
        match self {
            Self::Mlp(config) => Ok(TaskConfig::Mlp(config.combinations()?.swap_remove(0))),
            Self::Model(config) => Ok(TaskConfig::Model(config.combinations()?.swap_remove(0))),
            Self::Mixture(config) => {
                not_empty("families", &config.families)?;
                config.families[0].task.first_task()
            }
        }
    }

    /// The data sets of which the full ones are read from the user's disk.
    pub fn full_datasets(&self) -> Vec<DatasetName> {
        match self {
            Self::Mlp(config) if config.source == Source::Full => config.dataset.clone(),
            Self::Mlp(_) => vec![],
            Self::Model(config) => {
                let data = config.data.iter();
                data.filter_map(DataConfig::full_dataset).collect()
            }
            Self::Mixture(config) => {
                let families = config.families.iter();
                families
                    .flat_map(|family| family.task.full_datasets())
                    .collect()
            }
        }
    }

    pub(super) fn reparametrize_mut(&mut self) -> &mut Option<Reparametrize> {
        match self {
            Self::Mlp(config) => &mut config.reparametrize,
            Self::Model(config) => &mut config.reparametrize,
            Self::Mixture(config) => &mut config.reparametrize,
        }
    }
}

/// The family in a few words, such as `mlp on fashion-mnist`.
impl fmt::Display for TaskFamilyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, data): (_, Vec<String>) = match self {
            Self::Mlp(config) => (
                MLP,
                config.dataset.iter().map(ToString::to_string).collect(),
            ),
            Self::Model(config) => {
                let data = config.data.iter().map(ToString::to_string);
                (config.kind.name(), data.collect())
            }
            Self::Mixture(config) => {
                let families = config.families.iter().map(|family| family.task.to_string());
                return write!(f, "{}", families.collect::<Vec<_>>().join(" + "));
            }
        };
        write!(f, "{name} on {}", data.join(", "))
    }
}

impl<'de> Deserialize<'de> for TaskFamilyConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = toml::Table::deserialize(deserializer)?;
        let kind = match table.get("kind") {
            None => MLP.to_owned(),
            Some(toml::Value::String(kind)) => kind.clone(),
            Some(other) => {
                let problem = format!("`kind` is {other}; it must be text, such as \"conv-net\"");
                return Err(D::Error::custom(problem));
            }
        };
        let is_model = ModelKind::ALL.iter().any(|model| model.name() == kind);
        if !is_model {
            table.remove("kind");
        }
        match &*kind {
            MLP => parse(table).map(Self::Mlp),
            MIXTURE => parse(table).map(Self::Mixture),
            _ if is_model => parse(table).map(Self::Model),
            _ => {
                let models = ModelKind::ALL.iter().map(|model| model.name());
                let kinds: Vec<_> = [MLP].into_iter().chain(models).chain([MIXTURE]).collect();
                Err(format!(
                    "`kind` is `{kind}`; it must be one of {}",
                    kinds.join(", ")
                ))
            }
        }
        .map_err(D::Error::custom)
    }
}

fn parse<T: DeserializeOwned>(table: toml::Table) -> Result<T, String> {
    T::deserialize(table).map_err(|error: toml::de::Error| error.message().to_owned())
}
