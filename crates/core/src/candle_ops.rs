use crate::{Backend, Error, GradSource, Optimizer, Params, Result, State, StepContext};

/// The [`Backend`] that runs [`Optimizer::update`] in candle ops, for any optimizer and device.
#[derive(Debug)]
pub struct CandleOps {
    state: State,
    /// The number of meta-parameters.
    theta: Option<usize>,
}

impl CandleOps {
    /// Creates the backend with the optimizer's initial state.
    ///
    /// # Errors
    /// Returns an error if the state cannot be allocated.
    pub fn new(optimizer: &dyn Optimizer, params: &Params) -> Result<Self> {
        let theta = optimizer.as_learned().map(|o| o.theta().values().len());
        let state = optimizer.init(params)?;
        Ok(Self { state, theta })
    }
}

impl Backend for CandleOps {
    fn path(&self) -> &'static str {
        "candle ops"
    }

    fn steps(&self) -> u64 {
        self.state.step
    }

    fn state(&self) -> Result<State> {
        Ok(self.state.clone())
    }

    fn set_state(&mut self, state: State) -> Result<()> {
        if self.state.shapes() != state.shapes() {
            return Err(Error::other_state());
        }
        self.state = state;
        Ok(())
    }

    /// Only checks the number of values: the optimizer passed to [`Backend::step`] has them.
    fn set_theta(&mut self, values: &[f32]) -> Result<()> {
        if self.theta == Some(values.len()) {
            return Ok(());
        }
        let (given, needed) = (values.len(), self.theta.unwrap_or(0));
        let problem = format!("{given} values of θ for an optimizer with {needed} meta-parameters");
        Err(Error::Mismatch(problem))
    }

    fn step(
        &mut self,
        optimizer: &dyn Optimizer,
        context: &StepContext,
        params: &Params,
        grads: &dyn GradSource,
    ) -> Result<Option<Params>> {
        context.check()?;
        let mut params = params.clone();
        let grads = grads.to_grads();
        optimizer.update(context, &mut self.state, &mut params, &grads)?;
        Ok(Some(params))
    }
}
