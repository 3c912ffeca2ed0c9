//! Third pass: the MLP on the features of each element, and the step.

use crate::{
    Isa,
    isa::dispatch,
    math::{exp, rsqrt},
    simd::{Simd, Two, part, put},
};

use super::{
    lines::{Line, Lines},
    network::{Exponent, Formula, HEADS, HIDDEN, Network, Scaled},
    side::Side,
};

/// The step of a whole tensor.
#[allow(clippy::too_many_arguments)]
pub(super) fn apply(
    isa: Isa,
    network: &Network,
    scaled: &Scaled,
    lines: &Lines,
    p: &mut [f32],
    g: &[f32],
    momentum: &[f32],
    rms: &[f32],
    rows: &Side,
    columns: &Side,
) {
    let mut formula = network.formula;
    if formula.per_tensor() {
        let sums = heads(
            isa, network, scaled, lines, p, g, momentum, rms, rows, columns,
        );
        formula = formula.with_means(sums.map(|sum| sum / p.len() as f64));
    }
    step(
        isa, network, scaled, &formula, lines, p, g, momentum, rms, rows, columns,
    );
}

impl Formula {
    pub(super) fn per_tensor(&self) -> bool {
        self.nominal_exponent.per_tensor || self.blackbox_exponent.per_tensor
    }

    /// With the exponents of whole tensors fixed, from the heads' means.
    pub(super) fn with_means(mut self, [_, blackbox, nominal]: [f64; HEADS]) -> Self {
        let fix = |exponent: &mut Exponent, mean: f64| {
            if exponent.per_tensor {
                exponent.shift += exponent.scale * mean as f32;
                exponent.scale = 0.0;
            }
        };
        fix(&mut self.blackbox_exponent, blackbox);
        fix(&mut self.nominal_exponent, nominal);
        self
    }
}

dispatch! {
    fn step = step_body(
        network: &Network, scaled: &Scaled, formula: &Formula, lines: &Lines, p: &mut [f32],
        g: &[f32], momentum: &[f32], rms: &[f32], rows: &Side, columns: &Side,
    )
}

dispatch! {
    /// Sums of the heads over the tensor.
    fn heads = heads_body(
        network: &Network, scaled: &Scaled, lines: &Lines, p: &[f32],
        g: &[f32], momentum: &[f32], rms: &[f32], rows: &Side, columns: &Side,
    ) -> [f64; HEADS]
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn step_body<S: Simd>(
    s: S,
    network: &Network,
    scaled: &Scaled,
    formula: &Formula,
    lines: &Lines,
    p: &mut [f32],
    g: &[f32],
    momentum: &[f32],
    rms: &[f32],
    rows: &Side,
    columns: &Side,
) {
    let tensor = Moments::new(p.len(), g, momentum, rms);
    let (no_x, no_y) = lines.sides(rows, columns);
    for line in lines.iter() {
        if lines.no_y_is_fixed() {
            let base = Base::<true>::new(scaled, no_x, no_y, line);
            step_line(s, network, scaled, formula, p, &tensor, &base, line);
        } else {
            let base = Base::<false>::new(scaled, no_x, no_y, line);
            step_line(s, network, scaled, formula, p, &tensor, &base, line);
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn step_line<S: Simd, const FIXED: bool>(
    s: S,
    network: &Network,
    scaled: &Scaled,
    formula: &Formula,
    p: &mut [f32],
    tensor: &Moments,
    base: &Base<FIXED>,
    line: Line,
) {
    let mut i = 0;
    while i + 2 * S::LANES <= line.len {
        let n = 2 * S::LANES;
        // SAFETY: the line lies within the tensor and the sides, `n` elements are left.
        unsafe { step_elements(Two(s), network, scaled, formula, p, tensor, base, i, n) };
        i += n;
    }
    while i < line.len {
        let n = S::LANES.min(line.len - i);
        // SAFETY: as above.
        unsafe { step_elements(s, network, scaled, formula, p, tensor, base, i, n) };
        i += n;
    }
}

/// # Safety
/// The line lies within the tensor and the sides, `i + n` is at most its length, and `n`
/// at most `LANES`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn step_elements<S: Simd, const FIXED: bool>(
    s: S,
    network: &Network,
    scaled: &Scaled,
    formula: &Formula,
    p: &mut [f32],
    tensor: &Moments,
    base: &Base<FIXED>,
    i: usize,
    n: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let (old, inputs, heads) = evaluate(s, network, scaled, p, tensor, base, i, n);
        let new = formula.apply(s, old, &inputs, heads);
        put(s, p, base.line.at + i, n, new);
    }
}

/// (p, the other inputs, the heads) of `n` elements from the `i`-th of a line.
///
/// # Safety
/// As [`step_elements`].
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn evaluate<S: Simd, const FIXED: bool>(
    s: S,
    network: &Network,
    scaled: &Scaled,
    p: &[f32],
    tensor: &Moments,
    base: &Base<FIXED>,
    i: usize,
    n: usize,
) -> (S::V, Inputs<S::V>, [S::V; HEADS]) {
    let at = base.line.at + i;
    // SAFETY: the caller's promise.
    unsafe {
        let p = part(s, p, at, n);
        let inputs = tensor.inputs(s, at, n);
        let (factor, first) = base.at(s, i, n);
        let heads = forward(s, network, scaled, first, p, &inputs, (factor, factor));
        (p, inputs, heads)
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn heads_body<S: Simd>(
    s: S,
    network: &Network,
    scaled: &Scaled,
    lines: &Lines,
    p: &[f32],
    g: &[f32],
    momentum: &[f32],
    rms: &[f32],
    rows: &Side,
    columns: &Side,
) -> [f64; HEADS] {
    let tensor = Moments::new(p.len(), g, momentum, rms);
    let (no_x, no_y) = lines.sides(rows, columns);
    let mut totals = [0.0; HEADS];
    for line in lines.iter() {
        if lines.no_y_is_fixed() {
            let base = Base::<true>::new(scaled, no_x, no_y, line);
            heads_line(s, network, scaled, p, &tensor, &base, line, &mut totals);
        } else {
            let base = Base::<false>::new(scaled, no_x, no_y, line);
            heads_line(s, network, scaled, p, &tensor, &base, line, &mut totals);
        }
    }
    totals
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn heads_line<S: Simd, const FIXED: bool>(
    s: S,
    network: &Network,
    scaled: &Scaled,
    p: &[f32],
    tensor: &Moments,
    base: &Base<FIXED>,
    line: Line,
    totals: &mut [f64; HEADS],
) {
    let mut i = 0;
    while i < line.len {
        let n = S::LANES.min(line.len - i);
        // SAFETY: the line lies within the tensor and the sides, `n` elements are left.
        let (_, _, heads) = unsafe { evaluate(s, network, scaled, p, tensor, base, i, n) };
        add_heads(s, heads, n, totals);
        i += n;
    }
}

/// Adds the first `n` lanes of the heads.
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
    g: &'a [f32],
    m: [&'a [f32]; 3],
    v: &'a [f32],
}

/// The gradient and the moments of some elements.
pub(super) struct Inputs<V> {
    g: V,
    m: [V; 3],
    v: V,
    /// (v + 1e-6)^{-1/2}
    r: V,
}

impl<'a> Moments<'a> {
    /// # Panics
    /// If the lengths are not `n`.
    #[inline(always)]
    pub fn new(n: usize, g: &'a [f32], momentum: &'a [f32], v: &'a [f32]) -> Self {
        assert!(g.len() == n && momentum.len() == 3 * n && v.len() == n);
        let (m0, rest) = momentum.split_at(n);
        let (m1, m2) = rest.split_at(n);
        Self {
            g,
            m: [m0, m1, m2],
            v,
        }
    }

    /// # Safety
    /// `at + n` is at most the tensor's length and `n` at most `LANES`.
    #[inline(always)]
    pub unsafe fn inputs<S: Simd>(&self, s: S, at: usize, n: usize) -> Inputs<S::V> {
        // SAFETY: the caller's promise; all slices have the tensor's length.
        unsafe {
            let v = part(s, self.v, at, n);
            Inputs {
                g: part(s, self.g, at, n),
                m: [
                    part(s, self.m[0], at, n),
                    part(s, self.m[1], at, n),
                    part(s, self.m[2], at, n),
                ],
                v,
                r: rsqrt(s, s.add(v, s.splat(1e-6))),
            }
        }
    }
}

/// What rows and columns give to the elements of one line.
struct Base<'a, const FIXED: bool> {
    no_x: &'a Side,
    no_y: &'a Side,
    line: Line,
    /// Bias, and what the whole line has in common.
    first: [f32; HIDDEN],
    factor: [f32; 3],
}

impl<'a, const FIXED: bool> Base<'a, FIXED> {
    #[inline(always)]
    fn new(scaled: &Scaled, no_x: &'a Side, no_y: &'a Side, line: Line) -> Self {
        let (mut first, mut factor) = (scaled.bias, [0.0; 3]);
        if FIXED {
            let mut j = 0;
            while j < HIDDEN {
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

    /// (factors of the three decays, the first layer without the elements' own features).
    ///
    /// # Safety
    /// `i + n` is at most the line's length and `n` at most `LANES`.
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, s: S, i: usize, n: usize) -> ([S::V; 3], [S::V; HIDDEN]) {
        let (no_x, no_y, line) = (self.no_x, self.no_y, self.line);
        let (mut factor, mut first) = ([s.splat(0.0); 3], [s.splat(0.0); HIDDEN]);
        let mut k = 0;
        while k < 3 {
            // SAFETY: a line's indices lie within the sides.
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
        while j < HIDDEN {
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

/// The heads; `first` is the first layer without the elements' own features, `factors`
/// what g and m are multiplied by in the factored features.
#[inline(always)]
pub(super) fn forward<S: Simd>(
    s: S,
    network: &Network,
    scaled: &Scaled,
    first: [S::V; HIDDEN],
    p: S::V,
    inputs: &Inputs<S::V>,
    factors: ([S::V; 3], [S::V; 3]),
) -> [S::V; HEADS] {
    let Inputs { g, m, v, r } = inputs;
    let weight = |k: usize, j: usize| s.splat(scaled.element[k][j]);
    let mut hidden = first;
    let mut j = 0;
    while j < HIDDEN {
        // Features with a common factor are summed before it: g·(w₀ + Σ_k w_{10+k}·f_k).
        let mut of_g = weight(0, j);
        let mut sum = s.mul_add(p, weight(1, j), hidden[j]);
        sum = s.mul_add(*v, weight(5, j), sum);
        sum = s.mul_add(*r, weight(9, j), sum);
        let mut k = 0;
        while k < 3 {
            of_g = s.mul_add(factors.0[k], weight(10 + k, j), of_g);
            // m_k·(w_{2+k} + w_{6+k}·r + w_{13+k}·f_k)
            let of_m = s.mul_add(*r, weight(6 + k, j), weight(2 + k, j));
            let of_m = s.mul_add(factors.1[k], weight(13 + k, j), of_m);
            sum = s.mul_add(m[k], of_m, sum);
            k += 1;
        }
        hidden[j] = s.mul_add(*g, of_g, sum);
        j += 1;
    }
    let second = layer(s, relu(s, hidden), &network.w1, &network.b1);
    layer(s, relu(s, second), &network.w2, &network.b2)
}

#[inline(always)]
fn relu<S: Simd>(s: S, mut x: [S::V; HIDDEN]) -> [S::V; HIDDEN] {
    let mut j = 0;
    while j < HIDDEN {
        x[j] = s.max(x[j], s.splat(0.0));
        j += 1;
    }
    x
}

#[inline(always)]
fn layer<S: Simd, const N: usize>(
    s: S,
    x: [S::V; HIDDEN],
    weights: &[[f32; N]; HIDDEN],
    bias: &[f32; N],
) -> [S::V; N] {
    let mut y = [s.splat(0.0); N];
    let mut j = 0;
    while j < N {
        y[j] = s.splat(bias[j]);
        let mut i = 0;
        while i < HIDDEN {
            y[j] = s.mul_add(x[i], s.splat(weights[i][j]), y[j]);
            i += 1;
        }
        j += 1;
    }
    y
}

impl Formula {
    /// p after the step.
    #[inline(always)]
    pub(super) fn apply<S: Simd>(
        &self,
        s: S,
        p: S::V,
        inputs: &Inputs<S::V>,
        heads: [S::V; HEADS],
    ) -> S::V {
        let Inputs { g, m, r, .. } = inputs;
        let mut nominal = s.mul(*g, s.splat(self.nominal[0]));
        let mut k = 0;
        while k < 3 {
            nominal = s.mul_add(m[k], s.splat(self.nominal[1 + k]), nominal);
            k += 1;
        }
        nominal = s.mul(nominal, preconditioner(s, *r, self.nominal_preconditioned));
        nominal = s.mul(nominal, self.nominal_exponent.exp(s, heads[2]));
        let pi = preconditioner(s, *r, self.blackbox_preconditioned);
        let direction = s.mul(heads[0], pi);
        let magnitude = self.blackbox_exponent.exp(s, heads[1]);
        let blackbox = s.mul(s.mul(direction, magnitude), s.splat(self.blackbox));
        s.mul_add(s.add(nominal, blackbox), s.splat(-self.learning_rate), p)
    }
}

/// r or 1.
#[inline(always)]
fn preconditioner<S: Simd>(s: S, r: S::V, on: bool) -> S::V {
    if on { r } else { s.splat(1.0) }
}

impl Exponent {
    /// e^(scale·m + shift)
    #[inline(always)]
    fn exp<S: Simd>(&self, s: S, m: S::V) -> S::V {
        exp(s, s.mul_add(m, s.splat(self.scale), s.splat(self.shift)))
    }
}
