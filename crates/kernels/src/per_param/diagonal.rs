//! The update of tensors of rank 0 and 1, whose second moments are not factored.

use crate::{
    Gradient, Isa, Target,
    isa::dispatch,
    simd::{FLUSH, Simd, part, put},
};

use super::{
    accumulate::{Means, Tensor, flush, mean},
    apply::{Moments, add_heads, forward, thirds},
    features::{ELEMENT, Inputs, add_squares, diagonal_factors, epsilon, inverse},
    formula::Formula,
    scaled::Scaled,
    side::inverse_root_of_line,
    split_in_three,
    theta::{HEADS, Weights},
};

/// Takes one step. `diagonal` holds the three second moments, \[3, n\].
#[allow(clippy::too_many_arguments)]
pub(super) fn update<const H: usize>(
    isa: Isa,
    weights: &Weights<H>,
    formula: &Formula,
    bias: &[f32; H],
    target: Target,
    g: Gradient,
    momentum: &mut [f32],
    rms: &mut [f32],
    diagonal: &mut [f32],
) {
    let n = target.p.len();
    let [m, d] = [&mut *momentum, &mut *diagonal].map(split_in_three);
    let (sums, moments) = accumulate(isa, weights, target.p, g, m, rms, d);
    let scaled = Scaled::diagonal(weights, bias, &sums, &moments, n);
    let [m, d] = [&*momentum, &*diagonal].map(thirds);
    let mut formula = *formula;
    if formula.per_tensor() {
        let sums = heads(isa, weights, &scaled, target.p, g, m, rms, d);
        formula = formula.with_means(sums.map(|sum| sum / n as f64));
    }
    step(isa, weights, &scaled, &formula, target, g, m, rms, d);
}

dispatch! {
    /// Updates the accumulators, and returns the sums of squares of the element features, and of
    /// the three moments and their inverse roots.
    pub(super) fn accumulate<const H: usize> = accumulate_body(
        weights: &Weights<H>, p: &[f32], g: Gradient, momentum: [&mut [f32]; 3], rms: &mut [f32],
        diagonal: [&mut [f32]; 3],
    ) -> ([f64; ELEMENT], [f64; 6])
}

#[inline(always)]
fn accumulate_body<S: Simd, const H: usize>(
    s: S,
    weights: &Weights<H>,
    p: &[f32],
    g: Gradient,
    momentum: [&mut [f32]; 3],
    rms: &mut [f32],
    diagonal: [&mut [f32]; 3],
) -> ([f64; ELEMENT], [f64; 6]) {
    let n = p.len();
    assert!(diagonal[0].len() == n && diagonal[1].len() == n && diagonal[2].len() == n);
    let means = Means::new(s, weights);
    let mut tensor = Tensor::new(p, g, momentum, rms);
    let mut sums = [s.splat(0.0); ELEMENT];
    let mut of_moments = [s.splat(0.0); 6];
    let (mut totals, mut moment_totals) = ([0.0; ELEMENT], [0.0; 6]);
    let mut at = 0;
    while at < n {
        let count = S::LANES.min(n - at);
        // SAFETY: `count` elements of the tensor remain, and all slices have as many elements.
        unsafe {
            let g = tensor.g.part(s, at, count);
            let p = part(s, tensor.p, at, count);
            let (m, v) = means.take(s, &mut tensor, at, count, g);
            let fresh = s.mul_add(g, g, s.splat(epsilon::SQUARE as f32));
            let (mut factor_g, mut factor_m) = ([g; 3], [g; 3]);
            let mut k = 0;
            while k < 3 {
                let decay = weights.adafactor_decays[k];
                let decay = (s.splat(decay), s.splat(1.0 - decay));
                let d = mean(s, decay, part(s, diagonal[k], at, count), fresh);
                put(s, diagonal[k], at, count, d);
                (factor_g[k], factor_m[k]) = diagonal_factors(s, d);
                let d = s.keep(d, count);
                of_moments[k] = s.mul_add(d, d, of_moments[k]);
                let inverse = s.div(s.splat(1.0), s.add(d, s.splat(epsilon::LINE as f32)));
                of_moments[3 + k] = s.add(of_moments[3 + k], s.keep(inverse, count));
                k += 1;
            }
            let inverse = s.keep(inverse(s, v), count);
            add_squares(s, &mut sums, g, p, m, v, inverse, factor_g, factor_m);
        }
        at += count;
        if at & (FLUSH - 1) == 0 {
            flush(s, &mut sums, &mut totals);
            flush(s, &mut of_moments, &mut moment_totals);
        }
    }
    flush(s, &mut sums, &mut totals);
    flush(s, &mut of_moments, &mut moment_totals);
    (totals, moment_totals)
}

dispatch! {
    /// Takes the step of a tensor or of a part.
    pub(super) fn step<const H: usize> = step_body(
        weights: &Weights<H>, scaled: &Scaled<H>, formula: &Formula, target: Target, g: Gradient,
        momentum: [&[f32]; 3], rms: &[f32], diagonal: [&[f32]; 3],
    )
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn step_body<S: Simd, const H: usize>(
    s: S,
    weights: &Weights<H>,
    scaled: &Scaled<H>,
    formula: &Formula,
    mut target: Target,
    g: Gradient,
    momentum: [&[f32]; 3],
    rms: &[f32],
    diagonal: [&[f32]; 3],
) {
    let n = target.p.len();
    assert!(diagonal[0].len() == n && diagonal[1].len() == n && diagonal[2].len() == n);
    let tensor = Moments::new(n, g, momentum, rms);
    let mut at = 0;
    while at < n {
        let count = S::LANES.min(n - at);
        // SAFETY: `count` elements of the tensor remain.
        unsafe {
            let (old, inputs, heads) =
                evaluate(s, weights, scaled, target.p, &tensor, diagonal, at, count);
            let direction = formula.direction(s, &inputs, heads);
            target.add(s, at, count, old, direction, -formula.learning_rate);
        }
        at += count;
    }
}

dispatch! {
    /// Returns the sums of the heads over a tensor or a part.
    pub(super) fn heads<const H: usize> = heads_body(
        weights: &Weights<H>, scaled: &Scaled<H>, p: &[f32], g: Gradient,
        momentum: [&[f32]; 3], rms: &[f32], diagonal: [&[f32]; 3],
    ) -> [f64; HEADS]
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn heads_body<S: Simd, const H: usize>(
    s: S,
    weights: &Weights<H>,
    scaled: &Scaled<H>,
    p: &[f32],
    g: Gradient,
    momentum: [&[f32]; 3],
    rms: &[f32],
    diagonal: [&[f32]; 3],
) -> [f64; HEADS] {
    let n = p.len();
    assert!(diagonal[0].len() == n && diagonal[1].len() == n && diagonal[2].len() == n);
    let tensor = Moments::new(n, g, momentum, rms);
    let mut totals = [0.0; HEADS];
    let mut at = 0;
    while at < n {
        let count = S::LANES.min(n - at);
        // SAFETY: `count` elements of the tensor remain.
        let (_, _, heads) =
            unsafe { evaluate(s, weights, scaled, p, &tensor, diagonal, at, count) };
        add_heads(s, heads, count, &mut totals);
        at += count;
    }
    totals
}

/// Returns (p, the other inputs, the heads) of `count` elements.
///
/// # Safety
/// `p`, the moments of `tensor` and those of `diagonal` have n elements, `at + count` is at most n and
/// `count` at most `LANES`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn evaluate<S: Simd, const H: usize>(
    s: S,
    weights: &Weights<H>,
    scaled: &Scaled<H>,
    p: &[f32],
    tensor: &Moments,
    diagonal: [&[f32]; 3],
    at: usize,
    count: usize,
) -> (S::V, Inputs<S::V>, [S::V; HEADS]) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let (first, factors) = moments(s, scaled, diagonal, at, count);
        let inputs = tensor.inputs(s, at, count);
        let p = part(s, p, at, count);
        let heads = forward(s, weights, scaled, first, p, &inputs, factors);
        (p, inputs, heads)
    }
}

/// Returns the contributions of the three second moments to some elements: (the first layer
/// without the element features, (factors of g, factors of m)).
///
/// # Safety
/// `at + count` is at most the length of each of `diagonal` and `count` at most `LANES`.
#[inline(always)]
#[allow(clippy::type_complexity)]
unsafe fn moments<S: Simd, const H: usize>(
    s: S,
    scaled: &Scaled<H>,
    diagonal: [&[f32]; 3],
    at: usize,
    count: usize,
) -> ([S::V; H], ([S::V; 3], [S::V; 3])) {
    let mut first = [s.splat(0.0); H];
    let mut j = 0;
    while j < H {
        first[j] = s.splat(scaled.bias[j]);
        j += 1;
    }
    let mut factors = ([s.splat(0.0); 3], [s.splat(0.0); 3]);
    let mut k = 0;
    while k < 3 {
        // SAFETY: guaranteed by the caller.
        let d = unsafe { part(s, diagonal[k], at, count) };
        let inverse_root = inverse_root_of_line(s, d);
        let mut j = 0;
        while j < H {
            first[j] = s.mul_add(d, s.splat(scaled.rows[k][j]), first[j]);
            first[j] = s.mul_add(inverse_root, s.splat(scaled.rows[3 + k][j]), first[j]);
            j += 1;
        }
        (factors.0[k], factors.1[k]) = diagonal_factors(s, d);
        k += 1;
    }
    (first, factors)
}
