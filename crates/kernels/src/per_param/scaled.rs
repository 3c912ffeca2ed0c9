//! The first layer for one step of one tensor, with the normalizers folded into its weights.

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

/// The sums of squares of three moments and of their inverse roots, each over `len` values.
pub(super) struct Squares<'a> {
    pub sums: &'a [f64; 6],
    pub len: usize,
}

/// The first layer's weights times the normalizers.
#[derive(Clone, Debug)]
pub(super) struct Scaled<const H: usize> {
    /// The bias, including the step features.
    pub bias: [f32; H],
    /// The weights of the element features.
    pub element: [[f32; H]; ELEMENT],
    /// The weights of the three row moments and of their inverse roots.
    pub rows: [[f32; H]; 6],
    /// The weights of the three column moments and of their inverse roots.
    pub columns: [[f32; H]; 6],
}

impl<const H: usize> Scaled<H> {
    /// Scales the weights by the sums of squares of the features, for rank ≥ 2.
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

    /// Scales the weights for rank < 2, where row and column moments are both the moments of each
    /// element. `moments` holds the sums of squares of these and of their inverse roots.
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
