use crate::{Error, Result};

/// Information about one step, passed to the optimizer.
///
/// ```
/// use lopt_core::StepContext;
///
/// let context = StepContext::new(0, 1e-3).with_loss(2.3).with_horizon(500);
/// assert_eq!((context.step, context.horizon), (0, Some(500)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepContext {
    /// The number of steps before this one; 0 for the first.
    pub step: u64,
    /// The learning rate; a learned optimizer multiplies its update by it, before an online scale.
    pub learning_rate: f64,
    /// The training loss on this step's minibatch before the update, if known.
    pub loss: Option<f32>,
    /// The total number of steps of the training run, if known.
    pub horizon: Option<u64>,
}

impl StepContext {
    /// Creates a context with an unknown loss and horizon.
    pub fn new(step: u64, learning_rate: f64) -> Self {
        Self {
            step,
            learning_rate,
            loss: None,
            horizon: None,
        }
    }

    /// Checks that the learning rate is finite.
    ///
    /// # Errors
    /// Returns [`Error::Setting`] if it is not.
    pub fn check(&self) -> Result<()> {
        if self.learning_rate.is_finite() {
            return Ok(());
        }
        Err(Error::Setting(format!(
            "the learning rate is {}; the step was refused and nothing was changed. Set a finite one",
            self.learning_rate
        )))
    }

    /// Sets the loss before the update.
    pub fn with_loss(self, loss: f32) -> Self {
        Self {
            loss: Some(loss),
            ..self
        }
    }

    /// Sets the total number of steps of the training run.
    pub fn with_horizon(self, horizon: u64) -> Self {
        Self {
            horizon: Some(horizon),
            ..self
        }
    }
}
