//! The first layer at one step for one tensor: the normalizers folded into its weights.

use super::{
    features::{ELEMENT, ELEMENT_INPUT, Feature, epsilon},
    theta::Weights,
};

/// 1/√(1e-5 + mean square)
fn normalizer(sum_of_squares: f64, n: usize) -> f32 {
    1.0 / ((sum_of_squares / n as f64) as f32 + epsilon::NORMALIZER as f32).sqrt()
}

fn times<const H: usize>(weights: [f32; H], factor: f32) -> [f32; H] {
    weights.map(|weight| weight * factor)
}

/// The sums of squares of three moments and of their inverse roots, over `len` of them.
pub(super) struct Squares<'a> {
    pub sums: &'a [f64; 6],
    pub len: usize,
}

/// The first layer's weights with the normalizers in them.
#[derive(Clone, Debug)]
pub(super) struct Scaled<const H: usize> {
    /// The bias, the step's features in it.
    pub bias: [f32; H],
    /// Of the features of each element.
    pub element: [[f32; H]; ELEMENT],
    /// Of the three row moments and of their inverse roots.
    pub rows: [[f32; H]; 6],
    /// Of the three column moments and of their inverse roots.
    pub columns: [[f32; H]; 6],
}

impl<const H: usize> Scaled<H> {
    /// From the sums of squares of the elements' features, for rank ≥ 2.
    pub fn factored(
        weights: &Weights<H>,
        bias: &[f32; H],
        sums: &[f64; ELEMENT],
        n: usize,
        rows: Squares,
        columns: Squares,
    ) -> Self {
        let side = |moments: Feature, inverse_roots: Feature, side: Squares| {
            std::array::from_fn(|k| {
                let input = match k < 3 {
                    true => moments.first() + k,
                    false => inverse_roots.first() + k - 3,
                };
                times(weights.w0[input], normalizer(side.sums[k], side.len))
            })
        };
        Self {
            bias: *bias,
            element: Self::elements(weights, sums, n),
            rows: side(Feature::Row, Feature::RowInverseRoot, rows),
            columns: side(Feature::Column, Feature::ColumnInverseRoot, columns),
        }
    }

    /// For rank < 2, where rows and columns are the same moments of each element;
    /// `moments` are the sums of squares of these and of their inverse roots.
    pub fn diagonal(
        weights: &Weights<H>,
        bias: &[f32; H],
        sums: &[f64; ELEMENT],
        moments: &[f64; 6],
        n: usize,
    ) -> Self {
        let both = std::array::from_fn(|k| {
            let (row, column) = match k < 3 {
                true => (Feature::Row.first() + k, Feature::Column.first() + k),
                false => (
                    Feature::RowInverseRoot.first() + k - 3,
                    Feature::ColumnInverseRoot.first() + k - 3,
                ),
            };
            let (row, column) = (weights.w0[row], weights.w0[column]);
            let weights = std::array::from_fn(|j| row[j] + column[j]);
            times(weights, normalizer(moments[k], n))
        });
        Self {
            bias: *bias,
            element: Self::elements(weights, sums, n),
            rows: both,
            columns: [[0.0; H]; 6],
        }
    }

    fn elements(weights: &Weights<H>, sums: &[f64; ELEMENT], n: usize) -> [[f32; H]; ELEMENT] {
        let scaled = |k: usize| times(weights.w0[ELEMENT_INPUT[k]], normalizer(sums[k], n));
        std::array::from_fn(scaled)
    }
}
