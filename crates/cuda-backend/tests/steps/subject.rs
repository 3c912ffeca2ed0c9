//! The optimizers under test.

use candle_core::{Device, Tensor};
use lopt_adam::Adam;
use lopt_blackbox::Blackbox;
use lopt_core::{
    Backend, Fused, Grads, Optimizer, Params, Purpose, Result, StepContext, Streams, normal,
};
use lopt_cuda_backend::Kernels;
use lopt_online_scale::OnlineScale;
use lopt_star::{Config, Magnitude, Star};

/// An optimizer and its kernels.
pub struct Subject {
    pub name: &'static str,
    pub optimizer: Box<dyn Optimizer>,
    pub kernels: Kernels,
}

impl Subject {
    fn new(name: &'static str, optimizer: impl Optimizer + 'static, kernels: Kernels) -> Self {
        Self {
            name,
            optimizer: Box::new(optimizer),
            kernels,
        }
    }

    /// Takes a step at the optimizer's own learning rate.
    pub fn train(&self, backend: &mut dyn Backend, params: &Params, grads: &Grads) -> Result<()> {
        let context = StepContext::new(backend.steps(), self.optimizer.learning_rate());
        let new = backend.step(&*self.optimizer, &context, params, grads)?;
        assert!(new.is_none(), "steps are taken in place");
        Ok(())
    }
}

fn star(name: &'static str, star: Star) -> Subject {
    let kernels = star.cuda_kernels().unwrap();
    Subject::new(name, star, kernels)
}

fn blackbox(name: &'static str, blackbox: Blackbox) -> Subject {
    let kernels = blackbox.cuda_kernels().unwrap();
    Subject::new(name, blackbox, kernels)
}

pub fn adam(name: &'static str, online_scale: Option<OnlineScale>) -> Subject {
    let adam = Adam {
        online_scale,
        ..Adam::new(1e-2)
    };
    let kernels = adam.cuda_kernels();
    Subject::new(name, adam, kernels)
}

/// STAR with an initial θ, whose terms all matter, and one setting changed.
pub fn changed(name: &'static str, change: impl FnOnce(&mut Config)) -> Subject {
    let mut config = Config::default();
    config.multipliers.nominal_exp = 0.3;
    config.multipliers.blackbox_exp = 0.2;
    config.multipliers.blackbox_step = 0.01;
    change(&mut config);
    let mut rng = Streams::new(1).stream(Purpose::ThetaInit, 0, 0, 0);
    star(name, Star::init(config, 1.0, &mut rng).unwrap())
}

pub fn pretrained() -> Subject {
    star("star", Star::pretrained())
}

pub fn blackbox_of_the_paper() -> Subject {
    blackbox("blackbox of the paper", lopt_blackbox::paper())
}

pub fn scale(gradient_rms: Option<f64>) -> Option<OnlineScale> {
    Some(OnlineScale {
        gradient_rms,
        ..OnlineScale::default()
    })
}

/// Each rule with and without an online scale, and each way to scale.
pub fn all() -> Vec<Subject> {
    vec![
        pretrained(),
        star("star of the paper", lopt_star::paper()),
        changed("star per tensor", |config| {
            config.nominal_magnitude = Magnitude::PerTensor;
            config.blackbox_magnitude = Magnitude::PerTensor;
        }),
        changed("star beyond its time limit", |config| {
            config.time_limit = Some(5);
            config.online_scale = scale(Some(0.01));
        }),
        changed("star of width 16", |config| config.hidden = vec![16, 16]),
        blackbox("blackbox", Blackbox::pretrained()),
        blackbox_of_the_paper(),
        adam("adam", None),
        adam("adam with a scale", scale(None)),
        adam("adam with a scale and scaled gradients", scale(Some(1.0))),
    ]
}

pub fn tensor(dims: &[usize], seed: u64, step: u64) -> Tensor {
    let mut rng = Streams::new(seed).stream(Purpose::Evaluation, step, 0, 0);
    let count = dims.iter().product();
    let values: Vec<f32> = (0..count).map(|_| 0.3 * normal(&mut rng)).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

pub fn params(shapes: &[&[usize]]) -> Params {
    let named = shapes.iter().enumerate();
    let named = named.map(|(i, dims)| (format!("p{i:03}"), tensor(dims, i as u64, 0)));
    Params::new(named).unwrap()
}

/// Gradients of all parameters.
pub fn grads(params: &Params, step: u64) -> Grads {
    let all = params.tensors().iter().enumerate();
    let all = all.map(|(i, p)| Some(tensor(p.dims(), 1000 + i as u64, step)));
    Grads::new(all.collect())
}

/// All values in one row.
pub fn flat<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Vec<f32> {
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    tensors.into_iter().flat_map(values).collect()
}

/// Ranks 0 to 4, some without elements, one with several tiles.
pub fn few() -> Params {
    params(&[
        &[],
        &[7],
        &[0],
        &[17, 33],
        &[3, 0, 2],
        &[5, 19, 3],
        &[4, 3, 3, 3],
        &[70, 90],
    ])
}

/// The same values in memory of their own.
pub fn copies(params: &Params) -> Params {
    let copies = params.tensors().iter().map(|p| p.copy().unwrap());
    params.with_tensors(copies.collect()).unwrap()
}

/// The largest difference of two rows over the largest entry of the second.
pub fn difference(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let largest = theirs.iter().fold(0f32, |max, x| max.max(x.abs()));
    let pairs = ours.iter().zip(theirs);
    let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    if worst == 0.0 { 0.0 } else { worst / largest }
}

/// The CPU kernels, with parameters of their own.
pub struct Reference<'a> {
    subject: &'a Subject,
    pub fused: Fused,
    pub params: Params,
}

impl<'a> Reference<'a> {
    pub fn new(subject: &'a Subject, params: &Params) -> Self {
        let params = copies(params);
        let fused = Fused::new(&*subject.optimizer, &params).unwrap().unwrap();
        Self {
            subject,
            fused,
            params,
        }
    }

    pub fn step(&mut self, grads: &Grads) {
        let (subject, params) = (self.subject, &self.params);
        subject.train(&mut self.fused, params, grads).unwrap();
    }

    /// The difference of parameters and state to those of another backend.
    pub fn difference(&self, backend: &dyn Backend, params: &Params) -> f32 {
        let (ours, theirs) = (backend.state().unwrap(), self.fused.state().unwrap());
        assert_eq!(ours.step, theirs.step);
        let slots = ours.all_slots().zip(theirs.all_slots());
        let of_slots = slots.map(|(ours, theirs)| {
            assert_eq!(ours.name, theirs.name);
            assert_eq!(ours.value.dims(), theirs.value.dims());
            difference(&flat([&ours.value]), &flat([&theirs.value]))
        });
        let of_params = difference(&flat(params.tensors()), &flat(self.params.tensors()));
        of_slots.fold(of_params, f32::max)
    }
}
