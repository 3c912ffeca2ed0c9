//! The names, shapes and order of θ's parts, and the decoder of θ.

use super::features::{INPUTS, PER_PARAMETER, step_features};

/// The number of MLP outputs that the kernels compute: d, m_b, m_g.
pub(super) const HEADS: usize = 3;

/// The decay rates b₀ for an offset δ = 0.
pub mod initial_decays {
    /// The decays of the three momenta.
    pub const MOMENTUM: [f64; 3] = [0.9, 0.99, 0.999];
    /// The decay of the second moment.
    pub const RMS: [f64; 1] = [0.999];
    /// The decays of the three factored second moments.
    pub const ADAFACTOR: [f64; 3] = [0.9, 0.99, 0.999];
}

/// Returns the sizes of the MLP's layers: inputs, hidden layers, heads.
pub fn sizes(hidden: &[usize], heads: usize) -> Vec<usize> {
    let ends = (std::iter::once(INPUTS), std::iter::once(heads));
    ends.0.chain(hidden.iter().copied()).chain(ends.1).collect()
}

/// Returns the names and shapes of θ's parts in name order: the offsets δ of the decays, and the
/// biases \[out\] and weights \[in, out\] of layers of these [`sizes`].
pub fn parts(sizes: &[usize]) -> Vec<(String, Vec<usize>)> {
    let decays = [
        ("adafactor_decays", initial_decays::ADAFACTOR.len()),
        ("momentum_decays", initial_decays::MOMENTUM.len()),
        ("rms_decays", initial_decays::RMS.len()),
    ];
    let decays = decays.map(|(name, n)| (name.to_owned(), vec![n]));
    let layers = sizes.windows(2).enumerate().flat_map(|(layer, pair)| {
        [
            (format!("nn/b{layer}"), vec![pair[1]]),
            (format!("nn/w{layer}"), vec![pair[0], pair[1]]),
        ]
    });
    let mut parts: Vec<_> = decays.into_iter().chain(layers).collect();
    parts.sort();
    parts
}

/// θ's parts by meaning, as tensors or slices.
#[derive(Clone, Debug)]
pub struct Parts<T> {
    /// Offsets δ of the momenta's decays, \[3\].
    pub momentum: T,
    /// Offset δ of the second moment's decay, \[1\].
    pub rms: T,
    /// Offsets δ of the factored second moments' decays, \[3\].
    pub adafactor: T,
    /// The weights and biases of each layer, first to last.
    pub layers: Vec<(T, T)>,
}

impl<T> Parts<T> {
    /// Assigns θ's parts from name order, as returned by [`parts`]. Returns `None` if their number
    /// is not that of an MLP with this many layers. The order holds for up to ten layers.
    pub fn in_name_order(parts: impl IntoIterator<Item = T>, layers: usize) -> Option<Self> {
        let mut parts = parts.into_iter();
        let (adafactor, momentum) = (parts.next()?, parts.next()?);
        let biases: Vec<T> = parts.by_ref().take(layers).collect();
        let weights: Vec<T> = parts.by_ref().take(layers).collect();
        let rms = parts.next()?;
        let complete = weights.len() == layers && parts.next().is_none();
        complete.then(|| Self {
            momentum,
            rms,
            adafactor,
            layers: weights.into_iter().zip(biases).collect(),
        })
    }
}

impl<'a> Parts<&'a [f32]> {
    /// Splits the flat vector of an MLP with these [`sizes`]. Returns `None` if its length is
    /// wrong.
    pub fn of_values(values: &'a [f32], sizes: &[usize]) -> Option<Self> {
        let mut rest = values;
        let mut slices = vec![];
        for (_, shape) in parts(sizes) {
            let (part, after) = rest.split_at_checked(shape.iter().product())?;
            slices.push(part);
            rest = after;
        }
        let complete = rest.is_empty();
        Self::in_name_order(slices, sizes.len() - 1).filter(|_| complete)
    }
}

/// b = 1 − exp(10·(ln(1 − b₀)/10 + δ)) in f32, with each operation rounded as in candle.
fn decay(offset: f32, initial: f64) -> f32 {
    let base = (1.0 - initial as f32).ln() / 10.0;
    1.0 - ((offset + base) * 10.0).exp()
}

fn decays(offsets: &[f32], initial: &[f64; 3]) -> [f32; 3] {
    std::array::from_fn(|k| decay(offsets[k], initial[k]))
}

/// The decoded θ of an optimizer whose MLP has two hidden layers of width `H`.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights<const H: usize> {
    /// Decays of the momenta.
    pub momentum_decays: [f32; 3],
    /// Decay of the second moment.
    pub rms_decay: f32,
    /// Decays of the factored second moments.
    pub adafactor_decays: [f32; 3],
    /// First weights, \[inputs, H\].
    pub w0: [[f32; H]; INPUTS],
    /// First bias.
    pub b0: [f32; H],
    /// Second weights, \[H, H\].
    pub w1: [[f32; H]; H],
    /// Second bias.
    pub b1: [f32; H],
    /// Last weights, \[H, 3\], for d, m_b and m_g; zero for a missing third head.
    pub w2: [[f32; HEADS]; H],
    /// Last bias.
    pub b2: [f32; HEADS],
}

impl<const H: usize> Weights<H> {
    /// Decodes the flat vector θ of an MLP inputs → H → H → `heads`, laid out as in [`parts`].
    /// Returns `None` if the number of values is wrong or there are more than three heads.
    pub fn decode(values: &[f32], heads: usize) -> Option<Self> {
        if heads > HEADS {
            return None;
        }
        let parts = Parts::of_values(values, &sizes(&[H, H], heads))?;
        let [(w0, b0), (w1, b1), (w2, b2)] = parts.layers.try_into().ok()?;
        let row = |values: &[f32], i: usize| {
            let row = &values[i * H..(i + 1) * H];
            std::array::from_fn::<f32, H, _>(|j| row[j])
        };
        // The weights of a missing head are zero.
        let last = |values: &[f32], head: usize| values.get(head).copied().unwrap_or(0.0);
        let of_input = |i: usize| &w2[i * heads..(i + 1) * heads];
        let rms = decay(parts.rms[0], initial_decays::RMS[0]);
        let adafactor = decays(parts.adafactor, &initial_decays::ADAFACTOR);
        Some(Self {
            momentum_decays: decays(parts.momentum, &initial_decays::MOMENTUM),
            rms_decay: rms.clamp(0.0, 1.0),
            adafactor_decays: adafactor.map(|b| b.clamp(0.0, 1.0)),
            w0: std::array::from_fn(|i| row(w0, i)),
            b0: row(b0, 0),
            w1: std::array::from_fn(|i| row(w1, i)),
            b1: row(b1, 0),
            w2: std::array::from_fn(|i| std::array::from_fn(|head| last(of_input(i), head))),
            b2: std::array::from_fn(|head| last(b2, head)),
        })
    }

    /// Returns the first bias with the features of step `t` folded in, where `t` counts from 0.
    pub fn bias_at(&self, t: u64) -> [f32; H] {
        let mut bias = self.b0;
        for (feature, weights) in step_features(t).iter().zip(&self.w0[PER_PARAMETER..]) {
            for (sum, weight) in bias.iter_mut().zip(weights) {
                *sum += weight * feature;
            }
        }
        bias
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_by_what_they_are() {
        let sizes = sizes(&[4, 4], 2);
        let n: usize = parts(&sizes)
            .iter()
            .map(|(_, s)| s.iter().product::<usize>())
            .sum();
        assert_eq!(n, 197);
        let values: Vec<f32> = (0..n).map(|i| i as f32).collect();
        let found = Parts::of_values(&values, &sizes).unwrap();
        assert_eq!(found.adafactor, [0.0, 1.0, 2.0]);
        assert_eq!(found.momentum, [3.0, 4.0, 5.0]);
        assert_eq!(found.rms, [196.0]);
        let (w0, b0) = found.layers[0];
        assert_eq!(
            (w0[0], w0.len(), b0),
            (16.0, 156, &[6.0, 7.0, 8.0, 9.0][..])
        );
        let (w2, b2) = found.layers[2];
        assert_eq!((w2[0], w2.len(), b2), (188.0, 8, &[14.0, 15.0][..]));
        assert!(Parts::of_values(&values[1..], &sizes).is_none());
        assert!(Weights::<4>::decode(&values, 3).is_none());
        let decoded = Weights::<4>::decode(&values, 2).unwrap();
        assert_eq!(decoded.w2[0], [188.0, 189.0, 0.0]);
    }

    #[test]
    fn an_offset_of_zero_is_the_initial_decay() {
        for b in [0.9, 0.99, 0.999] {
            assert!((f64::from(decay(0.0, b)) - b).abs() < 1e-7);
        }
    }
}
