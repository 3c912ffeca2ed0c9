use std::arch::x86_64::*;

use super::{Simd, pixel_over_255};

/// Sixteen lanes in an AVX-512 register.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The processor must support AVX-512F, AVX2 and FMA.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

const LANES: usize = 16;

/// A mask with one bit per lane, set in the lanes below `n`.
#[inline(always)]
fn mask(n: usize) -> __mmask16 {
    ((1u32 << n.min(LANES)) - 1) as __mmask16
}

impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = LANES;
    const REGISTERS: usize = 32;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: `self` proves that the processor supports AVX-512F, here and below.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load_splat(self, from: &[f32], at: usize) -> __m512 {
        debug_assert!(at < from.len());
        // SAFETY: the caller guarantees `at < from.len()`.
        self.splat(unsafe { *from.get_unchecked(at) })
    }

    #[inline(always)]
    unsafe fn load(self, from: &[f32], at: usize) -> __m512 {
        debug_assert!(at + LANES <= from.len());
        // SAFETY: the caller guarantees that the slice has `LANES` elements from `at`.
        unsafe { _mm512_loadu_ps(from.as_ptr().add(at)) }
    }

    #[inline(always)]
    unsafe fn load_pixels(self, from: &[u8], at: usize) -> __m512 {
        debug_assert!(at + LANES <= from.len());
        // SAFETY: the caller guarantees `LANES` bytes from `at`, which is what is read.
        let pixels = unsafe {
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(
                from.as_ptr().add(at).cast(),
            )))
        };
        pixel_over_255(self, pixels)
    }

    #[inline(always)]
    unsafe fn load_part(self, from: &[f32], at: usize, n: usize) -> __m512 {
        debug_assert!(n <= LANES && at + n <= from.len());
        // SAFETY: masked lanes are not read; the caller guarantees the others.
        unsafe { _mm512_maskz_loadu_ps(mask(n), from.as_ptr().add(at)) }
    }

    #[inline(always)]
    unsafe fn store(self, to: &mut [f32], at: usize, v: __m512) {
        debug_assert!(at + LANES <= to.len());
        // SAFETY: the caller guarantees that the slice has `LANES` elements from `at`.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr().add(at), v) }
    }

    #[inline(always)]
    unsafe fn store_part(self, to: &mut [f32], at: usize, n: usize, v: __m512) {
        debug_assert!(n <= LANES && at + n <= to.len());
        // SAFETY: masked lanes are not written; the caller guarantees the others.
        unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr().add(at), mask(n), v) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see `splat`.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see `splat`.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see `splat`.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see `splat`.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: see `splat`.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see `splat`.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see `splat`.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        // SAFETY: see `splat`.
        unsafe { _mm512_sqrt_ps(a) }
    }

    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        // SAFETY: see `splat`.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }

    #[inline(always)]
    fn times_pow2(self, a: __m512, n: __m512) -> __m512 {
        // SAFETY: see `splat`.
        unsafe { _mm512_scalef_ps(a, n) }
    }

    #[inline(always)]
    fn where_positive(self, a: __m512, yes: __m512, no: __m512) -> __m512 {
        // SAFETY: see `splat`.
        unsafe {
            let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, _mm512_setzero_ps());
            _mm512_mask_blend_ps(positive, no, yes)
        }
    }

    #[inline(always)]
    fn keep(self, v: __m512, n: usize) -> __m512 {
        // SAFETY: see `splat`.
        unsafe { _mm512_maskz_mov_ps(mask(n), v) }
    }

    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        // SAFETY: see `splat`.
        unsafe { _mm512_reduce_add_ps(v) }
    }
}
