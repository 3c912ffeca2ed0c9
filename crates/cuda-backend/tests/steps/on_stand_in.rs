//! Backends on the stand-in.

use lopt_core::{
    Backend, GradSource, Grads, LearnedOptimizer, Optimizer, Params, Result, State, StepContext,
};
use lopt_cuda_backend::OnDevice;

use crate::{stand_in::StandIn, subject::Subject};

/// A backend that copies the parameters back to the host after each step.
struct Pulled(OnDevice<StandIn>, StandIn);

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
        Box::new(Pulled(backend.unwrap().unwrap(), self.stand_in.clone()))
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
