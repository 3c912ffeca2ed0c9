use std::arch::x86_64::*;

use super::{Simd, pixel_over_255};

/// Eight lanes in an AVX2 register, with FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The processor must support AVX2 and FMA.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

const LANES: usize = 8;

/// A mask with all bits set in the lanes below `n`.
#[inline(always)]
fn mask(n: usize) -> __m256i {
    const ONES_THEN_ZEROS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let n = n.min(LANES);
    // SAFETY: 8 − n + 8 ≤ 16 elements; a token exists only if the processor supports AVX2.
    unsafe { _mm256_loadu_si256(ONES_THEN_ZEROS.as_ptr().add(LANES - n).cast()) }
}

impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = LANES;
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: `self` proves that the processor supports AVX2 and FMA, here and below.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load_splat(self, from: &[f32], at: usize) -> __m256 {
        debug_assert!(at < from.len());
        // SAFETY: the caller guarantees `at < from.len()`.
        self.splat(unsafe { *from.get_unchecked(at) })
    }

    #[inline(always)]
    unsafe fn load(self, from: &[f32], at: usize) -> __m256 {
        debug_assert!(at + LANES <= from.len());
        // SAFETY: the caller guarantees that the slice has `LANES` elements from `at`.
        unsafe { _mm256_loadu_ps(from.as_ptr().add(at)) }
    }

    #[inline(always)]
    unsafe fn load_pixels(self, from: &[u8], at: usize) -> __m256 {
        debug_assert!(at + LANES <= from.len());
        // SAFETY: the caller guarantees `LANES` bytes from `at`, which is what is read.
        let pixels = unsafe {
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(
                from.as_ptr().add(at).cast(),
            )))
        };
        pixel_over_255(self, pixels)
    }

    #[inline(always)]
    unsafe fn load_part(self, from: &[f32], at: usize, n: usize) -> __m256 {
        debug_assert!(n <= LANES && at + n <= from.len());
        // SAFETY: masked lanes are not read; the caller guarantees the others.
        unsafe { _mm256_maskload_ps(from.as_ptr().add(at), mask(n)) }
    }

    #[inline(always)]
    unsafe fn store(self, to: &mut [f32], at: usize, v: __m256) {
        debug_assert!(at + LANES <= to.len());
        // SAFETY: the caller guarantees that the slice has `LANES` elements from `at`.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr().add(at), v) }
    }

    #[inline(always)]
    unsafe fn store_part(self, to: &mut [f32], at: usize, n: usize, v: __m256) {
        debug_assert!(n <= LANES && at + n <= to.len());
        // SAFETY: masked lanes are not written; the caller guarantees the others.
        unsafe { _mm256_maskstore_ps(to.as_mut_ptr().add(at), mask(n), v) }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see `splat`.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see `splat`.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see `splat`.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see `splat`.
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: see `splat`.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see `splat`.
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: see `splat`.
        unsafe { _mm256_min_ps(a, b) }
    }

    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        // SAFETY: see `splat`.
        unsafe { _mm256_sqrt_ps(a) }
    }

    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        // SAFETY: see `splat`.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }

    #[inline(always)]
    fn times_pow2(self, a: __m256, n: __m256) -> __m256 {
        // SAFETY: see `splat`.
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        }
    }

    #[inline(always)]
    fn where_positive(self, a: __m256, yes: __m256, no: __m256) -> __m256 {
        // SAFETY: see `splat`.
        unsafe {
            let positive = _mm256_cmp_ps::<_CMP_GT_OQ>(a, _mm256_setzero_ps());
            _mm256_blendv_ps(no, yes, positive)
        }
    }

    #[inline(always)]
    fn keep(self, v: __m256, n: usize) -> __m256 {
        // SAFETY: see `splat`.
        unsafe { _mm256_and_ps(v, _mm256_castsi256_ps(mask(n))) }
    }

    #[inline(always)]
    fn sum(self, v: __m256) -> f32 {
        // SAFETY: see `splat`.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
}
