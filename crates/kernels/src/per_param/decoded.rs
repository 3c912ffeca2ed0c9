//! θ as the kernels read it, whatever the width of its hidden layers.

use crate::{Gradient, Isa, Target, parts::Run};

use super::{Formula, Scratch, Shape, State, theta::Weights, update};

/// A decoded θ and the step for which its MLP is evaluated.
///
/// Its methods are not generic, so that the kernels are compiled in this crate only, and not again in
/// every crate that calls them.
#[derive(Clone, Debug)]
pub struct Decoded(Width);

#[derive(Clone, Debug)]
enum Width {
    H4(Box<Timed<4>>),
    H8(Box<Timed<8>>),
    H16(Box<Timed<16>>),
    H32(Box<Timed<32>>),
}

#[derive(Clone, Debug)]
struct Timed<const H: usize> {
    weights: Weights<H>,
    /// [`Weights::bias_at`] the step.
    bias: [f32; H],
}

impl<const H: usize> From<Weights<H>> for Box<Timed<H>> {
    fn from(weights: Weights<H>) -> Self {
        let bias = weights.bias_at(0);
        Box::new(Timed { weights, bias })
    }
}

macro_rules! from_weights {
    ($($width:ident $hidden:literal),*) => {$(
        impl From<Weights<$hidden>> for Decoded {
            fn from(weights: Weights<$hidden>) -> Self {
                Self(Width::$width(weights.into()))
            }
        }
    )*};
}

from_weights!(H4 4, H8 8, H16 16, H32 32);

impl Decoded {
    /// The widths of hidden layers for which there are kernels.
    pub const WIDTHS: [usize; 4] = [4, 8, 16, 32];

    /// Decodes θ with [`Weights::decode`], for step 0. Returns `None` if `hidden` is not one of
    /// [`Decoded::WIDTHS`] or θ cannot be decoded.
    pub fn decode(hidden: usize, theta: &[f32], heads: usize) -> Option<Self> {
        match hidden {
            4 => Weights::<4>::decode(theta, heads).map(Self::from),
            8 => Weights::<8>::decode(theta, heads).map(Self::from),
            16 => Weights::<16>::decode(theta, heads).map(Self::from),
            32 => Weights::<32>::decode(theta, heads).map(Self::from),
            _ => None,
        }
    }

    /// Evaluates the MLP for step `t` from now on, where `t` counts from 0.
    pub fn set_step(&mut self, t: u64) {
        match &mut self.0 {
            Width::H4(timed) => timed.bias = timed.weights.bias_at(t),
            Width::H8(timed) => timed.bias = timed.weights.bias_at(t),
            Width::H16(timed) => timed.bias = timed.weights.bias_at(t),
            Width::H32(timed) => timed.bias = timed.weights.bias_at(t),
        }
    }

    /// Adds the update of one tensor to `target`. A tensor of a million elements or more is divided
    /// into parts, which `run` processes.
    ///
    /// # Panics
    /// Panics if a slice does not have the length that `shape` requires.
    #[allow(clippy::too_many_arguments)]
    pub fn update(
        &self,
        isa: Isa,
        run: Run,
        formula: &Formula,
        shape: &Shape,
        target: Target,
        g: Gradient,
        state: State,
        scratch: &mut Scratch,
    ) {
        macro_rules! by {
            ($timed:ident) => {{
                let Timed { weights, bias } = &**$timed;
                update(
                    isa, run, weights, formula, bias, shape, target, g, state, scratch,
                )
            }};
        }
        match &self.0 {
            Width::H4(timed) => by!(timed),
            Width::H8(timed) => by!(timed),
            Width::H16(timed) => by!(timed),
            Width::H32(timed) => by!(timed),
        }
    }
}
