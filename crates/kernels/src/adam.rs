use crate::{
    Gradient, Target,
    isa::dispatch,
    simd::{Simd, part, put},
};

/// Adam's constants for step t = 1, 2, …
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// The learning rate.
    pub learning_rate: f32,
    /// β₁, the decay of the first moment.
    pub beta1: f32,
    /// 1 − β₁, computed in f64.
    pub one_minus_beta1: f32,
    /// β₂, the decay of the second moment.
    pub beta2: f32,
    /// 1 − β₂, computed in f64.
    pub one_minus_beta2: f32,
    /// c₁ = 1/(1 − β₁ᵗ), the bias correction of the first moment.
    pub correction1: f32,
    /// c₂ = 1/(1 − β₂ᵗ), the bias correction of the second moment.
    pub correction2: f32,
    /// ε, added to the root of the second moment.
    pub epsilon: f32,
}

dispatch! {
    /// m ← β₁·m + (1 − β₁)·g, v ← β₂·v + (1 − β₂)·g²,
    /// u = −lr·(m·c₁)/(√(v·c₂) + ε) for each element, and adds u to the target.
    ///
    /// # Panics
    /// Panics if the slices differ in length.
    pub fn adam = body(constants: &Adam, target: Target, g: Gradient, m: &mut [f32], v: &mut [f32])
}

#[inline(always)]
fn body<S: Simd>(s: S, c: &Adam, mut target: Target, g: Gradient, m: &mut [f32], v: &mut [f32]) {
    let n = target.p.len();
    target.check();
    assert!(g.len() == n && m.len() == n && v.len() == n);
    let mut at = 0;
    while at < n {
        let count = S::LANES.min(n - at);
        // SAFETY: each slice has `n` elements, and `at + count` is at most `n`.
        unsafe {
            let p = part(s, target.p, at, count);
            let (direction, new_m, new_v) = step(
                s,
                c,
                g.part(s, at, count),
                part(s, m, at, count),
                part(s, v, at, count),
            );
            target.add(s, at, count, p, direction, -c.learning_rate);
            put(s, m, at, count, new_m);
            put(s, v, at, count, new_v);
        }
        at += count;
    }
}

/// Returns (the direction of the step, m, v).
#[inline(always)]
fn step<S: Simd>(s: S, c: &Adam, g: S::V, m: S::V, v: S::V) -> (S::V, S::V, S::V) {
    let m = s.mul_add(s.splat(c.beta1), m, s.mul(s.splat(c.one_minus_beta1), g));
    let fresh = s.mul(s.splat(c.one_minus_beta2), s.mul(g, g));
    let v = s.mul_add(s.splat(c.beta2), v, fresh);
    let root = s.sqrt(s.mul(v, s.splat(c.correction2)));
    let direction = s.div(
        s.mul(m, s.splat(c.correction1)),
        s.add(root, s.splat(c.epsilon)),
    );
    (direction, m, v)
}
