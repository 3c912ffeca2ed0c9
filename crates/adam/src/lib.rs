//! Adam, the baseline for learned optimizers, and the grid over which its learning rate is tuned.
//!
//! m ← β₁·m + (1 − β₁)·g, v ← β₂·v + (1 − β₂)·g²,
//! φ ← φ − lr · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε), t = 1, 2, …
//!
//! The defaults are lr = 0.001 and, as in candle and PyTorch, β₁ = 0.9, β₂ = 0.999, ε = 1e-8. m and
//! v have the parameter's shape. A step with a gradient that is not finite returns an error.
//!
//! As in candle and optax, t counts the steps of the optimizer, not those of a parameter. A
//! parameter that gets its first gradient late is corrected less, so its first step is longer: up
//! to (1 − β₁)/√(1 − β₂) ≈ 3.2 times lr instead of lr.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use candle_nn::Optimizer;
//! use lopt_adam::{Adam, AdamOptimizer, DropInConfig};
//!
//! let w = Var::from_tensor(&Tensor::new(&[1f32, -2.0], &Device::Cpu)?)?;
//! let mut optimizer = AdamOptimizer::new(vec![w.clone()], DropInConfig::new(Adam::new(0.1)))?;
//! optimizer.backward_step(&w.sqr()?.sum_all()?)?;
//! assert!((w.get(0)?.to_scalar::<f32>()? - 0.9).abs() < 1e-5);
//! # Ok::<(), candle_core::Error>(())
//! ```
//!
//! Source: Kingma and Ba 2015, arXiv 1412.6980.

use std::any::Any;

use candle_core::Tensor;
use lopt_core::{
    Backend, Error, FusedUpdate, Grads, Optimizer, Params, Result, Slot, State, StepContext,
};
use lopt_cuda::Rule;
use lopt_cuda_backend::Kernels;
use lopt_kernels::Isa;
use lopt_online_scale::{FusedScale, step_each};

pub use lopt_core::{Clip, DropIn, DropInConfig, Group, LossScale, NonFinite, Schedule};
pub use lopt_online_scale::OnlineScale;

/// The name of the optimizer in state files.
pub const KIND: &str = "adam";

/// The learning rates for tuning: {1, 3}·10^k from 1e-7 to 1.
pub const GRID: [f64; 15] = [
    1e-7, 3e-7, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0,
];

/// Adam with bias correction.
#[derive(Clone, Debug, PartialEq)]
pub struct Adam {
    /// The learning rate lr. Default: 0.001.
    pub learning_rate: f64,
    /// β₁, the decay of the first moment. Default: 0.9.
    pub beta1: f64,
    /// β₂, the decay of the second moment. Default: 0.999.
    pub beta2: f64,
    /// ε, added to the root of the second moment. Default: 1e-8.
    pub epsilon: f64,
    /// If set, the scale of the steps is found online; see [`lopt_online_scale`]. Default: none.
    pub online_scale: Option<OnlineScale>,
}

/// [`Adam`] as a [`candle_nn::Optimizer`](https://docs.rs/candle-nn).
pub type AdamOptimizer = DropIn<Adam>;

impl Default for Adam {
    /// Returns Adam with the learning rate 0.001.
    fn default() -> Self {
        Self::new(1e-3)
    }
}

impl Adam {
    /// Creates Adam with the default β₁, β₂ and ε.
    pub fn new(learning_rate: f64) -> Self {
        Self {
            learning_rate,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            online_scale: None,
        }
    }

    /// Checks that all values are in range: 0 ≤ β < 1 and 0 ≤ ε, all finite.
    ///
    /// # Errors
    /// Returns [`Error::Setting`] with the first that is not.
    pub fn check(&self) -> Result<()> {
        for (name, beta) in [("β₁", self.beta1), ("β₂", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(Error::setting(KIND, name, beta, "at least 0 and below 1"));
            }
        }
        if !(self.epsilon >= 0.0 && self.epsilon.is_finite()) {
            return Err(Error::setting(
                KIND,
                "ε",
                self.epsilon,
                "finite and at least 0",
            ));
        }
        if !self.learning_rate.is_finite() {
            return Err(Error::setting(KIND, "lr", self.learning_rate, "finite"));
        }
        self.online_scale
            .as_ref()
            .map_or(Ok(()), OnlineScale::check)
    }

    /// Returns the update on f32 slices with this instruction set, for this number of parameter
    /// tensors.
    pub fn fused_by(&self, isa: Isa, parameters: usize) -> Box<dyn FusedUpdate> {
        Box::new(FusedAdam {
            adam: self.clone(),
            isa,
            constants: self.constants(&StepContext::new(0, self.learning_rate)),
            scale: FusedScale::new(isa, self.online_scale.as_ref(), parameters),
        })
    }

    /// Returns the optimizer in the form that the CUDA kernels need.
    pub fn cuda_kernels(&self) -> Kernels {
        let constants = lopt_cuda::Adam {
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
        };
        Kernels {
            rule: Rule::Adam(constants),
            scale: self.online_scale.clone(),
            heads: 0,
            theta: vec![],
            factored_dims: |_| None,
        }
    }

    /// Returns the kernel's constants for a step.
    fn constants(&self, context: &StepContext) -> lopt_kernels::Adam {
        let Self {
            beta1,
            beta2,
            epsilon,
            ..
        } = *self;
        let t = (context.step + 1) as f64;
        lopt_kernels::Adam {
            learning_rate: context.learning_rate as f32,
            beta1: beta1 as f32,
            one_minus_beta1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            one_minus_beta2: (1.0 - beta2) as f32,
            correction1: (1.0 / (1.0 - beta1.powf(t))) as f32,
            correction2: (1.0 / (1.0 - beta2.powf(t))) as f32,
            epsilon: epsilon as f32,
        }
    }

    /// Returns the update and the slots (m, v) after a step with gradient `g`.
    fn direction(
        &self,
        context: &StepContext,
        slots: &[Slot],
        g: &Tensor,
    ) -> Result<(Tensor, Vec<Slot>)> {
        let [m, v] = slots else {
            return Err(Error::other_state());
        };
        let t = context.step + 1;
        let m = ((&m.value * self.beta1)? + (g * (1.0 - self.beta1))?)?;
        let v = ((&v.value * self.beta2)? + (g.sqr()? * (1.0 - self.beta2))?)?;
        let m_hat = (&m / (1.0 - self.beta1.powf(t as f64)))?;
        let v_hat = (&v / (1.0 - self.beta2.powf(t as f64)))?;
        let step = (m_hat / (v_hat.sqrt()? + self.epsilon)?)?;
        Ok(((step * -context.learning_rate)?, slots_of(m, v)))
    }
}

/// The fused update of Adam.
struct FusedAdam {
    adam: Adam,
    isa: Isa,
    /// The constants of the current step.
    constants: lopt_kernels::Adam,
    scale: FusedScale,
}

impl FusedUpdate for FusedAdam {
    fn kernel(&self) -> &'static str {
        self.isa.name()
    }

    fn observe(&self, index: usize, g: &[f32], slots: &mut [Vec<f32>]) {
        self.scale.observe(index, g, slots);
    }

    fn begin_step(&mut self, context: &StepContext, network: &mut [Vec<f32>]) {
        self.scale.begin_step(network);
        self.constants = self.adam.constants(context);
    }

    fn update(&self, index: usize, p: &mut [f32], g: &[f32], slots: &mut [Vec<f32>]) {
        let g = self.scale.gradient(g);
        let (target, slots) = self.scale.target(index, p, slots);
        if let [m, v] = slots {
            lopt_kernels::adam(self.isa, &self.constants, target, g, m, v);
        }
    }
}

fn slots_of(m: Tensor, v: Tensor) -> Vec<Slot> {
    [("m", m), ("v", v)]
        .map(|(name, value)| Slot { name, value })
        .into()
}

impl Optimizer for Adam {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn init(&self, params: &Params) -> Result<State> {
        self.check()?;
        let slots = params
            .tensors()
            .iter()
            .map(|p| Ok(slots_of(p.zeros_like()?, p.zeros_like()?)));
        let state = State::of_parameters(slots.collect::<Result<_>>()?);
        lopt_online_scale::init(self.online_scale.as_ref(), state, params)
    }

    fn update(
        &self,
        context: &StepContext,
        state: &mut State,
        params: &mut Params,
        grads: &Grads,
    ) -> Result<()> {
        let scale = self.online_scale.as_ref();
        step_each(scale, state, params, grads, |_, slots, g| {
            self.direction(context, slots, g)
        })
    }

    fn fused(&self, shapes: &[Vec<usize>]) -> Option<Box<dyn FusedUpdate>> {
        Some(self.fused_by(Isa::best(), shapes.len()))
    }

    /// Returns the backend of the CUDA kernels for contiguous f32 tensors on a GPU, if this crate
    /// was built with the feature `cuda`.
    fn backend(&self, params: &Params) -> Result<Option<Box<dyn Backend>>> {
        lopt_cuda_backend::backend(self, params, || Some(self.cuda_kernels()))
    }

    /// The [`Kernels`] of CUDA.
    fn kernels(&self) -> Option<Box<dyn Any>> {
        Some(Box::new(self.cuda_kernels()))
    }

    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = learning_rate;
    }
}
