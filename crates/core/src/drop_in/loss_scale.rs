use crate::{Error, Result};

/// A factor S on the loss, so that small gradients do not vanish in f16. The gradients are divided by
/// S before they are used.
///
/// If a gradient is not finite, the step is skipped and S is halved; after `growth_interval` steps
/// without that, S is doubled. [`backward_step`](candle_nn::Optimizer::backward_step) multiplies the
/// loss by S; before you call [`step`](candle_nn::Optimizer::step), multiply it yourself by
/// [`DropIn::loss_scale`](crate::DropIn::loss_scale).
#[derive(Clone, Debug, PartialEq)]
pub struct LossScale {
    /// S before the first step. Default: 2^15.
    pub initial: f64,
    /// The number of steps after which S is doubled. Default: 2,000.
    pub growth_interval: u64,
}

impl Default for LossScale {
    fn default() -> Self {
        Self {
            initial: 32_768.0,
            growth_interval: 2000,
        }
    }
}

impl LossScale {
    pub(crate) fn check(&self) -> Result<()> {
        if !(self.initial > 0.0 && self.initial.is_finite() && self.growth_interval > 0) {
            return Err(Error::Setting(format!(
                "the loss scale starts at {} and grows after {} steps; both must be positive and \
                 finite",
                self.initial, self.growth_interval
            )));
        }
        Ok(())
    }
}

/// The current loss scale.
#[derive(Clone, Debug)]
pub(super) struct Scaling {
    pub config: LossScale,
    pub scale: f64,
    /// Steps since S last changed.
    pub good_steps: u64,
}

impl Scaling {
    pub fn new(config: LossScale) -> Self {
        Self {
            scale: config.initial,
            good_steps: 0,
            config,
        }
    }

    /// After a step that was taken.
    pub fn taken(&mut self) {
        self.good_steps += 1;
        if self.good_steps >= self.config.growth_interval {
            self.good_steps = 0;
            // Beyond it the loss itself overflows.
            self.scale = (2.0 * self.scale).min(f64::from(f32::MAX) / 1e10);
        }
    }

    /// After a step that was skipped.
    pub fn skipped(&mut self) {
        self.good_steps = 0;
        // A scale of 0 would never recover.
        self.scale = (self.scale / 2.0).max(f64::from(f32::MIN_POSITIVE));
    }
}
