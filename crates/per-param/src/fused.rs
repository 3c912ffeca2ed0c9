//! The update on plain f32 memory, by the CPU kernels.

use candle_core::{DType, Device};
use lopt_core::{FusedUpdate, Result, Theta};
use lopt_kernels::{
    Isa,
    per_param::{Factored, HIDDEN, Network, Scratch, Shape, State, update},
};

pub use lopt_kernels::per_param::{Exponent, Formula};

use crate::{
    PerParam,
    accumulators::{Decays, factored_dims},
    features::{PER_PARAMETER, PER_STEP},
};

impl PerParam {
    /// The update of `theta` on plain memory by certain instructions, with the optimizer's
    /// formula, for parameters of these shapes; `None` unless the MLP is
    /// 39 → 4 → 4 → 2 or 3, which the kernels are made for.
    pub fn fused_by(
        &self,
        isa: Isa,
        theta: &Theta,
        formula: Formula,
        shapes: &[Vec<usize>],
    ) -> Option<Box<dyn FusedUpdate>> {
        let [_, HIDDEN, HIDDEN, heads @ (2 | 3)] = *self.sizes() else {
            return None;
        };
        let shape = |dims: &Vec<usize>| Shape::new(dims, factored_dims(dims));
        let network = network(theta, heads, formula).ok()?;
        Some(Box::new(FusedPerParam {
            isa,
            per_param: self.clone(),
            bias: (0, network.bias_at(0)),
            blackbox: network.formula.blackbox,
            network,
            shapes: shapes.iter().map(shape).collect(),
            scratch: Scratch::default(),
        }))
    }
}

struct FusedPerParam {
    isa: Isa,
    per_param: PerParam,
    /// Its formula has the blackbox term's factor of the present step.
    network: Network,
    /// That factor up to the time limit.
    blackbox: f32,
    /// A step and its bias, which all tensors share.
    bias: (u64, [f32; HIDDEN]),
    shapes: Vec<Shape>,
    scratch: Scratch,
}

impl FusedUpdate for FusedPerParam {
    fn kernel(&self) -> &'static str {
        self.isa.name()
    }

    fn update(
        &mut self,
        step: u64,
        index: usize,
        p: &mut [f32],
        g: &[f32],
        slots: &mut [Vec<f32>],
    ) {
        let (momentum, rms, factored) = match slots {
            [momentum, rms, row, col] => (momentum, rms, Factored::RowCol { row, col }),
            [momentum, rms, diagonal] => (momentum, rms, Factored::Diagonal(diagonal)),
            _ => return,
        };
        let state = State {
            momentum,
            rms,
            factored,
        };
        let (seen, fade) = self.per_param.clock(step);
        if self.bias.0 != seen {
            self.bias = (seen, self.network.bias_at(seen));
        }
        self.network.formula.blackbox = self.blackbox * fade as f32;
        let (bias, shape) = (&self.bias.1, &self.shapes[index]);
        let scratch = &mut self.scratch;
        update(self.isa, &self.network, bias, shape, p, g, state, scratch);
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.network.formula.learning_rate = learning_rate as f32;
    }
}

/// θ as the kernels take it.
fn network(theta: &Theta, heads: usize, formula: Formula) -> Result<Network> {
    let tensors = theta.tensors(DType::F32, &Device::Cpu)?;
    let find = |wanted: &str| {
        let mut parts = theta.layout().parts().zip(&tensors);
        let found = parts.find(|((name, ..), _)| *name == wanted);
        found.map(|(_, tensor)| tensor).ok_or_else(|| {
            lopt_core::Error::Mismatch(format!("θ of `{}` has no `{wanted}`", theta.kind()))
        })
    };
    let values =
        |name: &str| Ok::<_, lopt_core::Error>(find(name)?.flatten_all()?.to_vec1::<f32>()?);
    let decays = Decays::new(
        find("momentum_decays")?,
        find("rms_decays")?,
        find("adafactor_decays")?,
    )?;
    let (w0, w1, w2) = (values("nn/w0")?, values("nn/w1")?, values("nn/w2")?);
    let (b0, b1, b2) = (values("nn/b0")?, values("nn/b1")?, values("nn/b2")?);
    let momentum = decays.momentum.to_vec1::<f32>()?;
    let adafactor = decays.adafactor.to_vec1::<f32>()?;
    // A head that is not there has weights of zero.
    let last = |values: &[f32], head: usize| values.get(head).copied().unwrap_or(0.0);
    let of_input = |i: usize| &w2[i * heads..(i + 1) * heads];
    let row = |values: &[f32], i: usize| {
        std::array::from_fn::<f32, HIDDEN, _>(|j| values[i * HIDDEN + j])
    };
    debug_assert_eq!(w0.len(), (PER_PARAMETER + PER_STEP) * HIDDEN);
    Ok(Network {
        momentum_decays: std::array::from_fn(|k| momentum[k]),
        rms_decay: decays.rms.to_vec1::<f32>()?[0],
        adafactor_decays: std::array::from_fn(|k| adafactor[k]),
        w0: std::array::from_fn(|i| row(&w0, i)),
        b0: row(&b0, 0),
        w1: std::array::from_fn(|i| row(&w1, i)),
        b1: row(&b1, 0),
        w2: std::array::from_fn(|i| std::array::from_fn(|head| last(of_input(i), head))),
        b2: std::array::from_fn(|head| last(&b2, head)),
        formula,
    })
}
