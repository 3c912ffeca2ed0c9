//! Tasks on plain f32 memory: the fast path of training on the CPU.

use lopt_core::Rng;
use lopt_kernels::mlp;

use crate::Split;

/// A task whose loss and gradient need no tensors. The same function as the task's
/// [`Task::loss`](crate::Task::loss), to within rounding.
pub trait NativeTask: Send + Sync {
    /// How many numbers each parameter tensor has, in name order.
    fn sizes(&self) -> Vec<usize>;

    /// Draws a minibatch, the same as [`Task::batch`](crate::Task::batch) with the same
    /// generator, into memory that is reused.
    fn batch(&self, split: Split, rng: &mut Rng, batch: &mut NativeBatch);

    /// The loss of φ and its gradient; parameters lie one after the other in name order.
    fn loss_and_grad(
        &self,
        params: &[f32],
        batch: &NativeBatch,
        grads: &mut [f32],
        workspace: &mut Workspace,
    ) -> f32;
}

/// Memory that is reused from step to step.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    /// The network's.
    pub mlp: mlp::Workspace,
    /// Parameters in other units.
    pub params: Vec<f32>,
}

/// A minibatch of classified vectors.
#[derive(Clone, Debug, Default)]
pub struct NativeBatch {
    /// Which images, \[batch\].
    pub rows: Vec<u32>,
    /// \[batch, features\]
    pub inputs: Vec<f32>,
    /// \[batch\]
    pub labels: Vec<u8>,
}
