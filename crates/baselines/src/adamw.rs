use candle_core::Tensor;
use lopt_adam::Adam;
use lopt_core::{DropIn, Error, FusedUpdate, Grads, Optimizer, Params, Result, State, StepContext};

use crate::WarmUpCosine;

/// The peak learning rates for tuning [`AdamW`]: {1, 3}·10^k from 1e-4 to 1e-1, and 3e-1.
pub const ADAMW_GRID: [f64; 8] = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1];

/// AdamW: φ ← (1 − lr·λ)·φ, then a step of Adam. Both use the scheduled learning rate lr.
///
/// A parameter without a gradient does not decay. Source: Loshchilov and Hutter 2019,
/// arXiv 1711.05101; the decay is that of PyTorch and candle.
#[derive(Clone, Debug, PartialEq)]
pub struct AdamW {
    /// Adam, with the peak learning rate.
    pub adam: Adam,
    /// λ, the weight decay, of all parameters. In a [`DropIn`], [`DropInConfig::weight_decay`] and those
    /// of groups add to it; set it to 0 to use only them. Default: 0.01.
    ///
    /// [`DropInConfig::weight_decay`]: lopt_core::DropInConfig::weight_decay
    pub weight_decay: f64,
    /// The schedule, if the horizon is known; a [`DropIn`] has one of its own. Default: warm-up over 5 %
    /// of the horizon.
    pub schedule: WarmUpCosine,
}

/// [`AdamW`] as a [`candle_nn::Optimizer`](https://docs.rs/candle-nn).
pub type AdamWOptimizer = DropIn<AdamW>;

impl Default for AdamW {
    /// Returns AdamW with the peak learning rate 0.001.
    fn default() -> Self {
        Self::new(1e-3)
    }
}

impl AdamW {
    /// Creates AdamW with the default weight decay and schedule.
    pub fn new(learning_rate: f64) -> Self {
        Self {
            adam: Adam::new(learning_rate),
            weight_decay: 0.01,
            schedule: WarmUpCosine { warm_up: 0.05 },
        }
    }

    /// Returns the factor of the parameters in a step with this learning rate.
    fn decay(&self, learning_rate: f64) -> f64 {
        1.0 - learning_rate * self.weight_decay
    }
}

impl Optimizer for AdamW {
    fn kind(&self) -> &'static str {
        "adamw"
    }

    fn init(&self, params: &Params) -> Result<State> {
        if !self.weight_decay.is_finite() {
            let (value, range) = (self.weight_decay, "finite");
            return Err(Error::setting(self.kind(), "λ", value, range));
        }
        self.adam.init(params)
    }

    fn update(
        &self,
        context: &StepContext,
        state: &mut State,
        params: &mut Params,
        grads: &Grads,
    ) -> Result<()> {
        grads.check(params)?;
        let context = self.schedule.apply(context);
        let decay = self.decay(context.learning_rate);
        let decayed = params.tensors().iter().zip(grads.tensors());
        let decayed = decayed.map(|(p, g): (&Tensor, &Option<Tensor>)| match g {
            Some(_) => Ok((p * decay)?),
            None => Ok(p.clone()),
        });
        let mut decayed = params.with_tensors(decayed.collect::<Result<_>>()?)?;
        self.adam.update(&context, state, &mut decayed, grads)?;
        *params = decayed;
        Ok(())
    }

    fn fused(&self, shapes: &[Vec<usize>]) -> Option<Box<dyn FusedUpdate>> {
        Some(Box::new(FusedAdamW {
            adam: self.adam.fused(shapes)?,
            adamw: self.clone(),
            decay: 1.0,
        }))
    }

    fn learning_rate(&self) -> f64 {
        self.adam.learning_rate()
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.adam.set_learning_rate(learning_rate);
    }
}

/// The fused update of AdamW.
struct FusedAdamW {
    adam: Box<dyn FusedUpdate>,
    adamw: AdamW,
    /// The factor of the parameters in the current step.
    decay: f32,
}

impl FusedUpdate for FusedAdamW {
    fn kernel(&self) -> &'static str {
        self.adam.kernel()
    }

    fn observe(&self, index: usize, g: &[f32], slots: &mut [Vec<f32>]) {
        self.adam.observe(index, g, slots);
    }

    fn begin_step(&mut self, context: &StepContext, network: &mut [Vec<f32>]) {
        let context = self.adamw.schedule.apply(context);
        self.decay = self.adamw.decay(context.learning_rate) as f32;
        self.adam.begin_step(&context, network);
    }

    fn update(&self, index: usize, p: &mut [f32], g: &[f32], slots: &mut [Vec<f32>]) {
        for p in p.iter_mut() {
            *p *= self.decay;
        }
        self.adam.update(index, p, g, slots);
    }
}
