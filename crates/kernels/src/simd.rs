//! Vectors of f32 behind one small trait: the kernels are written once.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
mod two;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use portable::Portable;
pub(crate) use two::Two;

/// Instructions of one kind. A value of the implementing type is the proof that the
/// processor has them.
///
/// All operations are by lane and follow IEEE 754, [`Simd::mul_add`] with one rounding or
/// two; `max` and `min` may drop NaN.
pub(crate) trait Simd: Copy {
    /// [`Simd::LANES`] numbers.
    type V: Copy;
    const LANES: usize;
    /// How many vectors the processor holds at once.
    const REGISTERS: usize;

    fn splat(self, x: f32) -> Self::V;

    /// `from[at]` in all lanes.
    ///
    /// # Safety
    /// `at < from.len()`
    unsafe fn load_splat(self, from: &[f32], at: usize) -> Self::V;

    /// `from[at..at + LANES]`.
    ///
    /// # Safety
    /// `at + LANES <= from.len()`
    unsafe fn load(self, from: &[f32], at: usize) -> Self::V;

    /// `from[at..at + LANES]`, each divided by 255.
    ///
    /// # Safety
    /// `at + LANES <= from.len()`
    unsafe fn load_pixels(self, from: &[u8], at: usize) -> Self::V;

    /// `from[at..at + n]`, then zeros.
    ///
    /// # Safety
    /// `n <= LANES` and `at + n <= from.len()`
    unsafe fn load_part(self, from: &[f32], at: usize, n: usize) -> Self::V;

    /// `to[at..at + LANES] = v`
    ///
    /// # Safety
    /// `at + LANES <= to.len()`
    unsafe fn store(self, to: &mut [f32], at: usize, v: Self::V);

    /// `to[at..at + n]` = the first lanes of `v`.
    ///
    /// # Safety
    /// `n <= LANES` and `at + n <= to.len()`
    unsafe fn store_part(self, to: &mut [f32], at: usize, n: usize, v: Self::V);

    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// a·b + c
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    fn sqrt(self, a: Self::V) -> Self::V;
    /// To the nearest whole number.
    fn round(self, a: Self::V) -> Self::V;
    /// a·2^n for whole n in \[−126, 127\].
    fn times_pow2(self, a: Self::V, n: Self::V) -> Self::V;
    /// Lanes of `yes` where `a > 0`, of `no` elsewhere (NaN too).
    fn where_positive(self, a: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// The first `n` lanes, then zeros.
    fn keep(self, v: Self::V, n: usize) -> Self::V;
    /// The sum over lanes.
    fn sum(self, v: Self::V) -> f32;
}

/// `from[at..at + n]`, then zeros: [`Simd::load`] where that is a whole vector.
///
/// # Safety
/// As [`Simd::load_part`].
#[inline(always)]
pub(crate) unsafe fn part<S: Simd>(s: S, from: &[f32], at: usize, n: usize) -> S::V {
    // SAFETY: the caller's promise; all lanes are there if there are as many.
    unsafe {
        if n == S::LANES {
            s.load(from, at)
        } else {
            s.load_part(from, at, n)
        }
    }
}

/// `to[at..at + n]` = the first lanes of `v`: [`Simd::store`] where that is all of them.
///
/// # Safety
/// As [`Simd::store_part`].
#[inline(always)]
pub(crate) unsafe fn put<S: Simd>(s: S, to: &mut [f32], at: usize, n: usize, v: S::V) {
    // SAFETY: the caller's promise; all lanes are there if there are as many.
    unsafe {
        if n == S::LANES {
            s.store(to, at, v);
        } else {
            s.store_part(to, at, n, v);
        }
    }
}

/// x/255 for whole x in \[0, 255\], rounded as a division: a product with the reciprocal,
/// put right by its exact remainder. Only where [`Simd::mul_add`] has one rounding.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn pixel_over_255<S: Simd>(s: S, x: S::V) -> S::V {
    let reciprocal = s.splat(1.0 / 255.0);
    let quotient = s.mul(x, reciprocal);
    let remainder = s.mul_add(s.splat(-255.0), quotient, x);
    s.mul_add(remainder, reciprocal, quotient)
}
