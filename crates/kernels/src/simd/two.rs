use super::Simd;

/// Two vectors at a time: while one waits for a result the other proceeds, and a weight is
/// loaded once for both.
#[derive(Clone, Copy)]
pub(crate) struct Two<S>(pub S);

impl<S: Simd> Simd for Two<S> {
    type V = [S::V; 2];
    const LANES: usize = 2 * S::LANES;
    const REGISTERS: usize = S::REGISTERS;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [self.0.splat(x); 2]
    }

    #[inline(always)]
    unsafe fn load_splat(self, from: &[f32], at: usize) -> Self::V {
        // SAFETY: guaranteed by the caller.
        [unsafe { self.0.load_splat(from, at) }; 2]
    }

    #[inline(always)]
    unsafe fn load(self, from: &[f32], at: usize) -> Self::V {
        // SAFETY: the caller guarantees the elements of both vectors.
        unsafe { [self.0.load(from, at), self.0.load(from, at + S::LANES)] }
    }

    #[inline(always)]
    unsafe fn load_pixels(self, from: &[u8], at: usize) -> Self::V {
        // SAFETY: the caller guarantees the bytes of both vectors.
        unsafe {
            [
                self.0.load_pixels(from, at),
                self.0.load_pixels(from, at + S::LANES),
            ]
        }
    }

    #[inline(always)]
    unsafe fn load_part(self, from: &[f32], at: usize, n: usize) -> Self::V {
        let first = n.min(S::LANES);
        // SAFETY: the caller guarantees `n` elements from `at`.
        unsafe {
            [
                self.0.load_part(from, at, first),
                self.0.load_part(from, at + first, n - first),
            ]
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: &mut [f32], at: usize, v: Self::V) {
        // SAFETY: the caller guarantees room for both vectors.
        unsafe {
            self.0.store(to, at, v[0]);
            self.0.store(to, at + S::LANES, v[1]);
        }
    }

    #[inline(always)]
    unsafe fn store_part(self, to: &mut [f32], at: usize, n: usize, v: Self::V) {
        let first = n.min(S::LANES);
        // SAFETY: the caller guarantees room for `n` elements from `at`.
        unsafe {
            self.0.store_part(to, at, first, v[0]);
            self.0.store_part(to, at + first, n - first, v[1]);
        }
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        [self.0.add(a[0], b[0]), self.0.add(a[1], b[1])]
    }

    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        [self.0.sub(a[0], b[0]), self.0.sub(a[1], b[1])]
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        [self.0.mul(a[0], b[0]), self.0.mul(a[1], b[1])]
    }

    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        [self.0.div(a[0], b[0]), self.0.div(a[1], b[1])]
    }

    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        [
            self.0.mul_add(a[0], b[0], c[0]),
            self.0.mul_add(a[1], b[1], c[1]),
        ]
    }

    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        [self.0.max(a[0], b[0]), self.0.max(a[1], b[1])]
    }

    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        [self.0.min(a[0], b[0]), self.0.min(a[1], b[1])]
    }

    #[inline(always)]
    fn sqrt(self, a: Self::V) -> Self::V {
        [self.0.sqrt(a[0]), self.0.sqrt(a[1])]
    }

    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        [self.0.round(a[0]), self.0.round(a[1])]
    }

    #[inline(always)]
    fn times_pow2(self, a: Self::V, n: Self::V) -> Self::V {
        [self.0.times_pow2(a[0], n[0]), self.0.times_pow2(a[1], n[1])]
    }

    #[inline(always)]
    fn where_positive(self, a: Self::V, yes: Self::V, no: Self::V) -> Self::V {
        [
            self.0.where_positive(a[0], yes[0], no[0]),
            self.0.where_positive(a[1], yes[1], no[1]),
        ]
    }

    #[inline(always)]
    fn keep(self, v: Self::V, n: usize) -> Self::V {
        let first = n.min(S::LANES);
        [self.0.keep(v[0], first), self.0.keep(v[1], n - first)]
    }

    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        self.0.sum(self.0.add(v[0], v[1]))
    }
}
