use candle_core::Tensor;
use lopt_core::{
    DropIn, Error, FusedUpdate, Grads, Optimizer, Params, Result, Slot, State, StepContext,
};

use crate::WarmUpCosine;

/// The peak learning rates for tuning [`Sgd`]: {1, 3}·10^k from 1e-3 to 3.
pub const SGD_GRID: [f64; 8] = [1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0];

/// SGD with momentum: m ← μ·m + g, φ ← φ − lr·m, with the scheduled learning rate lr.
///
/// This is the heavy ball in the form of PyTorch, without dampening. m has the parameter's shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Sgd {
    /// The peak learning rate.
    pub learning_rate: f64,
    /// μ, the momentum. Default: 0.9.
    pub momentum: f64,
    /// The schedule, if the horizon is known; a [`DropIn`] has one of its own. Default: no warm-up.
    pub schedule: WarmUpCosine,
}

/// [`Sgd`] as a [`candle_nn::Optimizer`](https://docs.rs/candle-nn).
pub type SgdOptimizer = DropIn<Sgd>;

impl Default for Sgd {
    /// Returns SGD with the peak learning rate 0.1.
    fn default() -> Self {
        Self::new(0.1)
    }
}

impl Sgd {
    /// Creates SGD with the default momentum and schedule.
    pub fn new(learning_rate: f64) -> Self {
        Self {
            learning_rate,
            momentum: 0.9,
            schedule: WarmUpCosine { warm_up: 0.0 },
        }
    }
}

fn slots_of(value: Tensor) -> Vec<Slot> {
    let name = "m";
    vec![Slot { name, value }]
}

impl Optimizer for Sgd {
    fn kind(&self) -> &'static str {
        "sgd"
    }

    fn init(&self, params: &Params) -> Result<State> {
        for (name, value) in [("lr", self.learning_rate), ("μ", self.momentum)] {
            if !value.is_finite() {
                return Err(Error::setting(self.kind(), name, value, "finite"));
            }
        }
        let slots = params.tensors().iter();
        let slots = slots.map(|p| Ok(slots_of(p.zeros_like()?)));
        Ok(State::of_parameters(slots.collect::<Result<_>>()?))
    }

    fn update(
        &self,
        context: &StepContext,
        state: &mut State,
        params: &mut Params,
        grads: &Grads,
    ) -> Result<()> {
        let learning_rate = self.schedule.apply(context).learning_rate;
        state.step_each(params, grads, |p, slots, g| {
            let [m] = slots else {
                return Err(Error::other_state());
            };
            let m = ((&m.value * self.momentum)? + g)?;
            Ok(((p - (&m * learning_rate)?)?, slots_of(m)))
        })
    }

    fn fused(&self, _: &[Vec<usize>]) -> Option<Box<dyn FusedUpdate>> {
        Some(Box::new(FusedSgd {
            sgd: self.clone(),
            learning_rate: 0.0,
        }))
    }

    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = learning_rate;
    }
}

/// The update of SGD as a plain loop.
struct FusedSgd {
    sgd: Sgd,
    /// The scheduled learning rate of the current step.
    learning_rate: f32,
}

impl FusedUpdate for FusedSgd {
    fn kernel(&self) -> &'static str {
        "portable"
    }

    fn begin_step(&mut self, context: &StepContext, _: &mut [Vec<f32>]) {
        self.learning_rate = self.sgd.schedule.apply(context).learning_rate as f32;
    }

    fn update(&self, _: usize, p: &mut [f32], g: &[f32], slots: &mut [Vec<f32>]) {
        let (momentum, learning_rate) = (self.sgd.momentum as f32, self.learning_rate);
        if let [m] = slots {
            for ((p, g), m) in p.iter_mut().zip(g).zip(m) {
                *m = momentum * *m + g;
                *p -= learning_rate * *m;
            }
        }
    }
}
