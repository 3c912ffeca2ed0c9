//! Products of small matrices without packing: vectors are loaded from the rows of the right
//! factor, which is row-major, and elements of the left factor are broadcast.

use crate::{
    isa::dispatch,
    simd::{Simd, Two},
};

/// Number of rows of the result that are computed together. With two vectors per row, the sums
/// occupy half of the registers of AVX-512 and three quarters of those of AVX2.
const ROWS_512: usize = 8;
const ROWS: usize = 6;

/// A view of a slice as a matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    /// Strides to the next row and to the next column.
    row_step: usize,
    column_step: usize,
}

impl<'a> Matrix<'a> {
    /// Views row-major values.
    ///
    /// # Panics
    /// Panics if there are fewer values than elements.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert!(
            values.len() >= rows * columns,
            "too few values for the matrix"
        );
        Self {
            values,
            rows,
            columns,
            row_step: columns,
            column_step: 1,
        }
    }

    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_step: self.column_step,
            column_step: self.row_step,
            ..self
        }
    }
}

dispatch! {
    /// c = a·b, or c = 1·biasᵀ + a·b; b and c are row-major.
    ///
    /// # Panics
    /// Panics if the shapes do not match.
    pub(super) fn matmul = body(a: &Matrix, b: &[f32], bias: Option<&[f32]>, c: &mut [f32])
}

#[inline(always)]
fn body<S: Simd>(s: S, a: &Matrix, b: &[f32], bias: Option<&[f32]>, c: &mut [f32]) {
    if a.rows == 0 || a.columns == 0 {
        assert!(a.rows == 0, "the inner dimension is 0");
        return;
    }
    let columns = b.len() / a.columns;
    assert!(b.len() == a.columns * columns && c.len() == a.rows * columns);
    assert!(bias.is_none_or(|bias| bias.len() == columns));
    let mut j = 0;
    while j + 2 * S::LANES <= columns {
        column_block(Two(s), a, b, bias, c, columns, j, 2 * S::LANES);
        j += 2 * S::LANES;
    }
    while j < columns {
        let n = S::LANES.min(columns - j);
        column_block(s, a, b, bias, c, columns, j, n);
        j += n;
    }
}

/// Computes columns `j` to `j + n` of c.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn column_block<S: Simd>(
    s: S,
    a: &Matrix,
    b: &[f32],
    bias: Option<&[f32]>,
    c: &mut [f32],
    columns: usize,
    j: usize,
    n: usize,
) {
    let mut i = 0;
    if S::REGISTERS == 32 {
        while i + ROWS_512 <= a.rows {
            rows::<S, ROWS_512>(s, a, b, bias, c, columns, i, j, n);
            i += ROWS_512;
        }
    }
    while i + ROWS <= a.rows {
        rows::<S, ROWS>(s, a, b, bias, c, columns, i, j, n);
        i += ROWS;
    }
    while i < a.rows {
        rows::<S, 1>(s, a, b, bias, c, columns, i, j, n);
        i += 1;
    }
}

/// Computes rows `i` to `i + R` and columns `j` to `j + n` of c.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn rows<S: Simd, const R: usize>(
    s: S,
    a: &Matrix,
    b: &[f32],
    bias: Option<&[f32]>,
    c: &mut [f32],
    columns: usize,
    i: usize,
    j: usize,
    n: usize,
) {
    let whole = n == S::LANES;
    let start = match bias {
        // SAFETY: the bias is as long as b has columns, with `n` elements from `j`.
        Some(bias) => unsafe { s.load_part(bias, j, n) },
        None => s.splat(0.0),
    };
    let mut sums = [start; R];
    if whole {
        let mut k = 0;
        while k < a.columns {
            // SAFETY: row k of b has `LANES` elements from column j, and a has rows i to i + R:
            // `Matrix::new` and `body` check the sizes.
            unsafe {
                let row = s.load(b, k * columns + j);
                multiply(s, a, i, k, row, &mut sums);
            }
            k += 1;
        }
    } else {
        let mut k = 0;
        while k < a.columns {
            // SAFETY: as above, with `n` elements.
            unsafe {
                let row = s.load_part(b, k * columns + j, n);
                multiply(s, a, i, k, row, &mut sums);
            }
            k += 1;
        }
    }
    let mut r = 0;
    while r < R {
        // SAFETY: c has rows i to i + R and `n` columns from j.
        unsafe { s.store_part(c, (i + r) * columns + j, n, sums[r]) };
        r += 1;
    }
}

/// sums\[r\] += a\[i + r, k\]·row for r = 0 … R − 1.
///
/// # Safety
/// `a` must have rows `i` to `i + R` and a column `k`.
#[inline(always)]
unsafe fn multiply<S: Simd, const R: usize>(
    s: S,
    a: &Matrix,
    i: usize,
    k: usize,
    row: S::V,
    sums: &mut [S::V; R],
) {
    let mut r = 0;
    while r < R {
        let at = (i + r) * a.row_step + k * a.column_step;
        // SAFETY: the caller guarantees the indices, and a matrix has a value for each element.
        let x = unsafe { s.load_splat(a.values, at) };
        sums[r] = s.mul_add(x, row, sums[r]);
        r += 1;
    }
}

/// Writes the transpose of `from` \[rows, columns\] to `to` \[columns, rows\].
pub(super) fn transpose(from: &[f32], columns: usize, to: &mut [f32]) {
    const BLOCK: usize = 16;
    let rows = from.len() / columns;
    assert!(from.len() == rows * columns && to.len() == from.len());
    for row in (0..rows).step_by(BLOCK) {
        for column in (0..columns).step_by(BLOCK) {
            for i in row..(row + BLOCK).min(rows) {
                for j in column..(column + BLOCK).min(columns) {
                    to[j * rows + i] = from[i * columns + j];
                }
            }
        }
    }
}

dispatch! {
    /// Writes the sum of the rows of a row-major matrix \[rows, columns\] to `sums` \[columns\].
    pub(super) fn column_sums = column_sums_body(values: &[f32], sums: &mut [f32])
}

#[inline(always)]
fn column_sums_body<S: Simd>(s: S, values: &[f32], sums: &mut [f32]) {
    let columns = sums.len();
    let rows = values.len() / columns;
    let mut j = 0;
    while j < columns {
        let n = S::LANES.min(columns - j);
        let mut sum = s.splat(0.0);
        let mut i = 0;
        while i < rows {
            // SAFETY: the matrix has a row i, with `n` elements from column j.
            sum = s.add(sum, unsafe { s.load_part(values, i * columns + j, n) });
            i += 1;
        }
        // SAFETY: `n` elements are left.
        unsafe { s.store_part(sums, j, n, sum) };
        j += n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    fn values(n: usize, seed: usize) -> Vec<f32> {
        (0..n)
            .map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0)
            .collect()
    }

    #[test]
    fn products_match_f64_for_many_sizes() {
        for (rows, inner, columns) in [
            (1, 1, 1),
            (7, 3, 5),
            (6, 4, 16),
            (13, 9, 37),
            (8, 50, 10),
            (19, 5, 64),
            (3, 20, 100),
        ] {
            let (a, b) = (values(rows * inner, 1), values(inner * columns, 2));
            let bias = values(columns, 3);
            let mut at = vec![0.0; a.len()];
            transpose(&a, inner, &mut at);
            let expected = |i: usize, j: usize| -> f64 {
                let product =
                    |k: usize| f64::from(a[i * inner + k]) * f64::from(b[k * columns + j]);
                (0..inner).map(product).sum()
            };
            for isa in Isa::all() {
                let plain = Matrix::new(&a, rows, inner);
                let turned = Matrix::new(&at, inner, rows).transposed();
                for (a, bias) in [(plain, None), (turned, None), (plain, Some(&bias[..]))] {
                    let mut c = vec![f32::NAN; rows * columns];
                    matmul(isa, &a, &b, bias, &mut c);
                    for (index, c) in c.iter().enumerate() {
                        let (i, j) = (index / columns, index % columns);
                        let expected = expected(i, j) + bias.map_or(0.0, |b| f64::from(b[j]));
                        let error = (f64::from(*c) - expected).abs();
                        assert!(error < 1e-5, "{isa} {rows}×{inner}×{columns}: {error}");
                    }
                }
                let mut sums = vec![f32::NAN; columns];
                column_sums(isa, &b, &mut sums);
                for (j, sum) in sums.iter().enumerate() {
                    let expected: f32 = (0..inner).map(|k| b[k * columns + j]).sum();
                    assert!((sum - expected).abs() < 1e-5);
                }
            }
        }
    }
}
