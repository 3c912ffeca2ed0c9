//! The update on f32 slices with the CPU kernels.

use std::sync::Once;

use lopt_core::{Error, FusedUpdate, Result, StepContext};
use lopt_kernels::{
    Isa,
    per_param::{Factored, Formula, Scratch, Shape, State, Weights, update},
};

use crate::{Rule, accumulators::factored_dims};

/// Returns the fused update of a rule, or `None` if there is no kernel for the rule or its MLP.
pub fn by<R: Rule>(
    isa: Isa,
    rule: &R,
    sizes: &[usize],
    theta: &[f32],
    shapes: &[Vec<usize>],
) -> Option<Box<dyn FusedUpdate>> {
    let &[_, first, second, heads @ (2 | 3)] = sizes else {
        return None;
    };
    let shape = |dims: &Vec<usize>| Shape::new(dims, factored_dims(dims));
    let shapes = shapes.iter().map(shape).collect();
    match (first, second) {
        (4, 4) => FusedRule::<R, 4>::boxed(isa, rule, heads, theta, shapes),
        (8, 8) => FusedRule::<R, 8>::boxed(isa, rule, heads, theta, shapes),
        (16, 16) => FusedRule::<R, 16>::boxed(isa, rule, heads, theta, shapes),
        (32, 32) => FusedRule::<R, 32>::boxed(isa, rule, heads, theta, shapes),
        _ => None,
    }
}

/// Warns once that the slow path is used.
pub fn warn_once(kind: &str, hidden: &[usize]) {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        tracing::warn!(
            "`{kind}` with hidden layers {hidden:?} runs in candle ops, about 20 times slower than \
             the CPU kernels, which support two hidden layers of 4, 8, 16 or 32"
        );
    });
}

struct FusedRule<R, const H: usize> {
    isa: Isa,
    rule: R,
    heads: usize,
    weights: Weights<H>,
    /// The first bias of the current step.
    bias: [f32; H],
    formula: Formula,
    shapes: Vec<Shape>,
    scratch: Scratch,
}

impl<R: Rule, const H: usize> FusedRule<R, H> {
    fn boxed(
        isa: Isa,
        rule: &R,
        heads: usize,
        theta: &[f32],
        shapes: Vec<Shape>,
    ) -> Option<Box<dyn FusedUpdate>> {
        let weights = Weights::decode(theta, heads)?;
        Some(Box::new(Self {
            isa,
            heads,
            bias: weights.b0,
            formula: rule.formula(&StepContext::new(0, 1.0))?,
            rule: rule.clone(),
            weights,
            shapes,
            scratch: Scratch::default(),
        }))
    }
}

impl<R: Rule, const H: usize> FusedUpdate for FusedRule<R, H> {
    fn kernel(&self) -> &'static str {
        self.isa.name()
    }

    fn begin_step(&mut self, context: &StepContext, _: &mut [Vec<f32>]) {
        self.bias = self.weights.bias_at(self.rule.seen_step(context.step));
        if let Some(formula) = self.rule.formula(context) {
            self.formula = formula;
        }
    }

    fn update(&mut self, index: usize, p: &mut [f32], g: &[f32], slots: &mut [Vec<f32>]) {
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
        let (weights, formula, bias) = (&self.weights, &self.formula, &self.bias);
        let (shape, scratch) = (&self.shapes[index], &mut self.scratch);
        update(
            self.isa, weights, formula, bias, shape, p, g, state, scratch,
        );
    }

    fn set_theta(&mut self, values: &[f32]) -> Result<()> {
        let weights = Weights::decode(values, self.heads);
        self.weights = weights.ok_or_else(|| {
            let (kind, count) = (R::KIND, values.len());
            Error::Mismatch(format!("θ of this `{kind}` cannot have {count} values"))
        })?;
        Ok(())
    }
}
