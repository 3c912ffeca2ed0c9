//! Where the kernels put their updates, and the inner product that an online scale needs.

use crate::{
    isa::dispatch,
    simd::{FLUSH, Simd, part, put},
};

/// The destination of an optimizer's update u, for one tensor.
#[derive(Debug)]
pub struct Target<'a> {
    /// The parameters: p ← p + u without a sum.
    pub p: &'a mut [f32],
    /// The sum of the updates, if their scale is found online.
    pub sum: Option<UpdateSum<'a>>,
}

/// A sum of updates Δ and how it moves the parameters: p ← p + change·Δ + scale·u, then Δ ← Δ + u.
///
/// If p = p₀ + S·Δ with the previous scale S, and change = scale − S, then p = p₀ + scale·Δ
/// afterwards.
#[derive(Debug)]
pub struct UpdateSum<'a> {
    /// Δ, as long as the parameters.
    pub sum: &'a mut [f32],
    /// The new scale minus the previous one.
    pub change: f32,
    /// The new scale.
    pub scale: f32,
}

impl<'a> Target<'a> {
    /// Adds updates to the parameters directly.
    pub fn parameters(p: &'a mut [f32]) -> Self {
        Self { p, sum: None }
    }

    /// # Panics
    /// Panics if the sum is not as long as the parameters.
    #[inline(always)]
    pub(crate) fn check(&self) {
        let n = self.p.len();
        let fits = self.sum.as_ref().is_none_or(|sum| sum.sum.len() == n);
        assert!(fits, "the sum of updates does not have {n} elements");
    }

    /// Adds the update u = factor·direction of `n` elements, whose parameters are `p`.
    ///
    /// # Safety
    /// [`Target::check`] passed, `at + n` is at most the number of elements and `n` at most
    /// `LANES`.
    #[inline(always)]
    pub(crate) unsafe fn add<S: Simd>(
        &mut self,
        s: S,
        at: usize,
        n: usize,
        p: S::V,
        direction: S::V,
        factor: f32,
    ) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let new = match &mut self.sum {
                None => s.mul_add(direction, s.splat(factor), p),
                Some(UpdateSum { sum, change, scale }) => {
                    let update = s.mul(direction, s.splat(factor));
                    let old = part(s, sum, at, n);
                    put(s, sum, at, n, s.add(old, update));
                    let moved = s.mul_add(old, s.splat(*change), p);
                    s.mul_add(update, s.splat(*scale), moved)
                }
            };
            put(s, self.p, at, n, new);
        }
    }
}

dispatch! {
    /// Returns the inner product ⟨a, b⟩, summed in f64 from f32 sums of 8192 elements.
    ///
    /// # Panics
    /// Panics if the slices differ in length.
    pub fn inner_product = body(a: &[f32], b: &[f32]) -> f64
}

#[inline(always)]
fn body<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f64 {
    let n = a.len();
    assert!(b.len() == n);
    let mut total = 0.0;
    let mut start = 0;
    while start < n {
        let end = n.min(start + FLUSH);
        let mut sums = [s.splat(0.0); 2];
        let mut at = start;
        while at + 2 * S::LANES <= end {
            // SAFETY: two vectors remain before `end`, which is at most the length of the slices.
            unsafe {
                sums[0] = s.mul_add(s.load(a, at), s.load(b, at), sums[0]);
                let next = at + S::LANES;
                sums[1] = s.mul_add(s.load(a, next), s.load(b, next), sums[1]);
            }
            at += 2 * S::LANES;
        }
        while at < end {
            let count = S::LANES.min(end - at);
            // SAFETY: `count` elements remain before `end`; the missing lanes are zeros.
            let (a, b) = unsafe { (part(s, a, at, count), part(s, b, at, count)) };
            sums[0] = s.mul_add(a, b, sums[0]);
            at += count;
        }
        total += f64::from(s.sum(s.add(sums[0], sums[1])));
        start = end;
    }
    total
}
