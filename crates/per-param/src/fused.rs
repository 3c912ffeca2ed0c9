//! The update on f32 slices with the CPU kernels.

use std::{collections::BTreeSet, sync::Mutex};

use lopt_core::{Error, FusedUpdate, Result, StepContext, Workers};
use lopt_kernels::{
    Isa, Run,
    per_param::{Factored, Formula, Scratch, Shape, State, Weights, update},
};
use lopt_online_scale::FusedScale;

use crate::{Rule, accumulators::factored_dims};

/// The hidden-layer widths for which there are kernels.
pub const WIDTHS: &str = "4, 8, 16 or 32";

/// Returns the fused update of a rule, or why there is no kernel for the rule or its MLP.
pub fn by<R: Rule>(
    isa: Isa,
    rule: &R,
    sizes: &[usize],
    theta: &[f32],
    shapes: &[Vec<usize>],
) -> Result<Box<dyn FusedUpdate>, String> {
    let formula = rule.formula(&StepContext::new(0, 1.0));
    let formula = formula.ok_or("its rule has no formula for the kernels")?;
    let hidden = rule.hidden();
    let no_kernel =
        || format!("its hidden layers are {hidden:?}, and kernels take two of {WIDTHS}");
    let &[_, first, second, heads] = sizes else {
        return Err(no_kernel());
    };
    let shape = |dims: &Vec<usize>| Shape::new(dims, factored_dims(dims));
    let shapes = shapes.iter().map(shape).collect();
    match (first, second) {
        (4, 4) => FusedRule::<R, 4>::boxed(isa, rule, formula, heads, theta, shapes),
        (8, 8) => FusedRule::<R, 8>::boxed(isa, rule, formula, heads, theta, shapes),
        (16, 16) => FusedRule::<R, 16>::boxed(isa, rule, formula, heads, theta, shapes),
        (32, 32) => FusedRule::<R, 32>::boxed(isa, rule, formula, heads, theta, shapes),
        _ => return Err(no_kernel()),
    }
    .ok_or_else(|| format!("its MLP has {heads} outputs, and kernels take at most 3"))
}

/// Warns, once for each kind and reason, that steps run in candle ops. `than` is what would be
/// faster.
pub fn warn_once(kind: &str, than: &str, reason: &str) {
    static WARNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let message = format!("`{kind}` runs in candle ops, {than}: {reason}");
    let mut warned = WARNED
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    if !warned.contains(&message) {
        tracing::warn!("{message}");
        warned.insert(message);
    }
}

struct FusedRule<R, const H: usize> {
    isa: Isa,
    workers: Workers,
    rule: R,
    heads: usize,
    weights: Weights<H>,
    /// The first bias of the current step.
    bias: [f32; H],
    formula: Formula,
    shapes: Vec<Shape>,
    scale: FusedScale,
    scratch: Scratch,
}

impl<R: Rule, const H: usize> FusedRule<R, H> {
    fn boxed(
        isa: Isa,
        rule: &R,
        formula: Formula,
        heads: usize,
        theta: &[f32],
        shapes: Vec<Shape>,
    ) -> Option<Box<dyn FusedUpdate>> {
        let weights = Weights::decode(theta, heads)?;
        Some(Box::new(Self {
            isa,
            workers: Workers::ONE,
            heads,
            bias: weights.b0,
            formula,
            rule: rule.clone(),
            weights,
            scale: FusedScale::new(isa, rule.online_scale(), shapes.len()),
            shapes,
            scratch: Scratch::default(),
        }))
    }
}

impl<R: Rule, const H: usize> FusedUpdate for FusedRule<R, H> {
    fn kernel(&self) -> &'static str {
        self.isa.name()
    }

    fn use_workers(&mut self, workers: Workers) {
        self.workers = workers;
        self.scale.use_workers(workers);
    }

    fn observe(&mut self, index: usize, g: &[f32], slots: &mut [Vec<f32>]) {
        self.scale.observe(index, g, slots);
    }

    fn begin_step(&mut self, context: &StepContext, network: &mut [Vec<f32>]) {
        self.scale.begin_step(network);
        self.bias = self.weights.bias_at(self.rule.seen_step(context.step));
        if let Some(formula) = self.rule.formula(context) {
            self.formula = formula;
        }
    }

    fn update(&mut self, index: usize, p: &mut [f32], g: &[f32], slots: &mut [Vec<f32>]) {
        let g = self.scale.gradient(g);
        let (target, slots) = self.scale.target(index, p, slots);
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
        let run: Run = &|count, job| self.workers.each(count, job);
        update(
            self.isa, run, weights, formula, bias, shape, target, g, state, scratch,
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
