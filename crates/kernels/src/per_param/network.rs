//! θ as the kernels use it.

use super::side::Side;

/// Width of both hidden layers.
pub const HIDDEN: usize = 4;
/// Directions and magnitudes: d, m_b, m_g.
pub(super) const HEADS: usize = 3;
/// How many features tell the step.
pub const PER_STEP: usize = 11;
/// The time scales τ of the step features tanh(t/τ − 1).
const TIME_SCALES: [f32; PER_STEP] = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5];
/// Features of an element that do not come from its row and column alone: g, φ, m (3), v,
/// m·r (3), r, factored g (3), factored m (3), with r = (v + 1e-6)^{-1/2}.
pub(super) const ELEMENT: usize = 16;
/// Where they are among the 28.
const ELEMENT_INDEX: [usize; ELEMENT] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 25, 26, 27];
/// Where the rows' features start among the 28; the columns' are three further, and the
/// inverse roots of both six.
const ROWS: usize = 13;

/// tanh(t/τ − 1) of each time scale; `t` counts from 0.
pub fn step_features(t: u64) -> [f32; PER_STEP] {
    TIME_SCALES.map(|scale| (t as f32 / scale - 1.0).tanh())
}

/// θ and the optimizer's formula.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Decays of the momenta.
    pub momentum_decays: [f32; 3],
    /// Decay of the second moment.
    pub rms_decay: f32,
    /// Decays of the factored second moments.
    pub adafactor_decays: [f32; 3],
    /// First weights, \[39, 4\].
    pub w0: [[f32; HIDDEN]; 39],
    /// First bias.
    pub b0: [f32; HIDDEN],
    /// Second weights, \[4, 4\].
    pub w1: [[f32; HIDDEN]; HIDDEN],
    /// Second bias.
    pub b1: [f32; HIDDEN],
    /// Last weights, \[4, 3\]: d, m_b, m_g; zero where there is no third head.
    pub w2: [[f32; HEADS]; HIDDEN],
    /// Last bias.
    pub b2: [f32; HEADS],
    /// From the heads to the step.
    pub formula: Formula,
}

/// Δφ = −η·\[ (c·(g, m₁, m₂, m₃))·π_n·exp(x_n) + β·d·π_b·exp(x_b) \].
///
/// π is (v + 1e-6)^{-1/2} where the term is preconditioned, else 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Formula {
    /// c, of the gradient and the momenta; the nominal step size is in it.
    pub nominal: [f32; 4],
    /// Whether the nominal term is preconditioned.
    pub nominal_preconditioned: bool,
    /// x_n, of m_g.
    pub nominal_exponent: Exponent,
    /// β, the blackbox step size.
    pub blackbox: f32,
    /// Whether the blackbox term is preconditioned.
    pub blackbox_preconditioned: bool,
    /// x_b, of m_b.
    pub blackbox_exponent: Exponent,
    /// η, the factor on the whole step.
    pub learning_rate: f32,
}

/// x = scale·m + shift, where m is the head of an element or its mean over the tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exponent {
    /// Factor on the head.
    pub scale: f32,
    /// Added to it.
    pub shift: f32,
    /// Whether m is the mean over the tensor.
    pub per_tensor: bool,
}

impl Network {
    /// The first bias with the features of step `t` folded in.
    pub fn bias_at(&self, t: u64) -> [f32; HIDDEN] {
        let mut bias = self.b0;
        for (feature, weights) in step_features(t).iter().zip(&self.w0[28..]) {
            for (sum, weight) in bias.iter_mut().zip(weights) {
                *sum += weight * feature;
            }
        }
        bias
    }
}

/// 1/√(1e-5 + mean square)
fn normalizer(sum_of_squares: f64, n: usize) -> f32 {
    1.0 / ((sum_of_squares / n as f64) as f32 + 1e-5).sqrt()
}

fn times(weights: [f32; HIDDEN], factor: f32) -> [f32; HIDDEN] {
    weights.map(|weight| weight * factor)
}

/// The first layer at one step for one tensor, the normalisers folded into its weights.
#[derive(Clone, Debug)]
pub(super) struct Scaled {
    /// The bias, the step's features in it.
    pub bias: [f32; HIDDEN],
    /// Of the features of each element.
    pub element: [[f32; HIDDEN]; ELEMENT],
    /// Of the three row moments and of their inverse roots.
    pub rows: [[f32; HIDDEN]; 6],
    /// Of the three column moments and of their inverse roots.
    pub columns: [[f32; HIDDEN]; 6],
}

impl Scaled {
    /// From the sums of squares of the elements' features, for rank ≥ 2.
    pub fn factored(
        network: &Network,
        bias: &[f32; HIDDEN],
        sums: &[f64; ELEMENT],
        n: usize,
        rows: &Side,
        columns: &Side,
    ) -> Self {
        let side = |start: usize, side: &Side| {
            std::array::from_fn(|k| {
                // Moments first, then inverse roots, six further on.
                let index = if k < 3 { start + k } else { start + 3 + k };
                times(network.w0[index], normalizer(side.squares[k], side.len))
            })
        };
        Self {
            bias: *bias,
            element: Self::elements(network, sums, n),
            rows: side(ROWS, rows),
            columns: side(ROWS + 3, columns),
        }
    }

    /// For rank < 2, where rows and columns are the same moments of each element;
    /// `moments` are the sums of squares of these and of their inverse roots.
    pub fn diagonal(
        network: &Network,
        bias: &[f32; HIDDEN],
        sums: &[f64; ELEMENT],
        moments: &[f64; 6],
        n: usize,
    ) -> Self {
        let both = std::array::from_fn(|k| {
            let index = if k < 3 { ROWS + k } else { ROWS + 3 + k };
            let (row, column) = (network.w0[index], network.w0[index + 3]);
            let weights = std::array::from_fn(|j| row[j] + column[j]);
            times(weights, normalizer(moments[k], n))
        });
        Self {
            bias: *bias,
            element: Self::elements(network, sums, n),
            rows: both,
            columns: [[0.0; HIDDEN]; 6],
        }
    }

    fn elements(network: &Network, sums: &[f64; ELEMENT], n: usize) -> [[f32; HIDDEN]; ELEMENT] {
        std::array::from_fn(|k| times(network.w0[ELEMENT_INDEX[k]], normalizer(sums[k], n)))
    }
}
