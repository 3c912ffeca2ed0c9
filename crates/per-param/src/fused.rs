//! The update on f32 slices with the CPU kernels.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use lopt_core::{Error, FusedUpdate, Result, StepContext, Workers};
use lopt_kernels::{
    Isa, Run,
    per_param::{Decoded, Factored, Formula, Scratch, Shape, State},
};
use lopt_online_scale::FusedScale;

use crate::{Rule, accumulators::factored_dims};

/// Says that there are no kernels for these hidden layers.
pub fn no_kernel(hidden: &[usize]) -> String {
    let [first @ .., last] = Decoded::WIDTHS.map(|width| width.to_string());
    let widths = first.join(", ");
    format!("its hidden layers are {hidden:?}, and kernels take two of {widths} or {last}")
}

/// Says that there are no kernels for this many outputs.
pub fn too_many_outputs(heads: usize) -> String {
    format!("its MLP has {heads} outputs, and kernels take at most 3")
}

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
    let no_kernel = || no_kernel(rule.hidden());
    let &[_, width, second, heads] = sizes else {
        return Err(no_kernel());
    };
    if width != second || !Decoded::WIDTHS.contains(&width) {
        return Err(no_kernel());
    }
    let theta = Decoded::decode(width, theta, heads).ok_or_else(|| too_many_outputs(heads))?;
    let shape = |dims: &Vec<usize>| Shape::new(dims, factored_dims(dims));
    Ok(Box::new(FusedRule {
        isa,
        workers: Workers::ONE,
        rule: rule.clone(),
        sizes: [width, heads],
        theta,
        formula,
        shapes: shapes.iter().map(shape).collect(),
        scale: FusedScale::new(isa, rule.online_scale(), shapes.len()),
        scratch: Mutex::default(),
    }))
}

/// Warns, once for each kind and reason, that steps run in candle ops. `than` is what would be
/// faster.
pub fn warn_once(kind: &str, than: &str, reason: &str) {
    static WARNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let message = format!("`{kind}` runs in candle ops, {than}: {reason}");
    let mut warned = WARNED.lock().unwrap_or_else(PoisonError::into_inner);
    if !warned.contains(&message) {
        tracing::warn!("{message}");
        warned.insert(message);
    }
}

struct FusedRule<R> {
    isa: Isa,
    workers: Workers,
    rule: R,
    /// The width of the hidden layers and the number of outputs.
    sizes: [usize; 2],
    theta: Decoded,
    /// That of the current step.
    formula: Formula,
    shapes: Vec<Shape>,
    scale: FusedScale,
    /// Memory for each thread that updates a tensor.
    scratch: Mutex<Vec<Scratch>>,
}

impl<R: Rule> FusedUpdate for FusedRule<R> {
    fn kernel(&self) -> &'static str {
        self.isa.name()
    }

    fn use_workers(&mut self, workers: Workers) -> Workers {
        self.workers = workers;
        self.scale.use_workers(workers);
        workers
    }

    fn observe(&self, index: usize, g: &[f32], slots: &mut [Vec<f32>]) {
        self.scale.observe(index, g, slots);
    }

    fn begin_step(&mut self, context: &StepContext, network: &mut [Vec<f32>]) {
        self.scale.begin_step(network);
        self.theta.set_step(self.rule.seen_step(context.step));
        if let Some(formula) = self.rule.formula(context) {
            self.formula = formula;
        }
    }

    fn update(&self, index: usize, p: &mut [f32], g: &[f32], slots: &mut [Vec<f32>]) {
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
        let (formula, shape) = (&self.formula, &self.shapes[index]);
        let run: Run = &|count, job| self.workers.each(count, job);
        let free = || self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = free().pop().unwrap_or_default();
        self.theta.update(
            self.isa,
            run,
            formula,
            shape,
            target,
            g,
            state,
            &mut scratch,
        );
        free().push(scratch);
    }

    fn set_theta(&mut self, values: &[f32]) -> Result<()> {
        let [width, heads] = self.sizes;
        self.theta = Decoded::decode(width, values, heads).ok_or_else(|| {
            let (kind, count) = (R::KIND, values.len());
            Error::Mismatch(format!("θ of this `{kind}` cannot have {count} values"))
        })?;
        Ok(())
    }
}
