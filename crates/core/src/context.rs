/// What an optimizer is told about the step it takes.
///
/// ```
/// use lopt_core::StepContext;
///
/// let context = StepContext::new(0, 1e-3).with_loss(2.3).with_horizon(500);
/// assert_eq!((context.step, context.horizon), (0, Some(500)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepContext {
    /// Steps taken before this one; 0 at the first.
    pub step: u64,
    /// Adam's learning rate, or the factor on the step of a learned optimizer.
    pub learning_rate: f64,
    /// The training loss on the minibatch of the step before the update, if the caller knows it.
    pub loss: Option<f32>,
    /// The number of steps of the whole training, if the caller knows it.
    pub horizon: Option<u64>,
}

impl StepContext {
    /// A step of which neither loss nor horizon is known.
    pub fn new(step: u64, learning_rate: f64) -> Self {
        Self {
            step,
            learning_rate,
            loss: None,
            horizon: None,
        }
    }

    /// With the loss before the update.
    pub fn with_loss(self, loss: f32) -> Self {
        Self {
            loss: Some(loss),
            ..self
        }
    }

    /// With the number of steps of the whole training.
    pub fn with_horizon(self, horizon: u64) -> Self {
        Self {
            horizon: Some(horizon),
            ..self
        }
    }
}
