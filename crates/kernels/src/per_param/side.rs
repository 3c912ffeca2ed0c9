//! The factored second moments of rows and columns. r(x) = 1/√max(x, 1e-9).

use crate::{
    Gradient, Isa,
    isa::dispatch,
    math::rsqrt,
    simd::{Simd, part, put},
};

use super::{
    features::{epsilon, safe_rsqrt},
    lines::Lines,
    scaled::Squares,
};

/// The intermediate values for the rows, or for the columns, of one tensor.
#[derive(Clone, Debug, Default)]
pub(super) struct Side {
    /// The number of rows or columns.
    pub len: usize,
    /// Sums of g², \[len\].
    pub sums: Vec<f32>,
    /// Partial sums, \[len\].
    pub partial: Vec<f32>,
    /// r(v_row/(mean v_row + 1e-9)) or r(v_col) for each decay, \[3, len\].
    pub factor: Vec<f32>,
    /// The contributions to the first layer, \[H, len\].
    pub fold: Vec<f32>,
    /// Sums of squares of the three moments and of their inverse roots.
    pub squares: [f64; 6],
}

impl Side {
    pub fn squares(&self) -> Squares<'_> {
        Squares {
            sums: &self.squares,
            len: self.len,
        }
    }

    /// Resizes the buffers and clears the sums. Allocates only to grow.
    pub fn reset(&mut self, len: usize) {
        self.len = len;
        let zero = |vector: &mut Vec<f32>, len: usize| {
            vector.clear();
            vector.resize(len, 0.0);
        };
        zero(&mut self.sums, len);
        zero(&mut self.partial, len);
    }

    /// Adds the sums of a part.
    pub fn add(&mut self, part: &Side) {
        for (sum, part) in self.sums.iter_mut().zip(&part.sums) {
            *sum += part;
        }
    }

    /// Updates `moments` \[3, len\] with the sums of g² and computes the factors of the rows.
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

    /// Updates `moments` \[3, len\] with the sums of g² and computes the factors of the columns.
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
        assert!(
            moments.len() == 3 * self.len,
            "the moments have another shape"
        );
        self.factor.resize(3 * self.len, 0.0);
        for (k, decay) in decays.iter().enumerate() {
            let moments = &mut moments[k * self.len..(k + 1) * self.len];
            let squares = average(isa, *decay, 1.0 / count as f32, &self.sums, moments);
            (self.squares[k], self.squares[3 + k]) = squares;
        }
    }

    /// Writes to [`Side::partial`], for each row moment, the mean over the second largest
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

    /// Writes Σ weight · feature over the moments and their inverse roots to [`Side::fold`].
    pub fn fold<const H: usize>(&mut self, isa: Isa, moments: &[f32], weights: &[[f32; H]; 6]) {
        self.fold.resize(H * self.len, 0.0);
        fold(isa, moments, weights, &mut self.fold);
    }
}

/// Returns (rows, columns) in the order (without x, without y).
#[inline(always)]
pub(super) fn sides<'a>(lines: &Lines, rows: &'a Side, columns: &'a Side) -> (&'a Side, &'a Side) {
    match lines.x_is_largest {
        true => (rows, columns),
        false => (columns, rows),
    }
}

/// First pass: writes the sums of g² over each row and column to [`Side::sums`].
pub(super) fn sum_squares(
    isa: Isa,
    lines: &Lines,
    g: Gradient,
    rows: &mut Side,
    columns: &mut Side,
) {
    let (no_x, no_y) = match lines.x_is_largest {
        true => (rows, columns),
        false => (columns, rows),
    };
    no_x.reset(lines.without_x());
    no_y.reset(lines.without_y());
    let (sums, partial) = (&mut no_x.sums, &mut no_x.partial);
    square_sums(isa, lines, g, sums, partial, &mut no_y.sums);
}

/// The number of lines after which partial sums are added to the totals, which limits the terms of
/// each f32 sum.
const LINES_PER_PART: usize = 128;

dispatch! {
    fn square_sums = square_sums_body(
        lines: &Lines, g: Gradient, no_x: &mut [f32], partial: &mut [f32], no_y: &mut [f32],
    )
}

#[inline(always)]
fn square_sums_body<S: Simd>(
    s: S,
    lines: &Lines,
    g: Gradient,
    no_x: &mut [f32],
    partial: &mut [f32],
    no_y: &mut [f32],
) {
    assert!(g.len() == lines.elements());
    assert!(no_x.len() == lines.without_x() && partial.len() == no_x.len());
    assert!(no_y.len() == lines.without_y());
    let fixed = lines.no_y_is_fixed();
    let mut count = 0;
    for line in lines.iter() {
        let mut total = 0f64;
        let mut sum = s.splat(0.0);
        let mut i = 0;
        while i < line.len {
            let n = S::LANES.min(line.len - i);
            // SAFETY: the line lies within `g` and its indices within the sides, whose lengths were
            // checked; `n` of its elements remain.
            unsafe {
                let x = g.part(s, line.at + i, n);
                let x2 = s.mul(x, x);
                let old = part(s, partial, line.no_x + i, n);
                put(s, partial, line.no_x + i, n, s.add(old, x2));
                if fixed {
                    sum = s.add(sum, x2);
                } else {
                    let old = part(s, no_y, line.no_y + i, n);
                    put(s, no_y, line.no_y + i, n, s.add(old, x2));
                }
            }
            i += n;
            if i & 4095 == 0 {
                total += f64::from(s.sum(sum));
                sum = s.splat(0.0);
            }
        }
        if fixed {
            no_y[line.no_y] = (total + f64::from(s.sum(sum))) as f32;
        }
        count += 1;
        if count % LINES_PER_PART == 0 {
            flush(s, no_x, partial);
        }
    }
    flush(s, no_x, partial);
}

/// total ← total + partial, partial ← 0.
#[inline(always)]
fn flush<S: Simd>(s: S, total: &mut [f32], partial: &mut [f32]) {
    let mut i = 0;
    while i < total.len() {
        let n = S::LANES.min(total.len() - i);
        // SAFETY: both have the same length, and `n` elements remain.
        unsafe {
            let sum = s.add(part(s, total, i, n), part(s, partial, i, n));
            put(s, total, i, n, sum);
            put(s, partial, i, n, s.splat(0.0));
        }
        i += n;
    }
}

dispatch! {
    /// Updates v ← b·v + (1 − b)·(sum·per + 1e-30); returns Σ v² and Σ 1/(v + 1e-8).
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
        // SAFETY: both have the same length, and `n` elements remain.
        unsafe {
            let mean = s.mul_add(
                part(s, sums, i, n),
                s.splat(per),
                s.splat(epsilon::SQUARE as f32),
            );
            let fresh = s.mul(s.splat(1.0 - decay), mean);
            let v = s.keep(s.mul_add(s.splat(decay), part(s, moments, i, n), fresh), n);
            put(s, moments, i, n, v);
            squares_part = s.mul_add(v, v, squares_part);
            let inverse = s.div(s.splat(1.0), s.add(v, s.splat(epsilon::LINE as f32)));
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

/// (moment + 1e-8)^{-1/2}
#[inline(always)]
pub(super) fn inverse_root_of_line<S: Simd>(s: S, moment: S::V) -> S::V {
    rsqrt(s, s.add(moment, s.splat(epsilon::LINE as f32)))
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
        // SAFETY: all have the same length, and `n` elements remain.
        unsafe {
            let mean = s.add(part(s, means, i, n), s.splat(epsilon::MEAN as f32));
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
        // SAFETY: both have the same length, and `n` elements remain.
        unsafe {
            let factor = safe_rsqrt(s, part(s, moments, i, n));
            put(s, factors, i, n, factor);
        }
        i += n;
    }
}

dispatch! {
    fn fold<const H: usize> = fold_body(moments: &[f32], weights: &[[f32; H]; 6], folded: &mut [f32])
}

#[inline(always)]
fn fold_body<S: Simd, const H: usize>(
    s: S,
    moments: &[f32],
    weights: &[[f32; H]; 6],
    folded: &mut [f32],
) {
    let len = moments.len() / 3;
    assert!(moments.len() == 3 * len && folded.len() == H * len);
    let mut i = 0;
    while i < len {
        let n = S::LANES.min(len - i);
        let mut sums = [s.splat(0.0); H];
        let mut k = 0;
        while k < 3 {
            // SAFETY: there are 3·`len` moments, and `n` of each `len` remain.
            let v = unsafe { part(s, moments, k * len + i, n) };
            let inverse_root = inverse_root_of_line(s, v);
            let mut j = 0;
            while j < H {
                sums[j] = s.mul_add(v, s.splat(weights[k][j]), sums[j]);
                sums[j] = s.mul_add(inverse_root, s.splat(weights[3 + k][j]), sums[j]);
                j += 1;
            }
            k += 1;
        }
        let mut j = 0;
        while j < H {
            // SAFETY: there are H·`len` numbers, and `n` of each `len` remain.
            unsafe { put(s, folded, j * len + i, n, sums[j]) };
            j += 1;
        }
        i += n;
    }
}
