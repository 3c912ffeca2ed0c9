use std::sync::Arc;

use candle_core::Device;
use lopt_core::Rng;
use serde::{Deserialize, Serialize};

use super::{TaskFamily, draw};
use crate::{
    DataConfig, DataStore, ModelKind, ModelTask, ModelTaskConfig, Reparametrize, Result, Task,
    error::{not_empty, sizes_in_range},
    models::Size,
};

/// Networks of one architecture: each property is drawn uniformly from its list.
///
/// See [`ModelTask`] for the tasks; each model's configuration says what a width and a depth mean
/// for it. In TOML:
///
/// ```toml
/// kind = "transformer" # or another name of `ModelKind`, such as "conv-net"
/// width = [16, 32]
/// depth = [1, 2]
/// heads = [2, 4] # the transformer only
/// data = [{ kind = "text", length = 32 }]
/// batch-size = [16]
/// reparametrize = { shared = [0.1, 10.0] } # optional
/// ```
///
/// Images are `{ kind = "images", dataset = "mnist", source = "embedded", image-size = 8 }`; see
/// [`DataConfig`] for other data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ModelFamilyConfig {
    /// The architecture.
    pub kind: ModelKind,
    /// Widths: channels or units of each layer.
    pub width: Vec<usize>,
    /// Depths: layers, stages or blocks.
    pub depth: Vec<usize>,
    /// Attention heads of a transformer; empty for all other models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<usize>,
    /// Data sets.
    pub data: Vec<DataConfig>,
    /// Images, windows of text or rows of a table per minibatch.
    pub batch_size: Vec<usize>,
    /// Random factors on the parameters; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reparametrize: Option<Reparametrize>,
}

impl ModelFamilyConfig {
    /// Every task of the family, the first of each list first.
    ///
    /// # Errors
    /// Returns an error that names the key if a list is empty or the architecture has no such
    /// size.
    pub fn combinations(&self) -> Result<Vec<ModelTaskConfig>> {
        self.check()
            .and_then(|()| self.all())
            .map_err(|error| error.within(self.kind.name()))
    }

    fn check(&self) -> Result<()> {
        not_empty("width", &self.width)?;
        not_empty("depth", &self.depth)?;
        not_empty("data", &self.data)?;
        not_empty("batch-size", &self.batch_size)?;
        sizes_in_range("width", &self.width)
    }

    fn all(&self) -> Result<Vec<ModelTaskConfig>> {
        let heads = match &*self.heads {
            [] => vec![None],
            list => list.iter().copied().map(Some).collect(),
        };
        let mut all = vec![];
        for &width in &self.width {
            for &depth in &self.depth {
                for &heads in &heads {
                    let size = Size {
                        width,
                        depth,
                        heads,
                    };
                    let model = self.kind.of_size(size)?;
                    for data in &self.data {
                        all.extend(self.batch_size.iter().map(|&batch_size| ModelTaskConfig {
                            data: data.clone(),
                            model: model.clone(),
                            batch_size,
                        }));
                    }
                }
            }
        }
        Ok(all)
    }
}

/// The tasks of a [`ModelFamilyConfig`] with their data.
///
/// A draw is uniform over the combinations, which is uniform over each list; then it takes the
/// factors of [`Reparametrize`], if any.
pub struct ModelFamily {
    tasks: Vec<Arc<ModelTask>>,
    reparametrize: Option<Reparametrize>,
}

impl ModelFamily {
    /// Builds every combination, so that mistakes are found before meta-training starts.
    ///
    /// # Errors
    /// Returns an error that names the model and the key if a list is empty or a value is not
    /// valid, and an error if data are missing.
    pub fn new(config: &ModelFamilyConfig, store: &mut DataStore, device: &Device) -> Result<Self> {
        let reparametrize = config.reparametrize;
        reparametrize
            .as_ref()
            .map_or(Ok(()), Reparametrize::check)?;
        let tasks = config.combinations()?.into_iter();
        let tasks = tasks.map(|task| Ok(Arc::new(ModelTask::new(task, store, device)?)));
        Ok(Self {
            tasks: tasks.collect::<Result<_>>()?,
            reparametrize,
        })
    }

    /// Every task of the family, without factors.
    pub fn tasks(&self) -> &[Arc<ModelTask>] {
        &self.tasks
    }
}

impl TaskFamily for ModelFamily {
    fn sample(&self, rng: &mut Rng) -> Arc<dyn Task> {
        let tensors = ModelTask::parameter_tensors;
        draw(&self.tasks, tensors, self.reparametrize, rng)
    }
}
