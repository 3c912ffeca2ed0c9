//! Multi-layer perceptrons: cross-entropy loss and its gradient.

mod activation;
mod cross_entropy;
mod matmul;

pub use activation::Activation;

use activation::{activate, backpropagate};
use cross_entropy::cross_entropy;
use matmul::{Matrix, column_sums, matmul, transpose};

use crate::Isa;

/// One layer z = x·W + b, and where its parameters are in the flat vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Length of x.
    pub inputs: usize,
    /// Length of z.
    pub outputs: usize,
    /// First element of W, \[inputs, outputs\] row-major.
    pub weight: usize,
    /// First element of b, \[outputs\].
    pub bias: usize,
}

/// logits = W_L·a(… a(W_0·x + b_0) …) + b_L, with the cross-entropy of labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mlp {
    layers: Vec<Layer>,
    activation: Activation,
}

/// Memory that is reused from step to step.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    /// z of each layer, \[batch, outputs\]; of the last, the logits.
    z: Vec<Vec<f32>>,
    /// a(z) of each layer but the last.
    a: Vec<Vec<f32>>,
    /// The loss's gradient in z of the layer at hand, and in that of the one below.
    dz: Vec<f32>,
    below: Vec<f32>,
    transposed: Vec<f32>,
}

impl Mlp {
    /// From the first layer to the last.
    ///
    /// # Panics
    /// If there is no layer, one has no inputs or outputs, or they do not follow each
    /// other.
    pub fn new(layers: Vec<Layer>, activation: Activation) -> Self {
        assert!(!layers.is_empty(), "a network without layers");
        assert!(
            layers
                .windows(2)
                .all(|pair| pair[0].outputs == pair[1].inputs)
        );
        assert!(
            layers
                .iter()
                .all(|layer| layer.inputs > 0 && layer.outputs > 0)
        );
        Self { layers, activation }
    }

    /// Mean cross-entropy over a batch, and its gradient in the flat vector of
    /// parameters: `x` \[batch, inputs\], `labels` \[batch\]. Entries of `grads` that
    /// belong to no layer stay.
    ///
    /// # Panics
    /// If the slices do not fit, the batch is empty, or a label is no class.
    pub fn loss_and_grad(
        &self,
        isa: Isa,
        params: &[f32],
        x: &[f32],
        labels: &[u8],
        grads: &mut [f32],
        workspace: &mut Workspace,
    ) -> f32 {
        let batch = labels.len();
        self.forward(isa, params, x, batch, workspace);
        let Workspace { z, dz, .. } = workspace;
        let last = self.layers.len() - 1;
        let classes = self.layers[last].outputs;
        dz.resize(batch * classes, 0.0);
        let loss = cross_entropy(isa, &z[last], labels, classes, dz);
        for index in (0..=last).rev() {
            self.backward(isa, index, params, x, batch, grads, workspace);
        }
        loss
    }

    /// Fills z and a.
    fn forward(
        &self,
        isa: Isa,
        params: &[f32],
        x: &[f32],
        batch: usize,
        workspace: &mut Workspace,
    ) {
        let Workspace { z, a, .. } = workspace;
        let count = self.layers.len();
        z.resize_with(count, Vec::new);
        a.resize_with(count - 1, Vec::new);
        assert!(
            x.len() == batch * self.layers[0].inputs,
            "a batch of another size"
        );
        for (index, layer) in self.layers.iter().enumerate() {
            let input = if index == 0 { x } else { &a[index - 1] };
            let z = &mut z[index];
            z.resize(batch * layer.outputs, 0.0);
            let input = Matrix::new(input, batch, layer.inputs);
            matmul(
                isa,
                &input,
                layer.weight(params),
                Some(layer.bias(params)),
                z,
            );
            if let Some(a) = a.get_mut(index) {
                a.resize(z.len(), 0.0);
                activate(isa, self.activation, z, a);
            }
        }
    }

    /// Gradients of one layer from dz, and dz of the layer below.
    #[allow(clippy::too_many_arguments)]
    fn backward(
        &self,
        isa: Isa,
        index: usize,
        params: &[f32],
        x: &[f32],
        batch: usize,
        grads: &mut [f32],
        workspace: &mut Workspace,
    ) {
        let Workspace {
            z,
            a,
            dz,
            below,
            transposed,
        } = workspace;
        let layer = &self.layers[index];
        let input = if index == 0 { x } else { &a[index - 1] };
        let input = Matrix::new(input, batch, layer.inputs).transposed();
        let weights = layer.weight..layer.weight + layer.inputs * layer.outputs;
        matmul(isa, &input, dz, None, &mut grads[weights]);
        column_sums(isa, dz, &mut grads[layer.bias..layer.bias + layer.outputs]);
        if index > 0 {
            transposed.resize(layer.inputs * layer.outputs, 0.0);
            transpose(layer.weight(params), layer.outputs, transposed);
            below.resize(batch * layer.inputs, 0.0);
            let of_layer = Matrix::new(dz, batch, layer.outputs);
            matmul(isa, &of_layer, transposed, None, below);
            backpropagate(isa, self.activation, &z[index - 1], below);
            std::mem::swap(dz, below);
        }
    }
}

impl Layer {
    fn weight<'a>(&self, params: &'a [f32]) -> &'a [f32] {
        &params[self.weight..self.weight + self.inputs * self.outputs]
    }

    fn bias<'a>(&self, params: &'a [f32]) -> &'a [f32] {
        &params[self.bias..self.bias + self.outputs]
    }
}
