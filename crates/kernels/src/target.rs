//! What the kernels read and where they put their updates, and the sums that an online scale needs.

use std::ops::Range;

use crate::{
    Isa,
    isa::dispatch,
    parts::{Run, is_large, map, ranges_of, split, total},
    simd::{FLUSH, Simd, part, put},
};

/// The gradient of one tensor, which the kernels read multiplied by a factor.
#[derive(Clone, Copy, Debug)]
pub struct Gradient<'a> {
    /// The values, as long as the parameters.
    pub values: &'a [f32],
    /// The factor.
    pub factor: f32,
}

impl<'a> From<&'a [f32]> for Gradient<'a> {
    /// Returns the gradient as it is.
    fn from(values: &'a [f32]) -> Self {
        let factor = 1.0;
        Self { values, factor }
    }
}

impl<'a> Gradient<'a> {
    /// The gradient of some of the elements.
    pub(crate) fn of(self, range: Range<usize>) -> Gradient<'a> {
        let values = &self.values[range];
        Gradient { values, ..self }
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// Reads `n` elements; the missing lanes are zeros.
    ///
    /// # Safety
    /// `at + n` is at most the number of elements and `n` at most `LANES`.
    #[inline(always)]
    pub(crate) unsafe fn part<S: Simd>(&self, s: S, at: usize, n: usize) -> S::V {
        // SAFETY: guaranteed by the caller.
        let values = unsafe { part(s, self.values, at, n) };
        s.mul(values, s.splat(self.factor))
    }
}

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

    /// Divides the target at the ends of ranges that follow one another.
    pub(crate) fn split(self, ranges: &[Range<usize>]) -> Vec<Target<'a>> {
        let mut sums = self.sum.map(|UpdateSum { sum, change, scale }| {
            let parts = split(sum, ranges).into_iter();
            parts.map(move |sum| UpdateSum { sum, change, scale })
        });
        let mut target = |p| {
            let sum = sums.as_mut().and_then(Iterator::next);
            Target { p, sum }
        };
        split(self.p, ranges).into_iter().map(&mut target).collect()
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

/// Returns the inner products (⟨a, b⟩, ⟨b, b⟩), summed in f64 from f32 sums of 8192 elements. Slices of a
/// million elements or more are divided into parts, which `run` processes.
///
/// # Panics
/// Panics if the slices differ in length.
pub fn inner_products(isa: Isa, run: Run, a: &[f32], b: &[f32]) -> (f64, f64) {
    if !is_large(a.len()) {
        return inner_products_of_part(isa, a, b);
    }
    assert!(a.len() == b.len());
    let sums = map(run, ranges_of(FLUSH, a.len()), |range| {
        let (product, square) = inner_products_of_part(isa, &a[range.clone()], &b[range]);
        [product, square]
    });
    total(sums).into()
}

dispatch! {
    fn inner_products_of_part = body(a: &[f32], b: &[f32]) -> (f64, f64)
}

#[inline(always)]
fn body<S: Simd>(s: S, a: &[f32], b: &[f32]) -> (f64, f64) {
    let n = a.len();
    assert!(b.len() == n);
    let mut totals = (0.0, 0.0);
    let mut start = 0;
    while start < n {
        let end = n.min(start + FLUSH);
        let (mut products, mut squares) = ([s.splat(0.0); 2], [s.splat(0.0); 2]);
        let mut at = start;
        while at + 2 * S::LANES <= end {
            // SAFETY: two vectors remain before `end`, which is at most the length of the slices.
            unsafe {
                let b0 = s.load(b, at);
                products[0] = s.mul_add(s.load(a, at), b0, products[0]);
                squares[0] = s.mul_add(b0, b0, squares[0]);
                let next = at + S::LANES;
                let b1 = s.load(b, next);
                products[1] = s.mul_add(s.load(a, next), b1, products[1]);
                squares[1] = s.mul_add(b1, b1, squares[1]);
            }
            at += 2 * S::LANES;
        }
        while at < end {
            let count = S::LANES.min(end - at);
            // SAFETY: `count` elements remain before `end`; the missing lanes are zeros.
            let (a, b) = unsafe { (part(s, a, at, count), part(s, b, at, count)) };
            products[0] = s.mul_add(a, b, products[0]);
            squares[0] = s.mul_add(b, b, squares[0]);
            at += count;
        }
        totals.0 += f64::from(s.sum(s.add(products[0], products[1])));
        totals.1 += f64::from(s.sum(s.add(squares[0], squares[1])));
        start = end;
    }
    totals
}
