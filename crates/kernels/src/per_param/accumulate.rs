//! Second pass: updates the accumulators with the gradient and sums the features' squares.

use crate::{
    Gradient,
    isa::dispatch,
    simd::{FLUSH, Simd, part, put},
};

use super::{
    features::{ELEMENT, add_squares, inverse},
    lines::{Line, Lines},
    side::{Side, sides},
    theta::Weights,
};

dispatch! {
    /// Updates momenta and second moment, and returns the sums of squares of the 16 element
    /// features.
    pub(super) fn accumulate<const H: usize> = body(
        weights: &Weights<H>, lines: &Lines, p: &[f32], g: Gradient,
        momentum: [&mut [f32]; 3], rms: &mut [f32], rows: &Side, columns: &Side,
    ) -> [f64; ELEMENT]
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn body<S: Simd, const H: usize>(
    s: S,
    weights: &Weights<H>,
    lines: &Lines,
    p: &[f32],
    g: Gradient,
    momentum: [&mut [f32]; 3],
    rms: &mut [f32],
    rows: &Side,
    columns: &Side,
) -> [f64; ELEMENT] {
    assert!(p.len() == lines.elements());
    let (no_x, no_y) = sides(lines, rows, columns);
    let mut pass = Accumulate {
        s,
        means: Means::new(s, weights),
        tensor: Tensor::new(p, g, momentum, rms),
        no_x,
        no_y,
        sums: [s.splat(0.0); ELEMENT],
    };
    let mut totals = [0f64; ELEMENT];
    let mut since = 0;
    for line in lines.iter() {
        if lines.no_y_is_fixed() {
            pass.line::<true>(line, &mut totals);
        } else {
            pass.line::<false>(line, &mut totals);
        }
        since += line.len;
        if since >= FLUSH {
            flush(s, &mut pass.sums, &mut totals);
            since = 0;
        }
    }
    flush(s, &mut pass.sums, &mut totals);
    totals
}

/// totals += sums; sums = 0.
#[inline(always)]
pub(super) fn flush<S: Simd, const N: usize>(s: S, sums: &mut [S::V; N], totals: &mut [f64; N]) {
    let mut k = 0;
    while k < N {
        totals[k] += f64::from(s.sum(sums[k]));
        sums[k] = s.splat(0.0);
        k += 1;
    }
}

/// The slices of one tensor of n elements.
pub(super) struct Tensor<'a> {
    pub p: &'a [f32],
    pub g: Gradient<'a>,
    pub m: [&'a mut [f32]; 3],
    pub v: &'a mut [f32],
}

impl<'a> Tensor<'a> {
    /// # Panics
    /// Panics if the lengths differ.
    #[inline(always)]
    pub fn new(p: &'a [f32], g: Gradient<'a>, m: [&'a mut [f32]; 3], v: &'a mut [f32]) -> Self {
        let n = p.len();
        assert!(g.len() == n && v.len() == n);
        assert!(m[0].len() == n && m[1].len() == n && m[2].len() == n);
        Self { p, g, m, v }
    }
}

/// The moving averages' decays, as vectors of (b, 1 − b).
pub(super) struct Means<V> {
    momentum: [(V, V); 3],
    rms: (V, V),
}

impl<V: Copy> Means<V> {
    #[inline(always)]
    pub fn new<S: Simd<V = V>, const H: usize>(s: S, weights: &Weights<H>) -> Self {
        let m = weights.momentum_decays;
        Self {
            momentum: [both(s, m[0]), both(s, m[1]), both(s, m[2])],
            rms: both(s, weights.rms_decay),
        }
    }

    /// Updates the averages of `n` elements with the gradient `g`; returns (m, v).
    ///
    /// # Safety
    /// `at + n` is at most the tensor's length and `n` at most `LANES`.
    #[inline(always)]
    pub unsafe fn take<S: Simd<V = V>>(
        &self,
        s: S,
        tensor: &mut Tensor,
        at: usize,
        n: usize,
        g: V,
    ) -> ([V; 3], V) {
        let mut m = [g; 3];
        let mut k = 0;
        while k < 3 {
            // SAFETY: guaranteed by the caller; all slices have the tensor's length.
            unsafe {
                m[k] = mean(s, self.momentum[k], part(s, tensor.m[k], at, n), g);
                put(s, tensor.m[k], at, n, m[k]);
            }
            k += 1;
        }
        // SAFETY: as above.
        let v = unsafe {
            let v = mean(s, self.rms, part(s, tensor.v, at, n), s.mul(g, g));
            put(s, tensor.v, at, n, v);
            v
        };
        (m, v)
    }
}

#[inline(always)]
fn both<S: Simd>(s: S, decay: f32) -> (S::V, S::V) {
    (s.splat(decay), s.splat(1.0 - decay))
}

/// b·old + (1 − b)·new
#[inline(always)]
pub(super) fn mean<S: Simd>(s: S, decay: (S::V, S::V), old: S::V, new: S::V) -> S::V {
    s.mul_add(decay.0, old, s.mul(decay.1, new))
}

struct Accumulate<'a, S: Simd> {
    s: S,
    means: Means<S::V>,
    tensor: Tensor<'a>,
    no_x: &'a Side,
    no_y: &'a Side,
    sums: [S::V; ELEMENT],
}

impl<S: Simd> Accumulate<'_, S> {
    #[inline(always)]
    fn line<const FIXED: bool>(&mut self, line: Line, totals: &mut [f64; ELEMENT]) {
        let s = self.s;
        let (x_len, y_len) = (self.no_x.len, self.no_y.len);
        let mut factor_y = [s.splat(0.0); 3];
        if FIXED {
            let mut k = 0;
            while k < 3 {
                factor_y[k] = s.splat(self.no_y.factor[k * y_len + line.no_y]);
                k += 1;
            }
        }
        let mut i = 0;
        while i < line.len {
            let n = S::LANES.min(line.len - i);
            let mut factor = factor_y;
            let mut k = 0;
            while k < 3 {
                // SAFETY: the line's indices lie within the sides, and `n` of them remain.
                unsafe {
                    let x = part(s, &self.no_x.factor, k * x_len + line.no_x + i, n);
                    if !FIXED {
                        factor[k] = part(s, &self.no_y.factor, k * y_len + line.no_y + i, n);
                    }
                    factor[k] = s.mul(factor[k], x);
                }
                k += 1;
            }
            // SAFETY: the line lies within the tensor, and `n` of its elements remain.
            unsafe { self.elements(line.at + i, n, factor) };
            i += n;
            if i & (FLUSH - 1) == 0 {
                flush(s, &mut self.sums, totals);
            }
        }
    }

    /// # Safety
    /// `at + n` is at most the tensor's length and `n` at most `LANES`.
    #[inline(always)]
    unsafe fn elements(&mut self, at: usize, n: usize, factor: [S::V; 3]) {
        let s = self.s;
        // SAFETY: guaranteed by the caller.
        let (g, p, (m, v)) = unsafe {
            let g = self.tensor.g.part(s, at, n);
            let p = part(s, self.tensor.p, at, n);
            (g, p, self.means.take(s, &mut self.tensor, at, n, g))
        };
        let mut inverse = inverse(s, v);
        if n < S::LANES {
            inverse = s.keep(inverse, n);
        }
        add_squares(s, &mut self.sums, g, p, m, v, inverse, factor, factor);
    }
}
