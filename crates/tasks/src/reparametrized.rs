//! Reparametrized tasks: augmentation for meta-training.

use std::sync::Arc;

use candle_core::Tensor;
use lopt_core::{Error, Grads, Params, Result, Rng, log_uniform};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{Batch, NativeBatch, NativeTask, Split, Task, TestScore, Workspace};

/// How a family draws the factors of [`Reparametrized`] tasks: log-uniform in \[low, high\].
///
/// In TOML, `reparametrize = [0.1, 10.0]` or `reparametrize = { shared = [0.1, 10.0] }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Reparametrize {
    /// One factor for each parameter tensor.
    PerTensor([f64; 2]),
    /// One factor for all tensors of a task.
    Shared {
        /// The lowest and the highest factor.
        shared: [f64; 2],
    },
}

impl Reparametrize {
    fn range(&self) -> [f64; 2] {
        match *self {
            Self::PerTensor(range) | Self::Shared { shared: range } => range,
        }
    }

    /// Returns an error if the range is empty or not positive and finite.
    pub(crate) fn check(&self) -> crate::Result<()> {
        let [low, high] = self.range();
        if 0.0 < low && low <= high && high.is_finite() {
            return Ok(());
        }
        Err(crate::Error::Config(format!(
            "`reparametrize` is [{low}, {high}]; it must be [low, high] with 0 < low ≤ high, \
             such as [0.1, 10.0]"
        )))
    }

    /// The task with factors drawn for its `tensors` parameter tensors.
    pub(crate) fn apply(self, task: Arc<dyn Task>, tensors: usize, rng: &mut Rng) -> Arc<dyn Task> {
        let [low, high] = self.range();
        let mut draw = || log_uniform(rng, low, high) as f32;
        let factors = match self {
            Self::PerTensor(_) => (0..tensors).map(|_| draw()).collect(),
            Self::Shared { .. } => vec![draw(); tensors],
        };
        Arc::new(Reparametrized::new(task, factors))
    }
}

impl<'de> Deserialize<'de> for Reparametrize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Shared {
            shared: [f64; 2],
        }
        let value = toml::Value::deserialize(deserializer)?;
        let parsed = match value.is_table() {
            true => Shared::deserialize(value).map(|Shared { shared }| Self::Shared { shared }),
            false => <[f64; 2]>::deserialize(value).map(Self::PerTensor),
        };
        parsed.map_err(|error| {
            D::Error::custom(format!(
                "`reparametrize` must be [low, high] or {{ shared = [low, high] }}: {}",
                error.message()
            ))
        })
    }
}

/// The same task in other units:
///
/// ℓ'(φ') = ℓ(c·φ'), ∇ℓ'(φ') = c·∇ℓ(c·φ'), φ'₀ = φ₀/c,
///
/// where tensor i of φ' has its own factor cᵢ.
///
/// An optimizer sees larger or smaller parameters and gradients, for which other step sizes are
/// right. Learned optimizers meta-trained on such tasks generalize better (Celo, arXiv 2501.12670).
///
/// ```
/// use std::sync::Arc;
/// use candle_core::Device;
/// use lopt_core::{Purpose, Streams};
/// use lopt_tasks::{DataStore, MlpTask, Reparametrized, Split, Task, suite::Suite};
///
/// let (config, _) = Suite::Quick.base();
/// let task = Arc::new(MlpTask::new(config, &mut DataStore::default(), &Device::Cpu)?);
/// // layer0/bias, layer0/weight, layer1/bias, layer1/weight
/// let scaled = Reparametrized::new(task.clone(), vec![1.0, 10.0, 1.0, 0.1]);
///
/// let rng = || Streams::new(0).stream(Purpose::ParamsInit, 0, 0, 0);
/// let batch = Task::batch(&*task, Split::Train, &mut rng())?;
/// let loss = task.loss(&task.init(&mut rng())?, &batch)?.to_scalar::<f32>()?;
/// let same = scaled.loss(&scaled.init(&mut rng())?, &batch)?.to_scalar::<f32>()?;
/// assert!((loss - same).abs() < 1e-5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Reparametrized {
    task: Arc<dyn Task>,
    factors: Vec<f32>,
}

impl Reparametrized {
    /// `task` with one factor c > 0 for each parameter tensor, in name order.
    ///
    /// The task's methods return an error if there are more or fewer factors than tensors.
    pub fn new(task: Arc<dyn Task>, factors: Vec<f32>) -> Self {
        Self { task, factors }
    }

    fn factors(&self, n: usize) -> Result<impl Iterator<Item = f64> + '_> {
        if n != self.factors.len() {
            return Err(Error::Mismatch(format!(
                "{} factors for {n} parameter tensors",
                self.factors.len()
            )));
        }
        Ok(self.factors.iter().map(|&c| f64::from(c)))
    }

    /// φ = c·φ'.
    fn original(&self, params: &Params) -> Result<Params> {
        params.with_tensors(self.scaled(params.tensors())?)
    }

    fn scaled(&self, tensors: &[Tensor]) -> Result<Vec<Tensor>> {
        let pairs = tensors.iter().zip(self.factors(tensors.len())?);
        pairs.map(|(t, c)| Ok((t * c)?)).collect()
    }
}

impl Task for Reparametrized {
    fn init(&self, rng: &mut Rng) -> Result<Params> {
        let params = self.task.init(rng)?;
        let pairs = params.tensors().iter().zip(self.factors(params.len())?);
        params.with_tensors(pairs.map(|(p, c)| Ok((p / c)?)).collect::<Result<_>>()?)
    }

    fn batch(&self, split: Split, rng: &mut Rng) -> Result<Batch> {
        self.task.batch(split, rng)
    }

    fn loss(&self, params: &Params, batch: &Batch) -> Result<Tensor> {
        self.task.loss(&self.original(params)?, batch)
    }

    fn differentiate(&self, params: &Params, batch: &Batch) -> Result<(Tensor, Grads)> {
        let (loss, grads) = self.task.differentiate(&self.original(params)?, batch)?;
        let pairs = grads.tensors().iter().zip(self.factors(params.len())?);
        let scaled = pairs.map(|(grad, c)| Ok(grad.as_ref().map(|g| g * c).transpose()?));
        Ok((loss, Grads::new(scaled.collect::<Result<_>>()?)))
    }

    fn hessian_vector(&self, params: &Params, batch: &Batch, v: &[Tensor]) -> Result<Vec<Tensor>> {
        let (params, v) = (self.original(params)?, self.scaled(v)?);
        self.scaled(&self.task.hessian_vector(&params, batch, &v)?)
    }

    fn native(self: Arc<Self>) -> Option<Arc<dyn NativeTask>> {
        let task = self.task.clone().native()?;
        let (factors, sizes) = (self.factors.clone(), task.sizes());
        let native = Native {
            task,
            factors,
            sizes,
        };
        Some(Arc::new(native))
    }

    fn normalize(&self, loss: f32) -> f32 {
        self.task.normalize(loss)
    }

    fn normalize_slope(&self, loss: f32) -> f32 {
        self.task.normalize_slope(loss)
    }

    fn test(&self, params: &Params) -> Result<Option<TestScore>> {
        self.task.test(&self.original(params)?)
    }

    fn name(&self) -> String {
        format!("{} reparametrised", self.task.name())
    }
}

struct Native {
    task: Arc<dyn NativeTask>,
    factors: Vec<f32>,
    sizes: Vec<usize>,
}

impl NativeTask for Native {
    fn sizes(&self) -> Vec<usize> {
        self.sizes.clone()
    }

    fn batch(&self, split: Split, rng: &mut Rng, batch: &mut NativeBatch) {
        self.task.batch(split, rng, batch);
    }

    fn loss_and_grad(
        &self,
        params: &[f32],
        batch: &NativeBatch,
        grads: &mut [f32],
        workspace: &mut Workspace,
    ) -> f32 {
        let mut original = std::mem::take(&mut workspace.params);
        original.clear();
        let segments = self.sizes.iter().zip(&self.factors);
        let mut rest = params;
        for (&size, c) in segments.clone() {
            let (tensor, after) = rest.split_at(size);
            original.extend(tensor.iter().map(|p| p * c));
            rest = after;
        }
        let loss = self.task.loss_and_grad(&original, batch, grads, workspace);
        workspace.params = original;
        let mut rest = grads;
        for (&size, c) in segments {
            let (tensor, after) = rest.split_at_mut(size);
            tensor.iter_mut().for_each(|g| *g *= c);
            rest = after;
        }
        loss
    }
}
