//! Multi-layer perceptrons: the cross-entropy loss and its gradient.

mod activation;
mod cross_entropy;
mod matmul;

pub use activation::Activation;

use activation::{activate, backpropagate};
use cross_entropy::cross_entropy;
use matmul::{Matrix, column_sums, matmul, transpose};

use crate::Isa;

/// One layer z = x·W + b, with the offsets of its parameters in the flat vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Length of x.
    pub inputs: usize,
    /// Length of z.
    pub outputs: usize,
    /// Offset of W, \[inputs, outputs\] row-major.
    pub weight: usize,
    /// Offset of b, \[outputs\].
    pub bias: usize,
}

/// logits = a(… a(x·W_0 + b_0) …)·W_L + b_L with the activation a, and the cross-entropy loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mlp {
    layers: Vec<Layer>,
    activation: Activation,
}

/// Memory that is reused between steps.
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    /// z of each layer, \[batch, outputs\]; that of the last layer are the logits.
    z: Vec<Vec<f32>>,
    /// a(z) of each layer except the last.
    a: Vec<Vec<f32>>,
    /// The gradient of the loss with respect to z of the current layer, and of the one below.
    dz: Vec<f32>,
    below: Vec<f32>,
    transposed: Vec<f32>,
}

impl Mlp {
    /// Creates a network from its layers, first to last.
    ///
    /// # Panics
    /// Panics if there are no layers, a layer has no inputs or outputs, or its outputs are not the
    /// inputs of the next one.
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

    /// The layers, the first one first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Where each weight and bias begins in the flat vector, and its number of elements, in the order of
    /// that vector.
    pub fn parameters(&self) -> Vec<(usize, usize)> {
        let of_layer = |layer: &Layer| {
            let weight = (layer.weight, layer.inputs * layer.outputs);
            [weight, (layer.bias, layer.outputs)]
        };
        let mut parameters: Vec<_> = self.layers.iter().flat_map(of_layer).collect();
        parameters.sort_unstable();
        parameters
    }

    /// The activation between layers.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// Returns the mean cross-entropy over a batch and writes its gradient with respect to the
    /// flat parameter vector to `grads`; `x` is \[batch, inputs\], `labels` is \[batch\]. Entries
    /// of `grads` that belong to no layer are unchanged.
    ///
    /// # Panics
    /// Panics if a slice has the wrong length, the batch is empty, or a label is not below the
    /// number of classes.
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

    /// The forward pass: fills `z` and `a`.
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
            "x must be [batch, inputs]"
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

    /// The backward pass of one layer: its gradients from `dz`, and `dz` of the layer below.
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
