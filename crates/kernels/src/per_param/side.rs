//! The factored second moments of rows and columns.

use crate::{
    Isa,
    isa::dispatch,
    math::rsqrt,
    simd::{Simd, part, put},
};

use super::{lines::Lines, network::HIDDEN};

/// Keeps a factored second moment of zero gradients above zero.
const EPSILON: f32 = 1e-30;

/// What is computed of the rows, or of the columns, of one tensor.
#[derive(Clone, Debug, Default)]
pub(super) struct Side {
    /// How many there are.
    pub len: usize,
    /// Sums of g², \[len\].
    pub sums: Vec<f32>,
    /// Sums on their way, \[len\].
    pub partial: Vec<f32>,
    /// r(v_row/(mean v_row + 1e-9)) or r(v_col) of each decay, \[3, len\].
    pub factor: Vec<f32>,
    /// Their part of the first layer, \[4, len\].
    pub fold: Vec<f32>,
    /// Sums of squares of the three moments and of their inverse roots.
    pub squares: [f64; 6],
}

impl Side {
    /// Makes room, with sums of zero; allocates only to grow.
    pub fn reset(&mut self, len: usize) {
        self.len = len;
        let zero = |vector: &mut Vec<f32>, len: usize| {
            vector.clear();
            vector.resize(len, 0.0);
        };
        zero(&mut self.sums, len);
        zero(&mut self.partial, len);
        self.factor.resize(3 * len, 0.0);
        self.fold.resize(HIDDEN * len, 0.0);
    }

    /// Takes the sums of g² into `moments` \[3, len\], and makes the rows' factors.
    pub fn update_rows(&mut self, isa: Isa, decays: &[f32; 3], moments: &mut [f32], lines: &Lines) {
        self.average(isa, decays, moments, lines.per_row());
        let len = self.len;
        for k in 0..3 {
            let moments = &moments[k * len..(k + 1) * len];
            self.mean_over_second_largest(moments, lines.row_dims());
            let factor = &mut self.factor[k * len..(k + 1) * len];
            row_factors(isa, moments, &self.partial, factor);
        }
    }

    /// Takes the sums of g² into `moments` \[3, len\], and makes the columns' factors.
    pub fn update_columns(
        &mut self,
        isa: Isa,
        decays: &[f32; 3],
        moments: &mut [f32],
        lines: &Lines,
    ) {
        self.average(isa, decays, moments, lines.per_column());
        column_factors(isa, moments, &mut self.factor);
    }

    fn average(&mut self, isa: Isa, decays: &[f32; 3], moments: &mut [f32], count: usize) {
        assert!(moments.len() == 3 * self.len, "moments of another shape");
        for (k, decay) in decays.iter().enumerate() {
            let moments = &mut moments[k * self.len..(k + 1) * self.len];
            let squares = average(isa, *decay, 1.0 / count as f32, &self.sums, moments);
            (self.squares[k], self.squares[3 + k]) = squares;
        }
    }

    /// Into [`Side::partial`]: for each row moment, the mean over the second largest
    /// dimension.
    fn mean_over_second_largest(&mut self, moments: &[f32], [outer, count, inner]: [usize; 3]) {
        for o in 0..outer {
            for i in 0..inner {
                let at = |d: usize| (o * count + d) * inner + i;
                let sum: f64 = (0..count).map(|d| f64::from(moments[at(d)])).sum();
                let mean = (sum / count as f64) as f32;
                (0..count).for_each(|d| self.partial[at(d)] = mean);
            }
        }
    }

    /// Σ over the moments and their inverse roots of weight · feature, into [`Side::fold`].
    pub fn fold(&mut self, isa: Isa, moments: &[f32], weights: &[[f32; HIDDEN]; 6]) {
        fold(isa, moments, weights, &mut self.fold);
    }
}

dispatch! {
    /// v ← b·v + (1 − b)·(sum·per + 1e-30); returns Σ v² and Σ 1/(v + 1e-8).
    fn average = average_body(decay: f32, per: f32, sums: &[f32], moments: &mut [f32]) -> (f64, f64)
}

#[inline(always)]
fn average_body<S: Simd>(
    s: S,
    decay: f32,
    per: f32,
    sums: &[f32],
    moments: &mut [f32],
) -> (f64, f64) {
    assert!(sums.len() == moments.len());
    let (mut squares, mut inverses) = (0f64, 0f64);
    let (mut squares_part, mut inverses_part) = (s.splat(0.0), s.splat(0.0));
    let mut i = 0;
    while i < sums.len() {
        let n = S::LANES.min(sums.len() - i);
        // SAFETY: both have the same length, and `n` numbers are left.
        unsafe {
            let mean = s.mul_add(part(s, sums, i, n), s.splat(per), s.splat(EPSILON));
            let fresh = s.mul(s.splat(1.0 - decay), mean);
            let v = s.keep(s.mul_add(s.splat(decay), part(s, moments, i, n), fresh), n);
            put(s, moments, i, n, v);
            squares_part = s.mul_add(v, v, squares_part);
            let inverse = s.div(s.splat(1.0), s.add(v, s.splat(1e-8)));
            inverses_part = s.add(inverses_part, s.keep(inverse, n));
        }
        i += n;
        if i & 4095 == 0 {
            squares += f64::from(s.sum(squares_part));
            inverses += f64::from(s.sum(inverses_part));
            (squares_part, inverses_part) = (s.splat(0.0), s.splat(0.0));
        }
    }
    (
        squares + f64::from(s.sum(squares_part)),
        inverses + f64::from(s.sum(inverses_part)),
    )
}

/// 1/√max(x, 1e-9)
#[inline(always)]
pub(super) fn safe_rsqrt<S: Simd>(s: S, x: S::V) -> S::V {
    rsqrt(s, s.max(x, s.splat(1e-9)))
}

dispatch! {
    /// r(moment/(mean + 1e-9))
    fn row_factors = row_factors_body(moments: &[f32], means: &[f32], factors: &mut [f32])
}

#[inline(always)]
fn row_factors_body<S: Simd>(s: S, moments: &[f32], means: &[f32], factors: &mut [f32]) {
    assert!(moments.len() == means.len() && means.len() == factors.len());
    let mut i = 0;
    while i < moments.len() {
        let n = S::LANES.min(moments.len() - i);
        // SAFETY: all have the same length, and `n` numbers are left.
        unsafe {
            let mean = s.add(part(s, means, i, n), s.splat(1e-9));
            let ratio = s.div(part(s, moments, i, n), mean);
            put(s, factors, i, n, safe_rsqrt(s, ratio));
        }
        i += n;
    }
}

dispatch! {
    /// r(moment)
    fn column_factors = column_factors_body(moments: &[f32], factors: &mut [f32])
}

#[inline(always)]
fn column_factors_body<S: Simd>(s: S, moments: &[f32], factors: &mut [f32]) {
    assert!(moments.len() == factors.len());
    let mut i = 0;
    while i < moments.len() {
        let n = S::LANES.min(moments.len() - i);
        // SAFETY: both have the same length, and `n` numbers are left.
        unsafe {
            let factor = safe_rsqrt(s, part(s, moments, i, n));
            put(s, factors, i, n, factor);
        }
        i += n;
    }
}

dispatch! {
    fn fold = fold_body(moments: &[f32], weights: &[[f32; HIDDEN]; 6], folded: &mut [f32])
}

#[inline(always)]
fn fold_body<S: Simd>(s: S, moments: &[f32], weights: &[[f32; HIDDEN]; 6], folded: &mut [f32]) {
    let len = moments.len() / 3;
    assert!(moments.len() == 3 * len && folded.len() == HIDDEN * len);
    let mut i = 0;
    while i < len {
        let n = S::LANES.min(len - i);
        let mut sums = [s.splat(0.0); HIDDEN];
        let mut k = 0;
        while k < 3 {
            // SAFETY: three times `len` numbers, of each of which `n` are left.
            let v = unsafe { part(s, moments, k * len + i, n) };
            let inverse_root = rsqrt(s, s.add(v, s.splat(1e-8)));
            let mut j = 0;
            while j < HIDDEN {
                sums[j] = s.mul_add(v, s.splat(weights[k][j]), sums[j]);
                sums[j] = s.mul_add(inverse_root, s.splat(weights[3 + k][j]), sums[j]);
                j += 1;
            }
            k += 1;
        }
        let mut j = 0;
        while j < HIDDEN {
            // SAFETY: four times `len` numbers, of each of which `n` are left.
            unsafe { put(s, folded, j * len + i, n, sums[j]) };
            j += 1;
        }
        i += n;
    }
}
