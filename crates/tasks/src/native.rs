//! Tasks on slices of f32: the fast path of training on the CPU.

use lopt_core::Rng;
use lopt_kernels::mlp;

use crate::Split;

/// A task whose loss and gradient need no tensors.
///
/// It is the same function as [`Task::loss`](crate::Task::loss), to within rounding. Parameters and
/// gradients are \[Σ sizes\]: the tensors, row-major, one after the other in name order.
pub trait NativeTask: Send + Sync {
    /// The number of elements of each parameter tensor, in name order.
    fn sizes(&self) -> Vec<usize>;

    /// Draws a minibatch into `batch`, whose memory is reused: the same as
    /// [`Task::batch`](crate::Task::batch) with the same generator.
    fn batch(&self, split: Split, rng: &mut Rng, batch: &mut NativeBatch);

    /// Returns the loss of φ and overwrites `grads` with its gradient.
    fn loss_and_grad(
        &self,
        params: &[f32],
        batch: &NativeBatch,
        grads: &mut [f32],
        workspace: &mut Workspace,
    ) -> f32;
}

/// Scratch memory that is reused from step to step.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    /// The MLP kernel's memory.
    pub mlp: mlp::Workspace,
    /// The parameters of a [`Reparametrized`](crate::Reparametrized) task in the original units.
    pub params: Vec<f32>,
}

/// A minibatch of labeled vectors.
#[derive(Clone, Debug, Default)]
pub struct NativeBatch {
    /// Indices of the images, \[batch\].
    pub rows: Vec<u32>,
    /// Inputs, \[batch, features\].
    pub inputs: Vec<f32>,
    /// Labels, \[batch\].
    pub labels: Vec<u8>,
}
