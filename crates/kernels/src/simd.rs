//! Vectors of f32 behind one small trait, so that each kernel is written once.

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

/// The number of elements after which f32 sums are added to f64 totals.
pub(crate) const FLUSH: usize = 8192;

/// The vector operations of an instruction set. A value of the implementing type is proof that the
/// processor supports it.
///
/// All operations work lane by lane and follow IEEE 754. [`Simd::mul_add`] rounds once or twice;
/// [`Simd::max`] and [`Simd::min`] return the second operand if one is NaN.
pub(crate) trait Simd: Copy {
    /// A vector of [`Simd::LANES`] numbers.
    type V: Copy;
    const LANES: usize;
    /// Number of vector registers.
    const REGISTERS: usize;

    fn splat(self, x: f32) -> Self::V;

    /// `from[at]` in all lanes.
    ///
    /// # Safety
    /// `at < from.len()`
    unsafe fn load_splat(self, from: &[f32], at: usize) -> Self::V;

    /// `from[at..at + LANES]`
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
    /// Rounds to the nearest integer.
    fn round(self, a: Self::V) -> Self::V;
    /// a·2^n for integers n in \[−126, 127\].
    fn times_pow2(self, a: Self::V, n: Self::V) -> Self::V;
    /// Lanes of `yes` where `a > 0`, and of `no` elsewhere, also where `a` is NaN.
    fn where_positive(self, a: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// The first `n` lanes, then zeros.
    fn keep(self, v: Self::V, n: usize) -> Self::V;
    /// The sum over lanes.
    fn sum(self, v: Self::V) -> f32;
}

/// `from[at..at + n]`, then zeros; uses [`Simd::load`] for a whole vector.
///
/// # Safety
/// As [`Simd::load_part`].
#[inline(always)]
pub(crate) unsafe fn part<S: Simd>(s: S, from: &[f32], at: usize, n: usize) -> S::V {
    // SAFETY: guaranteed by the caller, also for `n == LANES`.
    unsafe {
        if n == S::LANES {
            s.load(from, at)
        } else {
            s.load_part(from, at, n)
        }
    }
}

/// `to[at..at + n]` = the first lanes of `v`; uses [`Simd::store`] for a whole vector.
///
/// # Safety
/// As [`Simd::store_part`].
#[inline(always)]
pub(crate) unsafe fn put<S: Simd>(s: S, to: &mut [f32], at: usize, n: usize, v: S::V) {
    // SAFETY: guaranteed by the caller, also for `n == LANES`.
    unsafe {
        if n == S::LANES {
            s.store(to, at, v);
        } else {
            s.store_part(to, at, n, v);
        }
    }
}

/// x/255 for integers x in \[0, 255\], rounded like a division: a product with the reciprocal,
/// corrected by its exact remainder. Requires a [`Simd::mul_add`] that rounds once.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn pixel_over_255<S: Simd>(s: S, x: S::V) -> S::V {
    let reciprocal = s.splat(1.0 / 255.0);
    let quotient = s.mul(x, reciprocal);
    let remainder = s.mul_add(s.splat(-255.0), quotient, x);
    s.mul_add(remainder, reciprocal, quotient)
}
