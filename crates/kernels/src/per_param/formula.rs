//! The formula of the step, computed from the MLP's heads.

use crate::{math::exp, simd::Simd};

use super::{features::Inputs, theta::HEADS};

/// Δφ = −η·\[ (c·(g, m₁, m₂, m₃))·π_n·exp(x_n) + β·d·π_b·exp(x_b) \].
///
/// π is (v + 1e-6)^{-1/2} if the term is preconditioned, else 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Formula {
    /// c, the coefficients of gradient and momenta, including the nominal step size.
    pub nominal: [f32; 4],
    /// Whether the nominal term is preconditioned.
    pub nominal_preconditioned: bool,
    /// x_n, a function of m_g.
    pub nominal_exponent: Exponent,
    /// β, the blackbox step size.
    pub blackbox: f32,
    /// Whether the blackbox term is preconditioned.
    pub blackbox_preconditioned: bool,
    /// x_b, a function of m_b.
    pub blackbox_exponent: Exponent,
    /// η, the factor on the whole step.
    pub learning_rate: f32,
}

/// x = scale·m + shift, where m is an element's head or the head's mean over the tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exponent {
    /// The factor on the head.
    pub scale: f32,
    /// Added to the scaled head.
    pub shift: f32,
    /// Whether m is the mean over the tensor.
    pub per_tensor: bool,
}

impl Formula {
    pub(super) fn per_tensor(&self) -> bool {
        self.nominal_exponent.per_tensor || self.blackbox_exponent.per_tensor
    }

    /// Replaces the exponents of whole tensors by their values for these means of the heads.
    pub(super) fn with_means(mut self, [_, blackbox, nominal]: [f64; HEADS]) -> Self {
        let fix = |exponent: &mut Exponent, mean: f64| {
            if exponent.per_tensor {
                exponent.shift += exponent.scale * mean as f32;
                exponent.scale = 0.0;
            }
        };
        fix(&mut self.blackbox_exponent, blackbox);
        fix(&mut self.nominal_exponent, nominal);
        self
    }

    /// Returns the direction of the step: Δφ = −η·direction.
    #[inline(always)]
    pub(super) fn direction<S: Simd>(
        &self,
        s: S,
        inputs: &Inputs<S::V>,
        heads: [S::V; HEADS],
    ) -> S::V {
        let Inputs { g, m, r, .. } = inputs;
        let mut nominal = s.mul(*g, s.splat(self.nominal[0]));
        let mut k = 0;
        while k < 3 {
            nominal = s.mul_add(m[k], s.splat(self.nominal[1 + k]), nominal);
            k += 1;
        }
        nominal = s.mul(nominal, preconditioner(s, *r, self.nominal_preconditioned));
        nominal = s.mul(nominal, self.nominal_exponent.exp(s, heads[2]));
        let pi = preconditioner(s, *r, self.blackbox_preconditioned);
        let direction = s.mul(heads[0], pi);
        let magnitude = self.blackbox_exponent.exp(s, heads[1]);
        let blackbox = s.mul(s.mul(direction, magnitude), s.splat(self.blackbox));
        s.add(nominal, blackbox)
    }
}

/// Returns `r` if preconditioned, else 1.
#[inline(always)]
fn preconditioner<S: Simd>(s: S, r: S::V, on: bool) -> S::V {
    if on { r } else { s.splat(1.0) }
}

impl Exponent {
    /// e^(scale·m + shift)
    #[inline(always)]
    fn exp<S: Simd>(&self, s: S, m: S::V) -> S::V {
        exp(s, s.mul_add(m, s.splat(self.scale), s.splat(self.shift)))
    }
}
