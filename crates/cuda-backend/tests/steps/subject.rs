//! The optimizers under test, with the stand-in as their device.

use candle_core::{Device, Tensor};
use lopt_adam::Adam;
use lopt_blackbox::Blackbox;
use lopt_core::{
    Backend, GradSource, Grads, LearnedOptimizer, Optimizer, Params, Purpose, Result, State,
    StepContext, Streams, normal,
};
use lopt_cuda_backend::{Kernels, OnDevice};
use lopt_online_scale::OnlineScale;
use lopt_star::{Config, Magnitude, Star};

use crate::stand_in::StandIn;

/// An optimizer that takes its steps on a stand-in.
pub struct Subject {
    pub name: &'static str,
    pub optimizer: Box<dyn Optimizer>,
    pub kernels: Kernels,
    pub stand_in: StandIn,
}

/// A backend that copies the parameters back to the host after each step.
struct Pulled(OnDevice<StandIn>, StandIn);

impl Subject {
    fn new(name: &'static str, optimizer: impl Optimizer + 'static, kernels: Kernels) -> Self {
        Self {
            name,
            optimizer: Box::new(optimizer),
            kernels,
            stand_in: StandIn::new(),
        }
    }

    pub fn start(&self, params: &Params) -> Box<dyn Backend> {
        let (device, kernels) = (self.stand_in.clone(), self.kernels.clone());
        let backend = OnDevice::new(device, &*self.optimizer, kernels, params);
        Box::new(Pulled(backend.unwrap().unwrap(), self.stand_in.clone()))
    }

    pub fn step(&self, backend: &mut dyn Backend, params: &Params, grads: &Grads) -> Result<()> {
        let context = StepContext::new(backend.steps(), self.optimizer.learning_rate());
        let new = backend.step(&*self.optimizer, &context, params, grads)?;
        assert!(new.is_none(), "steps are taken in place");
        Ok(())
    }
}

/// With the choice of [`Optimizer::backend`], for drop-ins.
impl Optimizer for Subject {
    fn kind(&self) -> &'static str {
        self.optimizer.kind()
    }

    fn init(&self, params: &Params) -> Result<State> {
        self.optimizer.init(params)
    }

    fn update(
        &self,
        context: &StepContext,
        state: &mut State,
        params: &mut Params,
        grads: &Grads,
    ) -> Result<()> {
        self.optimizer.update(context, state, params, grads)
    }

    fn backend(&self, params: &Params) -> Result<Option<Box<dyn Backend>>> {
        Ok(Some(self.start(params)))
    }

    fn learning_rate(&self) -> f64 {
        self.optimizer.learning_rate()
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.optimizer.set_learning_rate(learning_rate);
    }

    fn as_learned(&self) -> Option<&dyn LearnedOptimizer> {
        self.optimizer.as_learned()
    }
}

impl Backend for Pulled {
    fn path(&self) -> &'static str {
        self.0.path()
    }

    fn steps(&self) -> u64 {
        self.0.steps()
    }

    fn allow_skipping(&mut self) {
        self.0.allow_skipping();
    }

    fn skipped_steps(&self) -> Result<u64> {
        self.0.skipped_steps()
    }

    fn state(&self) -> Result<State> {
        self.0.state()
    }

    fn set_state(&mut self, state: State) -> Result<()> {
        self.0.set_state(state)
    }

    fn set_theta(&mut self, values: &[f32]) -> Result<()> {
        self.0.set_theta(values)
    }

    fn step(
        &mut self,
        optimizer: &dyn Optimizer,
        context: &StepContext,
        params: &Params,
        grads: &dyn GradSource,
    ) -> Result<Option<Params>> {
        let result = self.0.step(optimizer, context, params, grads);
        self.1.pull(params)?;
        result
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
