use crate::{
    isa::dispatch,
    math::{exp, ln_1p, sin_cos},
    simd::Simd,
};

/// An activation function a(x).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// max(x, 0); the derivative at 0 is 1, as in candle
    Relu,
    /// tanh x
    Tanh,
    /// 1/(1 + e^{-x})
    Sigmoid,
    /// x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2
    Gelu,
    /// x/(1 + e^{-x})
    Silu,
    /// max(x, 0.01·x)
    LeakyRelu,
    /// x where x > 0, else e^x − 1
    Elu,
    /// ln(1 + e^x)
    Softplus,
    /// sin x
    Sin,
}

impl Activation {
    /// All activations.
    pub const ALL: [Activation; 9] = [
        Activation::Relu,
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::Gelu,
        Activation::Silu,
        Activation::LeakyRelu,
        Activation::Elu,
        Activation::Softplus,
        Activation::Sin,
    ];
}

const SLOPE: f32 = 0.01;
const GELU_SCALE: f32 = 0.797_884_6; // √(2/π)
const GELU_CUBE: f32 = 0.044_715;

dispatch! {
    /// a = f(z), element by element.
    ///
    /// # Panics
    /// Panics if the lengths differ.
    pub(super) fn activate = activate_body(f: Activation, z: &[f32], a: &mut [f32])
}

dispatch! {
    /// d ← d·f'(z), element by element.
    ///
    /// # Panics
    /// Panics if the lengths differ.
    pub(super) fn backpropagate = backpropagate_body(f: Activation, z: &[f32], d: &mut [f32])
}

#[inline(always)]
fn activate_body<S: Simd>(s: S, f: Activation, z: &[f32], a: &mut [f32]) {
    assert!(z.len() == a.len());
    let mut i = 0;
    while i < z.len() {
        let n = S::LANES.min(z.len() - i);
        // SAFETY: both slices have the same length, and `n` elements are left.
        unsafe { s.store_part(a, i, n, value(s, f, s.load_part(z, i, n))) };
        i += n;
    }
}

#[inline(always)]
fn backpropagate_body<S: Simd>(s: S, f: Activation, z: &[f32], d: &mut [f32]) {
    assert!(z.len() == d.len());
    let mut i = 0;
    while i < z.len() {
        let n = S::LANES.min(z.len() - i);
        // SAFETY: both slices have the same length, and `n` elements are left.
        unsafe {
            let slope = slope(s, f, s.load_part(z, i, n));
            s.store_part(d, i, n, s.mul(slope, s.load_part(d, i, n)));
        }
        i += n;
    }
}

#[inline(always)]
fn value<S: Simd>(s: S, f: Activation, x: S::V) -> S::V {
    let zero = s.splat(0.0);
    match f {
        // `max` returns the second operand if one is NaN.
        Activation::Relu => s.max(zero, x),
        Activation::Tanh => tanh(s, x),
        Activation::Sigmoid => sigmoid(s, x),
        Activation::Gelu => s.mul(s.mul(x, s.splat(0.5)), s.add(s.splat(1.0), gelu_tanh(s, x))),
        Activation::Silu => s.mul(x, sigmoid(s, x)),
        Activation::LeakyRelu => s.max(s.mul(x, s.splat(SLOPE)), x),
        Activation::Elu => s.where_positive(x, x, s.sub(exp(s, s.min(zero, x)), s.splat(1.0))),
        // max(x, 0) + ln(1 + e^{-|x|})
        Activation::Softplus => {
            let minus_magnitude = s.min(x, s.sub(zero, x));
            s.add(s.max(zero, x), ln_1p(s, exp(s, minus_magnitude)))
        }
        Activation::Sin => sin_cos(s, x).0,
    }
}

#[inline(always)]
fn slope<S: Simd>(s: S, f: Activation, x: S::V) -> S::V {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    match f {
        Activation::Relu => s.where_positive(s.sub(zero, x), zero, one),
        Activation::Tanh => {
            let tanh = tanh(s, x);
            s.sub(one, s.mul(tanh, tanh))
        }
        Activation::Sigmoid => {
            let sigmoid = sigmoid(s, x);
            s.mul(sigmoid, s.sub(one, sigmoid))
        }
        // (1 + t)/2 + x/2·(1 − t²)·√(2/π)·(1 + 3·0.044715·x²)
        Activation::Gelu => {
            let t = gelu_tanh(s, x);
            let inner = s.mul_add(s.mul(x, x), s.splat(3.0 * GELU_CUBE), one);
            let outer = s.mul(s.mul(x, s.splat(GELU_SCALE)), s.sub(one, s.mul(t, t)));
            s.mul(s.mul_add(outer, inner, s.add(one, t)), s.splat(0.5))
        }
        // σ + x·σ·(1 − σ)
        Activation::Silu => {
            let sigmoid = sigmoid(s, x);
            s.mul(sigmoid, s.mul_add(x, s.sub(one, sigmoid), one))
        }
        Activation::LeakyRelu => s.where_positive(x, one, s.splat(SLOPE)),
        Activation::Elu => s.where_positive(x, one, exp(s, s.min(zero, x))),
        Activation::Softplus => sigmoid(s, x),
        Activation::Sin => sin_cos(s, x).1,
    }
}

/// 1/(1 + e^{-x})
#[inline(always)]
fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
}

/// tanh x = 2·σ(2x) − 1, with an absolute error of about 1e-7.
#[inline(always)]
fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let two = s.splat(2.0);
    s.sub(s.mul(two, sigmoid(s, s.mul(two, x))), s.splat(1.0))
}

/// tanh(√(2/π)·(x + 0.044715·x³))
#[inline(always)]
fn gelu_tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let cube = s.mul(s.mul(x, x), s.mul(x, s.splat(GELU_CUBE)));
    tanh(s, s.mul(s.add(x, cube), s.splat(GELU_SCALE)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    fn reference(f: Activation, x: f64) -> f64 {
        match f {
            Activation::Relu => x.max(0.0),
            Activation::Tanh => x.tanh(),
            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Activation::Gelu => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                0.5 * x * (1.0 + inner.tanh())
            }
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::LeakyRelu => x.max(0.01 * x),
            Activation::Elu => {
                if x > 0.0 {
                    x
                } else {
                    x.exp_m1()
                }
            }
            Activation::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Activation::Sin => x.sin(),
        }
    }

    /// Values and slopes over a wide range; the length is not a multiple of a vector.
    #[test]
    fn values_and_slopes_match_the_formulas() {
        let every = if cfg!(miri) { 101 } else { 1 };
        let z = (-4003..4000).step_by(every);
        let z: Vec<f32> = z.map(|i| (i as f32 + 0.25) * 0.01).collect();
        for isa in Isa::all() {
            for f in Activation::ALL {
                let mut a = vec![0.0; z.len()];
                activate(isa, f, &z, &mut a);
                let mut d = vec![1.0; z.len()];
                backpropagate(isa, f, &z, &mut d);
                for ((&z, &a), &d) in z.iter().zip(&a).zip(&d) {
                    let x = f64::from(z);
                    let value = reference(f, x);
                    let slope = (reference(f, x + 1e-5) - reference(f, x - 1e-5)) / 2e-5;
                    let near = |ours: f32, exact: f64, tolerance: f64| {
                        (f64::from(ours) - exact).abs() <= tolerance * exact.abs().max(1.0)
                    };
                    assert!(near(a, value, 4e-7), "{isa} {f:?}({x}) = {a}, not {value}");
                    assert!(near(d, slope, 2e-6), "{isa} {f:?}'({x}) = {d}, not {slope}");
                }
            }
        }
    }

    /// NaN stays NaN, and values far outside the usual range stay bounded.
    #[test]
    fn extreme_values() {
        for isa in Isa::all() {
            for f in Activation::ALL {
                let mut a = [0.0; 2];
                activate(isa, f, &[-1e30, f32::NAN], &mut a);
                let bound = if f == Activation::LeakyRelu {
                    1.1e28
                } else {
                    1.0
                };
                assert!(
                    a[0].abs() <= bound || f == Activation::Sin,
                    "{isa} {f:?} {a:?}"
                );
            }
            for f in Activation::ALL {
                let (mut a, mut d) = ([0.0], [1.0]);
                activate(isa, f, &[f32::NAN], &mut a);
                backpropagate(isa, f, &[f32::NAN], &mut d);
                assert!(a[0].is_nan(), "{isa} {f:?} {a:?} {d:?}");
            }
        }
    }
}
