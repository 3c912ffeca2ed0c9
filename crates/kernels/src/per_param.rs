//! The fused update of the per-parameter learned optimizers (the blackbox and STAR):
//! accumulators, features, the MLP inputs → H → H → 3 and the step, for one tensor.
//!
//! The formulas are those of `lopt-per-param`. Two things make the update fast:
//!
//! * Few features are evaluated per element. Of the 28 features, 12 depend only on the row or the
//!   column: they are folded into H numbers for each row and column, added before the first ReLU.
//!   The 11 step features are folded into the first bias, and the normalizers into the first
//!   weights. 16 features per element remain.
//! * There are three passes over the elements: row and column sums of g²; accumulators and mean
//!   squares of the features; MLP and step.

mod accumulate;
mod apply;
mod decoded;
mod diagonal;
pub mod features;
mod formula;
mod large;
mod lines;
mod scaled;
mod side;
pub mod theta;

pub use decoded::Decoded;
pub use formula::{Exponent, Formula};
pub use lines::Shape;
pub use theta::Weights;

use crate::{
    Gradient, Isa, Target,
    parts::{Run, is_large},
};
use scaled::Scaled;
use side::{Side, sum_squares};

/// The accumulators of one tensor of n elements.
#[derive(Debug)]
pub struct State<'a> {
    /// The three momenta, \[3, n\].
    pub momentum: &'a mut [f32],
    /// The second moment v, \[n\].
    pub rms: &'a mut [f32],
    /// The factored second moments.
    pub factored: Factored<'a>,
}

/// The three factored second moments.
#[derive(Debug)]
pub enum Factored<'a> {
    /// Rank ≥ 2: row and column moments.
    RowCol {
        /// Means over the largest dimension, \[3, [`Shape::rows`]\].
        row: &'a mut [f32],
        /// Means over the second largest dimension, \[3, [`Shape::columns`]\].
        col: &'a mut [f32],
    },
    /// Rank 0 and 1: one moment per element, \[3, n\].
    Diagonal(&'a mut [f32]),
}

/// Memory that is reused from step to step. It grows to the needs of the largest tensor.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    rows: Side,
    columns: Side,
    parts: large::PartSums,
}

/// [`Decoded::update`]; `bias` is [`Weights::bias_at`] the step.
#[allow(clippy::too_many_arguments)]
fn update<const H: usize>(
    isa: Isa,
    run: Run,
    weights: &Weights<H>,
    formula: &Formula,
    bias: &[f32; H],
    shape: &Shape,
    target: Target,
    g: Gradient,
    state: State,
    scratch: &mut Scratch,
) {
    let n = shape.elements();
    target.check();
    assert!(
        target.p.len() == n
            && g.len() == n
            && state.momentum.len() == 3 * n
            && state.rms.len() == n,
        "the slices do not have the shape's length, {n}"
    );
    if n == 0 {
        return;
    }
    let State {
        momentum,
        rms,
        factored,
    } = state;
    match (shape, factored) {
        (Shape::Factored(lines), Factored::RowCol { row, col }) => {
            let Scratch {
                rows,
                columns,
                parts,
            } = scratch;
            if is_large(n) {
                let sides = (rows, columns, parts);
                let moments = [row, col];
                return large::update(
                    isa, run, weights, formula, bias, lines, target, g, momentum, rms, moments,
                    sides,
                );
            }
            sum_squares(isa, lines, g, rows, columns);
            rows.update_rows(isa, &weights.adafactor_decays, row, lines);
            columns.update_columns(isa, &weights.adafactor_decays, col, lines);
            let momenta = split_in_three(momentum);
            let sums = accumulate::accumulate(
                isa, weights, lines, target.p, g, momenta, rms, rows, columns,
            );
            let scaled =
                Scaled::factored(weights, bias, &sums, n, rows.squares(), columns.squares());
            rows.fold(isa, row, &scaled.rows);
            columns.fold(isa, col, &scaled.columns);
            apply::apply(
                isa, weights, formula, &scaled, lines, target, g, momentum, rms, rows, columns,
            );
        }
        (Shape::Diagonal(_), Factored::Diagonal(diagonal)) => {
            if is_large(n) {
                return large::update_diagonal(
                    isa, run, weights, formula, bias, target, g, momentum, rms, diagonal,
                );
            }
            diagonal::update(
                isa, weights, formula, bias, target, g, momentum, rms, diagonal,
            );
        }
        _ => panic!("the state belongs to a tensor of another rank"),
    }
}

/// The three momenta of a tensor.
#[inline(always)]
fn split_in_three(momentum: &mut [f32]) -> [&mut [f32]; 3] {
    let (m0, rest) = momentum.split_at_mut(momentum.len() / 3);
    let (m1, m2) = rest.split_at_mut(rest.len() / 2);
    [m0, m1, m2]
}
