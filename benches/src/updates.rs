//! Optimizer steps alone, on random parameters and gradients.

use candle_core::{Device, Tensor};
use lopt_core::{
    FusedUpdate, Grads, LearnedOptimizer, Optimizer, Params, Purpose, State, StepContext, Streams,
    normal,
};
use lopt_star::{Config, Star};

/// A random STAR with the default configuration.
///
/// # Panics
/// Never panics: the default configuration is valid.
pub fn star() -> Star {
    star_of(Config::default())
}

/// STAR of this configuration with random θ.
///
/// # Panics
/// Panics if the configuration is not valid.
pub fn star_of(config: Config) -> Star {
    let mut rng = Streams::new(0).stream(Purpose::ThetaInit, 0, 0, 0);
    Star::init(config, 1.0, &mut rng).expect("a valid configuration")
}

/// The parameter tensors of a network.
pub struct Tensors {
    /// Name in the tables.
    pub name: &'static str,
    /// Shapes of the tensors.
    pub shapes: Vec<Vec<usize>>,
}

impl Tensors {
    /// Weights and biases of an MLP.
    pub fn mlp(name: &'static str, sizes: &[usize]) -> Self {
        let layers = sizes.windows(2);
        let shapes = layers.flat_map(|pair| [vec![pair[0], pair[1]], vec![pair[1]]]);
        Self {
            name,
            shapes: shapes.collect(),
        }
    }

    /// Total number of elements.
    pub fn numel(&self) -> usize {
        let count = |shape: &Vec<usize>| shape.iter().product::<usize>();
        self.shapes.iter().map(count).sum()
    }

    /// Draws random parameters and gradients.
    ///
    /// # Panics
    /// Never panics: the tensors are f32 on the CPU.
    pub fn random(&self) -> (Params, Grads) {
        let mut rng = Streams::new(1).stream(Purpose::Evaluation, 0, 0, 0);
        let mut tensor = |shape: &Vec<usize>, scale: f32| {
            let n = shape.iter().product();
            let values = (0..n).map(|_| scale * normal(&mut rng)).collect();
            Tensor::from_vec(values, shape.as_slice(), &Device::Cpu).expect("a tensor")
        };
        let mut named = vec![];
        for (index, shape) in self.shapes.iter().enumerate() {
            named.push((format!("{index:04}"), tensor(shape, 0.1)));
        }
        let grads = self.shapes.iter().map(|shape| Some(tensor(shape, 0.01)));
        let grads = Grads::new(grads.collect());
        (Params::new(named).expect("names that differ"), grads)
    }
}

/// Networks of 25 thousand to 10 million parameters.
pub fn four_sizes() -> [Tensors; 4] {
    let layers = |n: usize| [1024; 11][..=n].to_vec();
    [
        Tensors::mlp("784-32-10", &[784, 32, 10]),
        Tensors::mlp("784-128-128-10", &[784, 128, 128, 10]),
        Tensors::mlp("1024-1024", &layers(1)),
        Tensors::mlp("10 layers 1024-1024", &layers(10)),
    ]
}

/// Repeated steps of a fused update.
pub struct FusedSteps {
    update: Box<dyn FusedUpdate>,
    learning_rate: f64,
    step: u64,
    p: Vec<Vec<f32>>,
    g: Vec<Vec<f32>>,
    network: Vec<Vec<f32>>,
    slots: Vec<Vec<Vec<f32>>>,
}

impl FusedSteps {
    /// Starts from the initial state of `optimizer`, to which `update` belongs.
    ///
    /// # Panics
    /// Never panics: the tensors are f32 on the CPU.
    pub fn new(
        optimizer: &dyn Optimizer,
        update: Box<dyn FusedUpdate>,
        params: &Params,
        grads: &Grads,
    ) -> Self {
        let values = |t: &Tensor| -> Vec<f32> {
            let flat = t.flatten_all().and_then(|t| t.to_vec1());
            flat.expect("f32 values")
        };
        let state = optimizer.init(params).expect("a state");
        let slots = state.slots.iter();
        Self {
            update,
            learning_rate: optimizer.learning_rate(),
            step: 0,
            p: params.tensors().iter().map(values).collect(),
            g: grads.tensors().iter().flatten().map(values).collect(),
            network: state
                .network
                .iter()
                .map(|slot| values(&slot.value))
                .collect(),
            slots: slots
                .map(|slots| slots.iter().map(|slot| values(&slot.value)).collect())
                .collect(),
        }
    }

    /// Takes one step on all tensors.
    pub fn step(&mut self) {
        let context = StepContext::new(self.step, self.learning_rate);
        let gradients = self.g.iter().zip(&mut self.slots).enumerate();
        for (index, (g, slots)) in gradients {
            self.update.observe(index, g, slots);
        }
        self.update.begin_step(&context, &mut self.network);
        let tensors = self.p.iter_mut().zip(&self.g).zip(&mut self.slots);
        for (index, ((p, g), slots)) in tensors.enumerate() {
            self.update.update(index, p, g, slots);
        }
        self.step += 1;
    }
}

/// Repeated steps of an update in candle ops.
pub struct OpSteps<'a> {
    optimizer: &'a dyn LearnedOptimizer,
    state: State,
    params: Params,
    grads: Grads,
}

impl<'a> OpSteps<'a> {
    /// Starts from the initial state of `optimizer`.
    ///
    /// # Panics
    /// Never panics: the tensors are f32 on the CPU.
    pub fn new(optimizer: &'a dyn LearnedOptimizer, params: Params, grads: Grads) -> Self {
        Self {
            state: optimizer.init(&params).expect("a state"),
            optimizer,
            params,
            grads,
        }
    }

    /// Takes one step on all tensors.
    ///
    /// # Panics
    /// Never panics: the gradients are finite.
    pub fn step(&mut self) {
        let (state, params) = (&mut self.state, &mut self.params);
        let done = self.optimizer.step(state, params, &self.grads);
        done.expect("a step");
    }
}
