//! The fused update of the per-parameter learned optimizers (the blackbox and STAR):
//! accumulators, features, the MLP inputs → H → H → 3 and the step, for one tensor.
//!
//! The formulas are those of `lopt-per-param`. What makes it fast:
//!
//! * of the 28 features, the 12 that only depend on a row or a column fold into H
//!   numbers for each row and each column, added before the first ReLU; the 11 step
//!   features fold into the first bias; the normalisers scale the first weights. 16
//!   features stay for each element;
//! * the elements are passed over three times: row and column sums of g²; accumulators
//!   and the features' mean squares; MLP and step.

mod accumulate;
mod apply;
mod diagonal;
pub mod features;
mod formula;
mod lines;
mod scaled;
mod side;
pub mod theta;

pub use formula::{Exponent, Formula};
pub use lines::Shape;
pub use theta::Weights;

use crate::Isa;
use scaled::Scaled;
use side::{Side, sum_squares};

/// The accumulators of one tensor of n elements.
#[derive(Debug)]
pub struct State<'a> {
    /// The three momenta, \[3, n\].
    pub momentum: &'a mut [f32],
    /// The second moment, \[n\].
    pub rms: &'a mut [f32],
    /// The factored second moments.
    pub factored: Factored<'a>,
}

/// Three factored second moments.
#[derive(Debug)]
pub enum Factored<'a> {
    /// Rank ≥ 2: means over the largest dimension, \[3, rows\], and over the second
    /// largest, \[3, columns\].
    RowCol {
        /// \[3, [`Shape::rows`]\]
        row: &'a mut [f32],
        /// \[3, [`Shape::columns`]\]
        col: &'a mut [f32],
    },
    /// Rank 0 and 1: \[3, n\].
    Diagonal(&'a mut [f32]),
}

/// Memory that is reused from step to step; grows to what the largest tensor needs.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    rows: Side,
    columns: Side,
}

/// One step p ← p + Δp of one tensor; `bias` is [`Weights::bias_at`] the step.
///
/// # Panics
/// If the slices do not fit the shape.
#[allow(clippy::too_many_arguments)]
pub fn update<const H: usize>(
    isa: Isa,
    weights: &Weights<H>,
    formula: &Formula,
    bias: &[f32; H],
    shape: &Shape,
    p: &mut [f32],
    g: &[f32],
    state: State,
    scratch: &mut Scratch,
) {
    let n = shape.elements();
    assert!(
        p.len() == n && g.len() == n && state.momentum.len() == 3 * n && state.rms.len() == n,
        "slices of other lengths than the shape's {n}"
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
            let Scratch { rows, columns } = scratch;
            sum_squares(isa, lines, g, rows, columns);
            rows.update_rows(isa, &weights.adafactor_decays, row, lines);
            columns.update_columns(isa, &weights.adafactor_decays, col, lines);
            let sums =
                accumulate::accumulate(isa, weights, lines, p, g, momentum, rms, rows, columns);
            let scaled =
                Scaled::factored(weights, bias, &sums, n, rows.squares(), columns.squares());
            rows.fold(isa, row, &scaled.rows);
            columns.fold(isa, col, &scaled.columns);
            apply::apply(
                isa, weights, formula, &scaled, lines, p, g, momentum, rms, rows, columns,
            );
        }
        (Shape::Diagonal(_), Factored::Diagonal(diagonal)) => {
            diagonal::update(isa, weights, formula, bias, p, g, momentum, rms, diagonal);
        }
        _ => panic!("the state is of a tensor of another rank"),
    }
}
