//! Reparametrised tasks: augmentation for meta-training.

use std::sync::Arc;

use candle_core::Tensor;
use lopt_core::{Error, Grads, Params, Result, Rng};

use crate::{Batch, NativeBatch, NativeTask, Split, Task, TestScore, Workspace};

/// The same function in other units: tensor i of φ is c_i times tensor i of what is trained, φ'.
/// The loss of φ' is ℓ(c·φ'), its gradient c·∇ℓ, its start that of φ over c.
///
/// An optimizer sees larger or smaller parameters and gradients, for which steps of another size
/// are right: learned optimizers generalise better when meta-trained so (Celo, arXiv
/// 2501.12670).
pub struct Reparametrized {
    task: Arc<dyn Task>,
    factors: Vec<f32>,
}

impl Reparametrized {
    /// One factor c for each parameter tensor, in name order.
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

    /// φ of φ'.
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

    fn loss_and_grad(&self, params: &Params, batch: &Batch) -> Result<(f32, Grads)> {
        let (loss, grads) = self.task.loss_and_grad(&self.original(params)?, batch)?;
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
