//! Backends on the stand-in.

use lopt_core::{
    Backend, GradSource, Grads, LearnedOptimizer, Optimizer, Params, Result, State, StepContext,
};
use lopt_cuda_backend::{Device, OnDevice};

use crate::{stand_in::StandIn, subject::Subject};

/// A backend whose parameters are on the host too: they are copied back to it after each step.
struct Pulled {
    backend: OnDevice<StandIn>,
    stand_in: StandIn,
    /// What the parameters are rounded to.
    rounded: Option<Params>,
}

/// A subject with a stand-in as its device.
pub struct OnStandIn {
    pub subject: Subject,
    pub stand_in: StandIn,
}

impl From<Subject> for OnStandIn {
    fn from(subject: Subject) -> Self {
        let stand_in = StandIn::new();
        Self { subject, stand_in }
    }
}

impl std::ops::Deref for OnStandIn {
    type Target = Subject;

    fn deref(&self) -> &Subject {
        &self.subject
    }
}

impl OnStandIn {
    pub fn start(&self, params: &Params) -> Box<dyn Backend> {
        let (device, kernels) = (self.stand_in.clone(), self.kernels.clone());
        let backend = OnDevice::new(device, &*self.optimizer, kernels, params);
        Box::new(Pulled {
            backend: backend.unwrap().unwrap(),
            stand_in: self.stand_in.clone(),
            rounded: None,
        })
    }
}

/// With the choice of [`Optimizer::backend`], for drop-ins.
impl Optimizer for OnStandIn {
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
        self.subject.optimizer.set_learning_rate(learning_rate);
    }

    fn as_learned(&self) -> Option<&dyn LearnedOptimizer> {
        self.optimizer.as_learned()
    }
}

impl Backend for Pulled {
    fn path(&self) -> &'static str {
        self.backend.path()
    }

    fn steps(&self) -> u64 {
        self.backend.steps()
    }

    fn allow_skipping(&mut self) {
        self.backend.allow_skipping();
    }

    fn round_to(&mut self, params: &Params, rounded: &Params) -> Result<bool> {
        self.rounded = Some(rounded.clone());
        self.backend.round_to(params, rounded)
    }

    fn skipped_steps(&self) -> Result<u64> {
        self.backend.skipped_steps()
    }

    fn state(&self) -> Result<State> {
        self.backend.state()
    }

    fn set_state(&mut self, state: State) -> Result<()> {
        self.backend.set_state(state)
    }

    fn set_theta(&mut self, values: &[f32]) -> Result<()> {
        self.backend.set_theta(values)
    }

    fn step(
        &mut self,
        optimizer: &dyn Optimizer,
        context: &StepContext,
        params: &Params,
        grads: &dyn GradSource,
    ) -> Result<Option<Params>> {
        if let Some(rounded) = &self.rounded {
            // The kernels know where these are.
            for p in params.tensors().iter().chain(rounded.tensors()) {
                self.stand_in.address_of(p, p.dtype())?;
            }
        }
        let result = self.backend.step(optimizer, context, params, grads);
        self.stand_in.pull(params)?;
        if let Some(rounded) = &self.rounded {
            self.stand_in.pull(rounded)?;
        }
        result
    }
}
