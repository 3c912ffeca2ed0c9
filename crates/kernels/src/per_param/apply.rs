//! Third pass: evaluates the MLP on the features of each element and takes the step.

use crate::{
    Gradient, Isa, Target,
    isa::dispatch,
    simd::{Simd, Two, part},
};

use super::{
    features::{Inputs, first_layer, inverse_root},
    formula::Formula,
    lines::{Line, Lines},
    scaled::Scaled,
    side::{Side, sides},
    theta::{HEADS, Weights},
};

/// Wider MLPs leave too few registers to process two vectors at a time.
const NARROW: usize = 4;

/// Takes the step of a whole tensor.
#[allow(clippy::too_many_arguments)]
pub(super) fn apply<const H: usize>(
    isa: Isa,
    weights: &Weights<H>,
    formula: &Formula,
    scaled: &Scaled<H>,
    lines: &Lines,
    target: Target,
    g: Gradient,
    momentum: &[f32],
    rms: &[f32],
    rows: &Side,
    columns: &Side,
) {
    let momentum = thirds(momentum);
    let mut formula = *formula;
    if formula.per_tensor() {
        let sums = heads(
            isa, weights, scaled, lines, target.p, g, momentum, rms, rows, columns,
        );
        formula = formula.with_means(sums.map(|sum| sum / target.p.len() as f64));
    }
    step(
        isa, weights, scaled, &formula, lines, target, g, momentum, rms, rows, columns,
    );
}

/// The three momenta of a tensor.
#[inline(always)]
pub(super) fn thirds(momentum: &[f32]) -> [&[f32]; 3] {
    let (m0, rest) = momentum.split_at(momentum.len() / 3);
    let (m1, m2) = rest.split_at(rest.len() / 2);
    [m0, m1, m2]
}

dispatch! {
    /// Takes the step of a tensor or of a part.
    pub(super) fn step<const H: usize> = step_body(
        weights: &Weights<H>, scaled: &Scaled<H>, formula: &Formula, lines: &Lines, target: Target,
        g: Gradient, momentum: [&[f32]; 3], rms: &[f32], rows: &Side, columns: &Side,
    )
}

dispatch! {
    /// Returns the sums of the heads over a tensor or a part.
    pub(super) fn heads<const H: usize> = heads_body(
        weights: &Weights<H>, scaled: &Scaled<H>, lines: &Lines, p: &[f32],
        g: Gradient, momentum: [&[f32]; 3], rms: &[f32], rows: &Side, columns: &Side,
    ) -> [f64; HEADS]
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn step_body<S: Simd, const H: usize>(
    s: S,
    weights: &Weights<H>,
    scaled: &Scaled<H>,
    formula: &Formula,
    lines: &Lines,
    mut target: Target,
    g: Gradient,
    momentum: [&[f32]; 3],
    rms: &[f32],
    rows: &Side,
    columns: &Side,
) {
    assert!(target.p.len() == lines.elements());
    target.check();
    let tensor = Moments::new(target.p.len(), g, momentum, rms);
    let target = &mut target;
    let (no_x, no_y) = sides(lines, rows, columns);
    for line in lines.iter() {
        if lines.no_y_is_fixed() {
            let base = Base::<H, true>::new(scaled, no_x, no_y, line);
            step_line(s, weights, scaled, formula, target, &tensor, &base, line);
        } else {
            let base = Base::<H, false>::new(scaled, no_x, no_y, line);
            step_line(s, weights, scaled, formula, target, &tensor, &base, line);
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn step_line<S: Simd, const H: usize, const FIXED: bool>(
    s: S,
    weights: &Weights<H>,
    scaled: &Scaled<H>,
    formula: &Formula,
    target: &mut Target,
    tensor: &Moments,
    base: &Base<H, FIXED>,
    line: Line,
) {
    let mut i = 0;
    while H <= NARROW && i + 2 * S::LANES <= line.len {
        let n = 2 * S::LANES;
        // SAFETY: the line lies within the tensor and the sides, and `n` of its elements remain.
        unsafe { step_elements(Two(s), weights, scaled, formula, target, tensor, base, i, n) };
        i += n;
    }
    while i < line.len {
        let n = S::LANES.min(line.len - i);
        // SAFETY: as above.
        unsafe { step_elements(s, weights, scaled, formula, target, tensor, base, i, n) };
        i += n;
    }
}

/// # Safety
/// The line lies within the tensor and the sides, `i + n` is at most its length, and `n`
/// at most `LANES`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn step_elements<S: Simd, const H: usize, const FIXED: bool>(
    s: S,
    weights: &Weights<H>,
    scaled: &Scaled<H>,
    formula: &Formula,
    target: &mut Target,
    tensor: &Moments,
    base: &Base<H, FIXED>,
    i: usize,
    n: usize,
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let (old, inputs, heads) = evaluate(s, weights, scaled, target.p, tensor, base, i, n);
        let direction = formula.direction(s, &inputs, heads);
        let at = base.line.at + i;
        target.add(s, at, n, old, direction, -formula.learning_rate);
    }
}

/// Returns (p, the other inputs, the heads) of `n` elements of a line, from element `i`.
///
/// # Safety
/// The conditions are those of [`step_elements`].
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn evaluate<S: Simd, const H: usize, const FIXED: bool>(
    s: S,
    weights: &Weights<H>,
    scaled: &Scaled<H>,
    p: &[f32],
    tensor: &Moments,
    base: &Base<H, FIXED>,
    i: usize,
    n: usize,
) -> (S::V, Inputs<S::V>, [S::V; HEADS]) {
    let at = base.line.at + i;
    // SAFETY: guaranteed by the caller.
    unsafe {
        let p = part(s, p, at, n);
        let inputs = tensor.inputs(s, at, n);
        let (factor, first) = base.at(s, i, n);
        let heads = forward(s, weights, scaled, first, p, &inputs, (factor, factor));
        (p, inputs, heads)
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn heads_body<S: Simd, const H: usize>(
    s: S,
    weights: &Weights<H>,
    scaled: &Scaled<H>,
    lines: &Lines,
    p: &[f32],
    g: Gradient,
    momentum: [&[f32]; 3],
    rms: &[f32],
    rows: &Side,
    columns: &Side,
) -> [f64; HEADS] {
    assert!(p.len() == lines.elements());
    let tensor = Moments::new(p.len(), g, momentum, rms);
    let (no_x, no_y) = sides(lines, rows, columns);
    let mut totals = [0.0; HEADS];
    for line in lines.iter() {
        if lines.no_y_is_fixed() {
            let base = Base::<H, true>::new(scaled, no_x, no_y, line);
            heads_line(s, weights, scaled, p, &tensor, &base, line, &mut totals);
        } else {
            let base = Base::<H, false>::new(scaled, no_x, no_y, line);
            heads_line(s, weights, scaled, p, &tensor, &base, line, &mut totals);
        }
    }
    totals
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn heads_line<S: Simd, const H: usize, const FIXED: bool>(
    s: S,
    weights: &Weights<H>,
    scaled: &Scaled<H>,
    p: &[f32],
    tensor: &Moments,
    base: &Base<H, FIXED>,
    line: Line,
    totals: &mut [f64; HEADS],
) {
    let mut i = 0;
    while i < line.len {
        let n = S::LANES.min(line.len - i);
        // SAFETY: the line lies within the tensor and the sides, and `n` of its elements remain.
        let (_, _, heads) = unsafe { evaluate(s, weights, scaled, p, tensor, base, i, n) };
        add_heads(s, heads, n, totals);
        i += n;
    }
}

/// Adds the first `n` lanes of the heads to the sums.
#[inline(always)]
pub(super) fn add_heads<S: Simd>(s: S, heads: [S::V; HEADS], n: usize, totals: &mut [f64; HEADS]) {
    let mut k = 0;
    while k < HEADS {
        totals[k] += f64::from(s.sum(s.keep(heads[k], n)));
        k += 1;
    }
}

/// The gradient and the moments of a tensor, all of the same length.
pub(super) struct Moments<'a> {
    g: Gradient<'a>,
    m: [&'a [f32]; 3],
    v: &'a [f32],
}

impl<'a> Moments<'a> {
    /// # Panics
    /// Panics if the lengths are not `n`.
    #[inline(always)]
    pub fn new(n: usize, g: Gradient<'a>, m: [&'a [f32]; 3], v: &'a [f32]) -> Self {
        assert!(g.len() == n && v.len() == n);
        assert!(m[0].len() == n && m[1].len() == n && m[2].len() == n);
        Self { g, m, v }
    }

    /// # Safety
    /// `at + n` is at most the tensor's length and `n` at most `LANES`.
    #[inline(always)]
    pub unsafe fn inputs<S: Simd>(&self, s: S, at: usize, n: usize) -> Inputs<S::V> {
        // SAFETY: guaranteed by the caller; all slices have the tensor's length.
        unsafe {
            let v = part(s, self.v, at, n);
            Inputs {
                g: self.g.part(s, at, n),
                m: [
                    part(s, self.m[0], at, n),
                    part(s, self.m[1], at, n),
                    part(s, self.m[2], at, n),
                ],
                v,
                r: inverse_root(s, v),
            }
        }
    }
}

/// The contributions of rows and columns to the elements of one line.
struct Base<'a, const H: usize, const FIXED: bool> {
    no_x: &'a Side,
    no_y: &'a Side,
    line: Line,
    /// The bias plus the contributions that are constant along the line.
    first: [f32; H],
    factor: [f32; 3],
}

impl<'a, const H: usize, const FIXED: bool> Base<'a, H, FIXED> {
    #[inline(always)]
    fn new(scaled: &Scaled<H>, no_x: &'a Side, no_y: &'a Side, line: Line) -> Self {
        let (mut first, mut factor) = (scaled.bias, [0.0; 3]);
        if FIXED {
            let mut j = 0;
            while j < H {
                first[j] += no_y.fold[j * no_y.len + line.no_y];
                j += 1;
            }
            let mut k = 0;
            while k < 3 {
                factor[k] = no_y.factor[k * no_y.len + line.no_y];
                k += 1;
            }
        }
        Self {
            no_x,
            no_y,
            line,
            first,
            factor,
        }
    }

    /// Returns (the factors of the three decays, the first layer without the element features).
    ///
    /// # Safety
    /// `i + n` is at most the line's length and `n` at most `LANES`.
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, s: S, i: usize, n: usize) -> ([S::V; 3], [S::V; H]) {
        let (no_x, no_y, line) = (self.no_x, self.no_y, self.line);
        let (mut factor, mut first) = ([s.splat(0.0); 3], [s.splat(0.0); H]);
        let mut k = 0;
        while k < 3 {
            // SAFETY: the line's indices lie within the sides.
            unsafe {
                let x = part(s, &no_x.factor, k * no_x.len + line.no_x + i, n);
                let y = if FIXED {
                    s.splat(self.factor[k])
                } else {
                    part(s, &no_y.factor, k * no_y.len + line.no_y + i, n)
                };
                factor[k] = s.mul(x, y);
            }
            k += 1;
        }
        let mut j = 0;
        while j < H {
            // SAFETY: as above.
            unsafe {
                let x = part(s, &no_x.fold, j * no_x.len + line.no_x + i, n);
                first[j] = s.add(s.splat(self.first[j]), x);
                if !FIXED {
                    let y = part(s, &no_y.fold, j * no_y.len + line.no_y + i, n);
                    first[j] = s.add(first[j], y);
                }
            }
            j += 1;
        }
        (factor, first)
    }
}

/// Returns the heads. `first` is the first layer without the element features; `factors` are the
/// factors of g and m in the factored features.
#[inline(always)]
pub(super) fn forward<S: Simd, const H: usize>(
    s: S,
    weights: &Weights<H>,
    scaled: &Scaled<H>,
    first: [S::V; H],
    p: S::V,
    inputs: &Inputs<S::V>,
    factors: ([S::V; 3], [S::V; 3]),
) -> [S::V; HEADS] {
    let hidden = first_layer(s, &scaled.element, first, p, inputs, factors);
    let second = layer(s, relu(s, hidden), &weights.w1, &weights.b1);
    layer(s, relu(s, second), &weights.w2, &weights.b2)
}

#[inline(always)]
fn relu<S: Simd, const H: usize>(s: S, mut x: [S::V; H]) -> [S::V; H] {
    let mut j = 0;
    while j < H {
        x[j] = s.max(x[j], s.splat(0.0));
        j += 1;
    }
    x
}

#[inline(always)]
fn layer<S: Simd, const H: usize, const N: usize>(
    s: S,
    x: [S::V; H],
    weights: &[[f32; N]; H],
    bias: &[f32; N],
) -> [S::V; N] {
    let mut y = [s.splat(0.0); N];
    let mut j = 0;
    while j < N {
        y[j] = s.splat(bias[j]);
        let mut i = 0;
        while i < H {
            y[j] = s.mul_add(x[i], s.splat(weights[i][j]), y[j]);
            i += 1;
        }
        j += 1;
    }
    y
}
