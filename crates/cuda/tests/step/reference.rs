//! The step by the CPU kernels of `lopt-kernels` and the fused online scale.

use lopt_cuda::{Adam, PerParameter};
use lopt_kernels::{
    Isa, adam, one_thread,
    per_param::{Decoded, Factored, Formula, Scratch, Shape, State},
};
use lopt_online_scale::FusedScale;

/// The values and slots of one tensor. Slots that it does not have are empty.
#[derive(Clone)]
pub struct Values {
    pub p: Vec<f32>,
    pub momentum: Vec<f32>,
    pub rms: Vec<f32>,
    pub row: Vec<f32>,
    pub col: Vec<f32>,
    pub diagonal: Vec<f32>,
    /// The learners and the sum of updates.
    pub scale: [Vec<f32>; 2],
}

/// An optimizer with its θ.
pub enum Update {
    PerParameter(Box<PerParameterUpdate>),
    Adam(Adam),
}

pub struct PerParameterUpdate {
    pub decoded: Decoded,
    /// θ as the kernels of CUDA read it.
    pub theta: Vec<f32>,
    pub rule: PerParameter,
}

/// A network in training.
pub struct Reference {
    pub update: Update,
    pub scale: FusedScale,
    pub shapes: Vec<Shape>,
    pub values: Vec<Values>,
    /// q and w, and the learners.
    pub network: [Vec<f32>; 2],
    pub step: u64,
    pub skipped: u64,
}

impl Reference {
    /// Takes a step, or skips it if a gradient has an entry that is not finite or above 1e18.
    pub fn step(&mut self, learning_rate: f32, grads: &[Option<Vec<f32>>]) {
        if grads.iter().flatten().any(|g| invalid(g) > 0) {
            self.skipped += 1;
            return;
        }
        let isa = Isa::best();
        for (index, (values, g)) in self.values.iter_mut().zip(grads).enumerate() {
            if let Some(g) = g {
                self.scale.observe(index, g, &mut values.scale);
            }
        }
        self.scale.begin_step(&mut self.network);
        let mut scratch = Scratch::default();
        for (index, (values, g)) in self.values.iter_mut().zip(grads).enumerate() {
            let Some(g) = g else { continue };
            let g = self.scale.gradient(g);
            let (p, slots) = (&mut values.p, &mut values.scale);
            let (target, _) = self.scale.target(index, p, slots);
            match &mut self.update {
                Update::Adam(constants) => {
                    let constants = adam_at(constants, self.step, learning_rate);
                    let (m, v) = (&mut values.momentum, &mut values.rms);
                    adam(isa, &constants, target, g, m, v);
                }
                Update::PerParameter(update) => {
                    let (formula, seen) = formula_at(&update.rule, self.step, learning_rate);
                    update.decoded.set_step(seen);
                    let factored = match self.shapes[index] {
                        Shape::Diagonal(_) => Factored::Diagonal(&mut values.diagonal),
                        Shape::Factored(_) => Factored::RowCol {
                            row: &mut values.row,
                            col: &mut values.col,
                        },
                    };
                    let state = State {
                        momentum: &mut values.momentum,
                        rms: &mut values.rms,
                        factored,
                    };
                    let (shape, run) = (&self.shapes[index], &one_thread);
                    let scratch = &mut scratch;
                    update
                        .decoded
                        .update(isa, run, &formula, shape, target, g, state, scratch);
                }
            }
        }
        self.step += 1;
    }
}

/// Returns the number of entries that are not finite or above 1e18.
pub fn invalid(g: &[f32]) -> usize {
    let usable = |g: &&f32| g.abs() <= 1e18;
    g.len() - g.iter().filter(usable).count()
}

fn adam_at(adam: &Adam, step: u64, learning_rate: f32) -> lopt_kernels::Adam {
    let t = (step + 1) as f64;
    lopt_kernels::Adam {
        learning_rate,
        beta1: adam.beta1 as f32,
        one_minus_beta1: (1.0 - adam.beta1) as f32,
        beta2: adam.beta2 as f32,
        one_minus_beta2: (1.0 - adam.beta2) as f32,
        correction1: (1.0 / (1.0 - adam.beta1.powf(t))) as f32,
        correction2: (1.0 / (1.0 - adam.beta2.powf(t))) as f32,
        epsilon: adam.epsilon as f32,
    }
}

/// The formula, and the step whose features the MLP sees, as in `lopt-star`.
fn formula_at(rule: &PerParameter, step: u64, learning_rate: f32) -> (Formula, u64) {
    let limit = rule.time_limit.unwrap_or(u64::MAX);
    let fade = match limit < step {
        true => limit as f64 / step as f64,
        false => 1.0,
    };
    let growth = if rule.grows { fade.powf(-0.5) } else { 1.0 };
    let formula = Formula {
        nominal: rule.nominal.map(|c| (c * growth) as f32),
        blackbox: rule.formula.blackbox * fade as f32,
        learning_rate,
        ..rule.formula
    };
    (formula, step.min(limit))
}
