//! Minibatches: gathers rows of a large table.

use crate::{isa::dispatch, simd::Simd};

/// Prefetch distance in bytes.
const AHEAD_BYTES: usize = 4096;
/// Size of a cache line.
#[cfg(target_arch = "x86_64")]
const LINE_BYTES: usize = 64;

/// Copies the given rows of `from` \[n, width\] to `to` \[rows, width\].
///
/// # Panics
/// Panics if `to` is not \[rows, width\] or a row is out of range.
pub fn gather(from: &[f32], width: usize, rows: &[u32], to: &mut [f32]) {
    each_row(from, width, rows, to, |from, to| to.copy_from_slice(from));
}

dispatch! {
    /// Like [`gather`], but converts bytes to f32 and divides them by 255.
    ///
    /// # Panics
    /// Panics if `to` is not \[rows, width\] or a row is out of range.
    pub fn gather_pixels = pixels_body(from: &[u8], width: usize, rows: &[u32], to: &mut [f32])
}

#[inline(always)]
fn pixels_body<S: Simd>(s: S, from: &[u8], width: usize, rows: &[u32], to: &mut [f32]) {
    each_row(from, width, rows, to, |from, to| {
        assert!(from.len() == to.len());
        let mut at = 0;
        while at + S::LANES <= from.len() {
            // SAFETY: both slices have the same length, and `LANES` elements are left.
            unsafe { s.store(to, at, s.load_pixels(from, at)) };
            at += S::LANES;
        }
        for (from, to) in from[at..].iter().zip(&mut to[at..]) {
            *to = f32::from(*from) / 255.0;
        }
    });
}

/// Calls `row` with each source and target row, and prefetches later rows.
#[inline(always)]
fn each_row<T>(
    from: &[T],
    width: usize,
    rows: &[u32],
    to: &mut [f32],
    row: impl Fn(&[T], &mut [f32]),
) {
    assert!(
        to.len() == rows.len() * width,
        "the target must be [rows, width]"
    );
    if width == 0 {
        return;
    }
    let of = |index: u32| &from[index as usize * width..][..width];
    let ahead = AHEAD_BYTES.div_ceil(width * size_of::<T>());
    for &index in &rows[..ahead.min(rows.len())] {
        prefetch(of(index));
    }
    for (i, (&index, to)) in rows.iter().zip(to.chunks_exact_mut(width)).enumerate() {
        if let Some(&next) = rows.get(i + ahead) {
            prefetch(of(next));
        }
        row(of(index), to);
    }
}

/// Prefetches memory that will be read soon.
#[inline(always)]
fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks(LINE_BYTES / size_of::<T>()) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch cannot fault, and every x86-64 processor has SSE.
        unsafe { _mm_prefetch(line.as_ptr().cast(), _MM_HINT_T0) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn pixels_are_divided_with_correct_rounding() {
        let all: Vec<u8> = (0..=255).collect();
        for isa in Isa::all() {
            let mut to = vec![0.0; 256];
            gather_pixels(isa, &all, 256, &[0], &mut to);
            for (pixel, to) in all.iter().zip(to) {
                assert_eq!(to, f32::from(*pixel) / 255.0, "{isa} {pixel}");
            }
        }
    }

    #[test]
    fn rows_are_gathered_in_order() {
        for width in [1, 5, 17, 300] {
            let bytes: Vec<u8> = (0..9 * width).map(|i| (i * 7 % 256) as u8).collect();
            let floats: Vec<f32> = bytes.iter().map(|&x| f32::from(x) / 255.0).collect();
            let rows = [8, 0, 3, 3, 7, 1];
            let expected: Vec<f32> = rows
                .iter()
                .flat_map(|&row| floats[row as usize * width..][..width].to_vec())
                .collect();
            let mut to = vec![0.0; rows.len() * width];
            gather(&floats, width, &rows, &mut to);
            assert_eq!(to, expected);
            for isa in Isa::all() {
                to.fill(0.0);
                gather_pixels(isa, &bytes, width, &rows, &mut to);
                assert_eq!(to, expected, "{isa}");
            }
        }
    }
}
