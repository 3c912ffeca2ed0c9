use crate::{Backend, Error, GradSource, Optimizer, Params, Result, State, StepContext};

/// The [`Backend`] of any optimizer on any device: [`Optimizer::update`], in candle ops.
#[derive(Debug)]
pub struct CandleOps {
    state: State,
}

impl CandleOps {
    /// With the state before the first step.
    ///
    /// # Errors
    /// Returns an error if the state cannot be allocated.
    pub fn new(optimizer: &dyn Optimizer, params: &Params) -> Result<Self> {
        let state = optimizer.init(params)?;
        Ok(Self { state })
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
        if !self.state.has_shapes_of(&state) {
            return Err(Error::other_state());
        }
        self.state = state;
        Ok(())
    }

    /// The optimizer that is passed to each step has θ.
    fn set_theta(&mut self, _: &[f32]) -> Result<()> {
        Ok(())
    }

    fn step(
        &mut self,
        optimizer: &dyn Optimizer,
        context: &StepContext,
        params: &Params,
        grads: &dyn GradSource,
    ) -> Result<Option<Params>> {
        let mut params = params.clone();
        let grads = grads.to_grads(params.len());
        optimizer.update(context, &mut self.state, &mut params, &grads)?;
        Ok(Some(params))
    }
}
