//! Networks that are trained together, against the CPU kernels that train each by itself.

use lopt_core::{Backend, Fused, Params, State, StepContext};
use lopt_cuda_backend::{Classifier, Fleet, Pixels};
use lopt_kernels::{Isa, mlp};

use crate::subject::{Subject, copies, difference, flat, params};

const IMAGES: usize = 60;
pub const BATCH: usize = 37;

/// Widths of the layers, the input first.
pub struct Shape(pub &'static [usize], pub mlp::Activation);

impl Shape {
    pub fn start(&self) -> Params {
        let dims: Vec<Vec<usize>> = self
            .0
            .windows(2)
            .flat_map(|pair| [pair.to_vec(), vec![pair[1]]])
            .collect();
        let dims: Vec<&[usize]> = dims.iter().map(Vec::as_slice).collect();
        params(&dims)
    }

    /// The parameters are W and b of each layer in turn.
    fn native(&self) -> mlp::Mlp {
        let mut at = 0;
        let layers = self.0.windows(2).map(|pair| {
            let (inputs, outputs) = (pair[0], pair[1]);
            let layer = mlp::Layer {
                inputs,
                outputs,
                weight: at,
                bias: at + inputs * outputs,
            };
            at = layer.bias + outputs;
            layer
        });
        mlp::Mlp::new(layers.collect(), self.1)
    }
}

/// Bytes that look random.
fn noise(count: usize, below: u32) -> Vec<u8> {
    let next = |state: &mut u32| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some((*state >> 8) % below)
    };
    let numbers = (0..count).scan(7, |state, _| next(state));
    numbers.map(|number| number as u8).collect()
}

/// The images of each step and minibatch.
pub fn rows(steps: usize, minibatches: usize) -> Vec<u32> {
    let all = noise(steps * minibatches * BATCH, IMAGES as u32);
    all.into_iter().map(u32::from).collect()
}

/// One network on the CPU.
struct Alone<'a> {
    subject: &'a Subject,
    mlp: mlp::Mlp,
    fused: Fused,
    params: Params,
    values: Vec<f32>,
    workspace: mlp::Workspace,
}

impl<'a> Alone<'a> {
    fn new(shape: &Shape, subject: &'a Subject, params: &Params) -> Self {
        Self {
            subject,
            mlp: shape.native(),
            fused: Fused::new(&*subject.optimizer, params).unwrap().unwrap(),
            values: flat(params.tensors()),
            params: copies(params),
            workspace: mlp::Workspace::default(),
        }
    }

    fn step(&mut self, x: &[f32], labels: &[u8]) -> f32 {
        let mut grads = vec![0.0; self.values.len()];
        let (isa, workspace) = (Isa::best(), &mut self.workspace);
        let loss = self
            .mlp
            .loss_and_grad(isa, &self.values, x, labels, &mut grads, workspace);
        let ends = self.params.tensors().iter().scan(0, |end, p| {
            *end += p.elem_count();
            Some(*end)
        });
        let ends: Vec<usize> = ends.collect();
        let rate = self.subject.optimizer.learning_rate();
        let context = StepContext::new(self.fused.steps(), rate);
        let names = self.params.names();
        let result = self
            .fused
            .step_flat(&context, names, &ends, &mut self.values, &grads);
        assert!(result.is_ok() || !loss.is_finite());
        loss
    }
}

/// Images and their labels.
pub struct Images {
    pixels: Vec<u8>,
    labels: Vec<u8>,
    features: usize,
}

impl Images {
    pub fn new(shape: &Shape) -> Self {
        let (features, classes) = (shape.0[0], shape.0[shape.0.len() - 1]);
        Self {
            pixels: noise(IMAGES * features, 256),
            labels: noise(IMAGES, classes as u32),
            features,
        }
    }

    fn batch(&self, rows: &[u32], scale: f32) -> (Vec<f32>, Vec<u8>) {
        let image = |row: &u32| {
            let at = *row as usize * self.features;
            let pixels = self.pixels[at..at + self.features].iter();
            pixels.map(|byte| f32::from(*byte) / 255.0 * scale)
        };
        let label = |row: &u32| self.labels[*row as usize];
        (
            rows.iter().flat_map(image).collect(),
            rows.iter().map(label).collect(),
        )
    }

    pub fn classifier<'a>(&'a self, shape: &Shape, scale: f32) -> Classifier<'a> {
        Classifier {
            mlp: shape.native(),
            batch: BATCH,
            template: shape.start(),
            pixels: Pixels::Bytes(&self.pixels),
            scale,
            labels: &self.labels,
        }
    }
}

/// The largest difference of parameters and state.
fn compare(alone: &Alone, params: &Params, state: &State) -> f32 {
    let theirs = alone.fused.state().unwrap();
    assert_eq!(state.step, theirs.step);
    let slots = state.all_slots().zip(theirs.all_slots());
    let of_slots = slots.map(|(ours, theirs)| {
        assert_eq!(ours.value.dims(), theirs.value.dims());
        difference(&flat([&ours.value]), &flat([&theirs.value]))
    });
    let of_params = difference(&flat(params.tensors()), &alone.values);
    of_slots.fold(of_params, f32::max)
}

/// Two layers, one, and three that do not fill tiles.
pub fn shapes() -> [Shape; 3] {
    use mlp::Activation::{Relu, Tanh};
    [
        Shape(&[70, 33, 10], Relu),
        Shape(&[40, 3], Relu),
        Shape(&[20, 64, 5, 7], Tanh),
    ]
}

/// θ of a network that starts from parameters with this factor.
fn theta_of(factor: f64, subject: &Subject) -> Option<Vec<f32>> {
    let theta = subject.optimizer.as_learned()?.theta().values().iter();
    Some(theta.map(|x| x * (0.9 + 0.2 * factor as f32)).collect())
}

/// Trains four networks, with their own φ and θ, of which one is started anew on the way. Returns the
/// largest difference of losses, parameters and states.
pub fn trained(
    subject: &Subject,
    shape: &Shape,
    steps: usize,
    new: impl FnOnce(&Classifier) -> Box<dyn Fleet>,
) -> f32 {
    const SCALE: f32 = 0.5;
    let images = Images::new(shape);
    let mut fleet = new(&images.classifier(shape, SCALE));
    let start = |fleet: &mut dyn Fleet, network: usize, factor: f64| {
        let params = shape.start();
        let tensors = params.tensors().iter().map(|p| (p * factor).unwrap());
        let params = params.with_tensors(tensors.collect()).unwrap();
        let mut alone = Alone::new(shape, subject, &params);
        fleet.start(network, &params).unwrap();
        if let Some(theta) = theta_of(factor, subject) {
            alone.fused.set_theta(&theta).unwrap();
            fleet.set_theta(network, &theta).unwrap();
        }
        alone
    };
    let networks = 0..4;
    let mut alone: Vec<Alone> = networks
        .map(|network| start(&mut *fleet, network, 0.2 + 0.1 * network as f64))
        .collect();
    let rows = rows(steps, 2);
    fleet.begin(&rows).unwrap();
    let mut expected = vec![];
    for (step, of_step) in rows.chunks(2 * BATCH).enumerate() {
        fleet.step().unwrap();
        for (network, alone) in alone.iter_mut().enumerate() {
            let rows = &of_step[network / 2 * BATCH..][..BATCH];
            let (x, labels) = images.batch(rows, SCALE);
            expected.push(alone.step(&x, &labels));
        }
        if step == steps / 2 {
            alone[2] = start(&mut *fleet, 2, 0.6);
        }
    }
    let taken = fleet.results().unwrap();
    assert!(taken.iter().all(|taken| !taken.refused));
    let losses: Vec<f32> = taken.iter().map(|taken| taken.loss).collect();
    let of_losses = difference(&losses, &expected);
    let all = alone.iter().enumerate().map(|(network, alone)| {
        let (params, state) = (fleet.params(network), fleet.state(network));
        compare(alone, &params.unwrap(), &state.unwrap())
    });
    all.fold(of_losses, f32::max)
}
