//! The features of each scalar parameter: the table of their order, widths and constants, and their
//! evaluation in the kernels.
//!
//! To add a feature, add a variant to [`Feature`], its square to `add_squares`, its product with
//! the first weights to `first_layer`, and its candle ops to `features.rs` of `lopt-per-param`.
//! Everything else follows from the table.

use crate::{math::rsqrt, simd::Simd};

/// The constants that keep denominators above zero.
pub mod epsilon {
    /// ε of the preconditioner (v + ε)^{-1/2}. For tensors of rank < 2, also ε of the factored
    /// momenta.
    pub const SECOND_MOMENT: f64 = 1e-6;
    /// Added to g² before it enters a factored second moment.
    pub const SQUARE: f64 = 1e-30;
    /// ε of the inverse roots of row and column moments, (rows + ε)^{-1/2}.
    pub const LINE: f64 = 1e-8;
    /// Added to the mean of the row moments, and to the moments of a tensor of rank < 2.
    pub const MEAN: f64 = 1e-9;
    /// The lower bound of the argument of a factored second moment's inverse root.
    pub const FLOOR: f64 = 1e-9;
    /// ε of the normalizer 1/√(ε + mean square).
    pub const NORMALIZER: f64 = 1e-5;
}

/// One group of features of a scalar parameter. v is the second moment, m₁₋₃ are the momenta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// The gradient g.
    Gradient,
    /// The parameter φ.
    Parameter,
    /// The momenta m₁₋₃.
    Momentum,
    /// The second moment v.
    SecondMoment,
    /// m₁₋₃ · (v + 1e-6)^{-1/2}.
    PreconditionedMomentum,
    /// (v + 1e-6)^{-1/2}.
    InverseRoot,
    /// g times the inverse roots of the three factored second moments.
    FactoredGradient,
    /// The three row moments.
    Row,
    /// The three column moments.
    Column,
    /// (rows + 1e-8)^{-1/2}.
    RowInverseRoot,
    /// (columns + 1e-8)^{-1/2}.
    ColumnInverseRoot,
    /// m₁₋₃ times the inverse roots of the three factored second moments.
    FactoredMomentum,
}

impl Feature {
    /// All features in the order in which the MLP reads them.
    pub const ALL: [Feature; 12] = [
        Feature::Gradient,
        Feature::Parameter,
        Feature::Momentum,
        Feature::SecondMoment,
        Feature::PreconditionedMomentum,
        Feature::InverseRoot,
        Feature::FactoredGradient,
        Feature::Row,
        Feature::Column,
        Feature::RowInverseRoot,
        Feature::ColumnInverseRoot,
        Feature::FactoredMomentum,
    ];

    /// The number of MLP inputs in this group.
    pub const fn width(self) -> usize {
        match self {
            Feature::Gradient
            | Feature::Parameter
            | Feature::SecondMoment
            | Feature::InverseRoot => 1,
            _ => 3,
        }
    }

    /// Whether it is constant along a row or column of a matrix.
    const fn is_of_line(self) -> bool {
        matches!(
            self,
            Feature::Row | Feature::Column | Feature::RowInverseRoot | Feature::ColumnInverseRoot
        )
    }

    /// The index of its first MLP input.
    pub const fn first(self) -> usize {
        let (mut i, mut first) = (0, 0);
        while Feature::ALL[i] as usize != self as usize {
            first += Feature::ALL[i].width();
            i += 1;
        }
        first
    }

    /// The index of its first number among the element features.
    const fn of_element(self) -> usize {
        let (mut i, mut first) = (0, 0);
        while Feature::ALL[i] as usize != self as usize {
            if !Feature::ALL[i].is_of_line() {
                first += Feature::ALL[i].width();
            }
            i += 1;
        }
        first
    }
}

/// The number of features of a scalar parameter, which are normalized over its tensor.
pub const PER_PARAMETER: usize = {
    let last = Feature::ALL[Feature::ALL.len() - 1];
    last.first() + last.width()
};
/// The number of features of the step.
pub const PER_STEP: usize = TIME_SCALES.len();
/// The number of MLP inputs.
pub const INPUTS: usize = PER_PARAMETER + PER_STEP;

/// The time scales τ of the step features tanh(t/τ − 1).
const TIME_SCALES: [f32; 11] = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5];

/// Returns tanh(t/τ − 1) for the 11 time scales τ = 1, 3, 10, …, 1e5, where t counts from 0.
pub fn step_features(t: u64) -> [f32; PER_STEP] {
    TIME_SCALES.map(|scale| (t as f32 / scale - 1.0).tanh())
}

/// The number of element features: those that differ from element to element.
pub(super) const ELEMENT: usize = {
    let (mut i, mut sum) = (0, 0);
    while i < Feature::ALL.len() {
        if !Feature::ALL[i].is_of_line() {
            sum += Feature::ALL[i].width();
        }
        i += 1;
    }
    sum
};

/// The index of the MLP input of each element feature.
pub(super) const ELEMENT_INPUT: [usize; ELEMENT] = {
    let mut inputs = [0; ELEMENT];
    let mut i = 0;
    while i < Feature::ALL.len() {
        let feature = Feature::ALL[i];
        let mut k = 0;
        while !feature.is_of_line() && k < feature.width() {
            inputs[feature.of_element() + k] = feature.first() + k;
            k += 1;
        }
        i += 1;
    }
    inputs
};

// Indices among the element features.
const GRADIENT: usize = Feature::Gradient.of_element();
const PARAMETER: usize = Feature::Parameter.of_element();
const MOMENTUM: usize = Feature::Momentum.of_element();
const SECOND_MOMENT: usize = Feature::SecondMoment.of_element();
const PRECONDITIONED_MOMENTUM: usize = Feature::PreconditionedMomentum.of_element();
const INVERSE_ROOT: usize = Feature::InverseRoot.of_element();
const FACTORED_GRADIENT: usize = Feature::FactoredGradient.of_element();
const FACTORED_MOMENTUM: usize = Feature::FactoredMomentum.of_element();

/// The gradient and the moments of some elements.
pub(super) struct Inputs<V> {
    pub g: V,
    pub m: [V; 3],
    pub v: V,
    /// (v + 1e-6)^{-1/2}
    pub r: V,
}

/// r(x) = 1/√max(x, 1e-9)
#[inline(always)]
pub(super) fn safe_rsqrt<S: Simd>(s: S, x: S::V) -> S::V {
    rsqrt(s, s.max(x, s.splat(epsilon::FLOOR as f32)))
}

/// 1/(v + 1e-6), the square of the preconditioner.
#[inline(always)]
pub(super) fn inverse<S: Simd>(s: S, v: S::V) -> S::V {
    let above_zero = s.add(v, s.splat(epsilon::SECOND_MOMENT as f32));
    s.div(s.splat(1.0), above_zero)
}

/// (v + 1e-6)^{-1/2}, the preconditioner.
#[inline(always)]
pub(super) fn inverse_root<S: Simd>(s: S, v: S::V) -> S::V {
    rsqrt(s, s.add(v, s.splat(epsilon::SECOND_MOMENT as f32)))
}

/// The factors of g and m in the factored features of a tensor of rank < 2 with second moment d:
/// (1/√max(d + 1e-9, 1e-9), (d + 1e-6)^{-1/2}).
#[inline(always)]
pub(super) fn diagonal_factors<S: Simd>(s: S, d: S::V) -> (S::V, S::V) {
    (
        safe_rsqrt(s, s.add(d, s.splat(epsilon::MEAN as f32))),
        inverse_root(s, d),
    )
}

/// Adds the squares of the element features to `sums`. `inverse` is [`inverse`] of v; `factor_g`
/// and `factor_m` are the factors of g and m in the factored features.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(super) fn add_squares<S: Simd>(
    s: S,
    sums: &mut [S::V; ELEMENT],
    g: S::V,
    p: S::V,
    m: [S::V; 3],
    v: S::V,
    inverse: S::V,
    factor_g: [S::V; 3],
    factor_m: [S::V; 3],
) {
    sums[GRADIENT] = s.mul_add(g, g, sums[GRADIENT]);
    sums[PARAMETER] = s.mul_add(p, p, sums[PARAMETER]);
    sums[SECOND_MOMENT] = s.mul_add(v, v, sums[SECOND_MOMENT]);
    sums[INVERSE_ROOT] = s.add(sums[INVERSE_ROOT], inverse);
    let mut k = 0;
    while k < 3 {
        let m2 = s.mul(m[k], m[k]);
        sums[MOMENTUM + k] = s.add(sums[MOMENTUM + k], m2);
        let preconditioned = PRECONDITIONED_MOMENTUM + k;
        sums[preconditioned] = s.mul_add(m2, inverse, sums[preconditioned]);
        let by_g = s.mul(g, factor_g[k]);
        sums[FACTORED_GRADIENT + k] = s.mul_add(by_g, by_g, sums[FACTORED_GRADIENT + k]);
        let by_m = s.mul(m[k], factor_m[k]);
        sums[FACTORED_MOMENTUM + k] = s.mul_add(by_m, by_m, sums[FACTORED_MOMENTUM + k]);
        k += 1;
    }
}

/// Returns the first layer before its ReLU. `base` is the sum of the bias and the contributions of
/// rows and columns; `factors` are the factors of g and m in the factored features.
#[inline(always)]
pub(super) fn first_layer<S: Simd, const H: usize>(
    s: S,
    weights: &[[f32; H]; ELEMENT],
    base: [S::V; H],
    p: S::V,
    inputs: &Inputs<S::V>,
    factors: ([S::V; 3], [S::V; 3]),
) -> [S::V; H] {
    let Inputs { g, m, v, r } = inputs;
    let weight = |k: usize, j: usize| s.splat(weights[k][j]);
    let mut hidden = base;
    let mut j = 0;
    while j < H {
        // Weights of features with a common factor are summed first: g·(w + Σ_k w_k·f_k).
        let mut of_g = weight(GRADIENT, j);
        let mut sum = s.mul_add(p, weight(PARAMETER, j), hidden[j]);
        sum = s.mul_add(*v, weight(SECOND_MOMENT, j), sum);
        sum = s.mul_add(*r, weight(INVERSE_ROOT, j), sum);
        let mut k = 0;
        while k < 3 {
            of_g = s.mul_add(factors.0[k], weight(FACTORED_GRADIENT + k, j), of_g);
            // m_k·(w + w'·r + w''·f_k)
            let preconditioned = weight(PRECONDITIONED_MOMENTUM + k, j);
            let of_m = s.mul_add(*r, preconditioned, weight(MOMENTUM + k, j));
            let of_m = s.mul_add(factors.1[k], weight(FACTORED_MOMENTUM + k, j), of_m);
            sum = s.mul_add(m[k], of_m, sum);
            k += 1;
        }
        hidden[j] = s.mul_add(*g, of_g, sum);
        j += 1;
    }
    hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order is part of every θ file. It is that of the reference, `small_fc_lopt`.
    #[test]
    fn the_order_is_that_of_the_reference() {
        let firsts = Feature::ALL.map(Feature::first);
        assert_eq!(firsts, [0, 1, 2, 5, 6, 9, 10, 13, 16, 19, 22, 25]);
        assert_eq!((PER_PARAMETER, PER_STEP, INPUTS), (28, 11, 39));
        let expected = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 25, 26, 27];
        assert_eq!(ELEMENT_INPUT, expected);
    }

    /// Constants rounded to f32 via f64 are the f32 nearest to their decimal digits.
    #[test]
    fn constants_round_to_f32_as_written() {
        assert_eq!(epsilon::SECOND_MOMENT as f32, 1e-6_f32);
        assert_eq!(epsilon::SQUARE as f32, 1e-30_f32);
        assert_eq!(epsilon::LINE as f32, 1e-8_f32);
        assert_eq!(epsilon::MEAN as f32, 1e-9_f32);
        assert_eq!(epsilon::FLOOR as f32, 1e-9_f32);
        assert_eq!(epsilon::NORMALIZER as f32, 1e-5_f32);
    }
}
