//! Elementary functions on vectors, accurate to about 1e-7.

use crate::simd::Simd;

/// 1/√x, correct up to rounding. The approximate instructions differ between vendors.
#[inline(always)]
pub(crate) fn rsqrt<S: Simd>(s: S, x: S::V) -> S::V {
    s.div(s.splat(1.0), s.sqrt(x))
}

/// Σᵢ cᵢ·x^{N−1−i} by Horner's rule, highest power first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::V, coefficients: [f32; N]) -> S::V {
    let mut y = s.splat(coefficients[0]);
    let mut i = 1;
    while i < N {
        y = s.mul_add(y, x, s.splat(coefficients[i]));
        i += 1;
    }
    y
}

/// e^x. Arguments are clamped to \[−87, 88\], where the result is a normal number; NaN stays NaN.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2, and e^r by its Taylor polynomial of degree 7.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    // ln 2 in two parts; products of the first with small integers are exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // `min` and `max` return the second operand if one is NaN.
    let x = s.min(s.splat(88.0), s.max(s.splat(-87.0), x));
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.mul_add(n, s.splat(-LN2_HIGH), x);
    let r = s.mul_add(n, s.splat(-LN2_LOW), r);
    let p = polynomial(
        s,
        r,
        [
            1.0 / 5040.0,
            1.0 / 720.0,
            1.0 / 120.0,
            1.0 / 24.0,
            1.0 / 6.0,
            0.5,
            1.0,
            1.0,
        ],
    );
    s.times_pow2(p, n)
}

/// ln(1 + y) = 2·artanh(y/(2 + y)) for y in \[0, 1\].
#[inline(always)]
pub(crate) fn ln_1p<S: Simd>(s: S, y: S::V) -> S::V {
    let z = s.div(y, s.add(y, s.splat(2.0)));
    let series = polynomial(
        s,
        s.mul(z, z),
        [
            2.0 / 13.0,
            2.0 / 11.0,
            2.0 / 9.0,
            2.0 / 7.0,
            2.0 / 5.0,
            2.0 / 3.0,
            2.0,
        ],
    );
    s.mul(z, series)
}

/// (sin x, cos x), accurate for |x| up to a few thousand.
///
/// x = n·π/2 + r with |r| ≤ π/4; the Taylor polynomials of sin r and cos r are swapped and negated
/// according to n mod 4.
#[inline(always)]
pub(crate) fn sin_cos<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    // π/2 in three parts; products of the first two with small integers are exact.
    const PARTS: [f32; 3] = [1.570_312_5, 4.837_513e-4, 7.549_79e-8];
    let n = s.round(s.mul(x, s.splat(std::f32::consts::FRAC_2_PI)));
    let mut r = s.sub(x, s.mul(n, s.splat(PARTS[0])));
    r = s.sub(r, s.mul(n, s.splat(PARTS[1])));
    r = s.sub(r, s.mul(n, s.splat(PARTS[2])));
    let r2 = s.mul(r, r);
    let sin = [1.0 / 362_880.0, -1.0 / 5040.0, 1.0 / 120.0, -1.0 / 6.0, 1.0];
    let cos = [
        -1.0 / 3_628_800.0,
        1.0 / 40320.0,
        -1.0 / 720.0,
        1.0 / 24.0,
        -0.5,
        1.0,
    ];
    let sin = s.mul(r, polynomial(s, r2, sin));
    let cos = polynomial(s, r2, cos);
    // n mod 4 in {−1, 0, 1, 2}, where −2 may stand for 2.
    let quarter = s.sub(n, s.mul(s.splat(4.0), s.round(s.mul(n, s.splat(0.25)))));
    let (one, minus) = (s.splat(1.0), s.splat(-1.0));
    let absolute = s.max(quarter, s.mul(quarter, minus));
    // Positive where |quarter| = 1: sine and cosine are swapped.
    let exchange = s.sub(
        s.splat(0.5),
        s.max(s.sub(absolute, one), s.sub(one, absolute)),
    );
    let two = s.sub(absolute, s.splat(1.5));
    // The sine is negated for quarter −1 and ±2, the cosine for 1 and ±2.
    let sin_sign = s.where_positive(
        two,
        minus,
        s.where_positive(s.sub(s.splat(-0.5), quarter), minus, one),
    );
    let cos_sign = s.where_positive(s.sub(quarter, s.splat(0.5)), minus, one);
    let cos_sign = s.where_positive(two, minus, cos_sign);
    (
        s.mul(sin_sign, s.where_positive(exchange, cos, sin)),
        s.mul(cos_sign, s.where_positive(exchange, sin, cos)),
    )
}
