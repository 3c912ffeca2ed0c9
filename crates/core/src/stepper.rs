use crate::{Fused, Optimizer, Params, Result, State};

/// How the steps of an optimizer are taken, and its state.
#[derive(Debug)]
pub enum Stepper {
    /// In the parameters' own memory, by the CPU kernels.
    Fused(Box<Fused>),
    /// By [`Optimizer::update`], in candle ops.
    Ops(State),
}

impl Stepper {
    /// Fused where that can be.
    ///
    /// # Errors
    /// Those of candle.
    pub fn new(optimizer: &dyn Optimizer, params: &Params) -> Result<Self> {
        Ok(match Fused::new(optimizer, params)? {
            Some(fused) => Stepper::Fused(Box::new(fused)),
            None => Stepper::Ops(optimizer.init(params)?),
        })
    }

    /// What takes the steps: "avx512", "avx2", "portable" or "candle ops".
    pub fn path(&self) -> &'static str {
        match self {
            Stepper::Fused(fused) => fused.kernel(),
            Stepper::Ops(_) => "candle ops",
        }
    }

    /// The state as tensors.
    ///
    /// # Errors
    /// Those of candle.
    pub fn state(&self) -> Result<State> {
        match self {
            Stepper::Fused(fused) => fused.state(),
            Stepper::Ops(state) => Ok(state.clone()),
        }
    }

    /// Goes on from a state of the same optimizer and shapes.
    ///
    /// # Errors
    /// If it does not fit; the state is then as before.
    pub fn set_state(&mut self, state: State) -> Result<()> {
        match self {
            Stepper::Fused(fused) => fused.set_state(&state)?,
            Stepper::Ops(old) => {
                if old.shapes() != state.shapes() {
                    return Err(State::of_others());
                }
                *old = state;
            }
        }
        Ok(())
    }
}
