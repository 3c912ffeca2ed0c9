//! The arithmetic of evolution strategies: meta-gradients from the losses of antithetic pairs.

use serde::{Deserialize, Serialize};

use super::pair::StepRecord;

/// The meta-gradient of one antithetic pair by persistent evolution strategies (PES).
///
/// ĝ = \[ D_before · (ξ_acc + ξ) + D_after · ξ \] / (2σ²)
///
/// D_before and D_after are the sums of ℓ⁺ − ℓ⁻ over the steps before the unroll ended and from
/// the step that ended it on, divided by the number of unmasked steps. Without an end, D_after
/// is 0.
///
/// # Arguments
/// * `records`: the steps of the truncation, with the losses ℓ⁺ and ℓ⁻ of θ + ξ and θ − ξ
/// * `accumulated`: ξ_acc, the sum of the perturbations of earlier truncations of the unroll
/// * `fresh`: ξ, the perturbation of this truncation
/// * `sigma`: σ, the standard deviation of the perturbations
/// * `sign`: if given, each ℓ⁺ − ℓ⁻ is replaced by sign(Σ (ℓ⁺ − ℓ⁻)) · `sign`
///
/// Returns ĝ and the accumulator of the next truncation: ξ_acc + ξ, or ξ after an end. The
/// vectors have one entry for each meta-parameter. ĝ is unbiased for the smoothed meta-loss of
/// whole unrolls if `sign` is `None`.
///
/// # Example
/// ```
/// use lopt_meta::{StepRecord, pes_gradient};
///
/// let step = StepRecord { losses: [1.5, 1.25], done: false, masked: false };
/// let (gradient, accumulator) = pes_gradient(&[step; 2], &[0.5], &[0.25], 0.5, None);
/// // 0.25 · (0.5 + 0.25) / (2 · 0.5²)
/// assert_eq!((gradient, accumulator), (vec![0.375], vec![0.75]));
/// ```
///
/// Source: Vicol, Metz & Sohl-Dickstein 2021, arXiv 2112.13835, algorithm 2.
pub fn pes_gradient(
    records: &[StepRecord],
    accumulated: &[f64],
    fresh: &[f64],
    sigma: f64,
    sign: Option<f64>,
) -> (Vec<f64>, Vec<f64>) {
    let unmasked = || records.iter().filter(|record| !record.masked);
    let signed = sign.map(|scale| scaled_sign(unmasked().map(difference).sum(), scale));
    let mut ended = false;
    let (mut before, mut after) = (0.0, 0.0);
    for record in records {
        // As in the reference, the step that ends an unroll already counts to the new
        // perturbation.
        ended |= record.done;
        if !record.masked {
            let difference = signed.unwrap_or_else(|| difference(record));
            *(if ended { &mut after } else { &mut before }) += difference;
        }
    }
    let factor = 1.0 / (2.0 * sigma * sigma * unmasked().count().max(1) as f64);
    let total: Vec<f64> = accumulated.iter().zip(fresh).map(|(a, b)| a + b).collect();
    let gradient = total
        .iter()
        .zip(fresh)
        .map(|(t, f)| factor * (before * t + after * f));
    (
        gradient.collect(),
        if ended { fresh.to_vec() } else { total },
    )
}

/// The meta-gradient of one antithetic pair by truncated evolution strategies.
///
/// ĝ = (L̄⁺ − L̄⁻) · ξ / (2σ²) with the means L̄ of the unmasked losses.
///
/// The arguments are those of [`pes_gradient`]; if `sign` is given, L̄⁺ − L̄⁻ is replaced by its
/// sign times `sign`. ĝ has one entry for each meta-parameter. It is biased towards the short
/// term: it leaves out how θ influenced the state at the start of the truncation.
///
/// # Example
/// ```
/// use lopt_meta::{StepRecord, es_gradient};
///
/// let step = StepRecord { losses: [1.5, 1.25], done: false, masked: false };
/// // 0.25 · 0.25 / (2 · 0.5²)
/// assert_eq!(es_gradient(&[step; 2], &[0.25], 0.5, None), [0.125]);
/// ```
///
/// Source: Vicol, Metz & Sohl-Dickstein 2021, arXiv 2112.13835, algorithm 1.
pub fn es_gradient(
    records: &[StepRecord],
    fresh: &[f64],
    sigma: f64,
    sign: Option<f64>,
) -> Vec<f64> {
    let unmasked = || records.iter().filter(|record| !record.masked);
    let mean = unmasked().map(difference).sum::<f64>() / unmasked().count().max(1) as f64;
    along(
        sign.map_or(mean, |scale| scaled_sign(mean, scale)),
        fresh,
        sigma,
    )
}

/// The loss L of a whole unroll, from the losses of its steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnrollLoss {
    /// The mean.
    #[default]
    Mean,
    /// The lowest loss.
    Min,
    /// The last loss.
    Last,
}

impl UnrollLoss {
    /// The loss of an unroll of at least one step; NaN or infinite without any.
    pub fn of(self, losses: impl Iterator<Item = f64>) -> f64 {
        match self {
            UnrollLoss::Mean => {
                let (sum, n) = losses.fold((0.0, 0.0), |(sum, n), loss| (sum + loss, n + 1.0));
                sum / n
            }
            UnrollLoss::Min => losses.fold(f64::INFINITY, f64::min),
            UnrollLoss::Last => losses.last().unwrap_or(f64::NAN),
        }
    }
}

/// The meta-gradient of one antithetic pair by evolution strategies on whole unrolls.
///
/// ĝ = (L⁺ − L⁻) · ξ / (2σ²)
///
/// # Arguments
/// * `losses`: L⁺ and L⁻, see [`UnrollLoss`]; a difference that is not finite counts as 0
/// * `fresh`: ξ, the perturbation
/// * `sigma`: σ, the standard deviation of the perturbations
/// * `clip`: if given, L⁺ − L⁻ is first limited to ±`clip`
/// * `sign`: if given, L⁺ − L⁻ is then replaced by its sign times `sign`
///
/// ĝ has one entry for each meta-parameter. It is unbiased for the smoothed meta-loss if `clip`
/// and `sign` are `None`.
///
/// # Example
/// ```
/// use lopt_meta::full_es_gradient;
///
/// assert_eq!(full_es_gradient([1.5, 1.25], &[0.25], 0.5, None, None), [0.125]);
/// assert_eq!(full_es_gradient([1.5, 1.25], &[0.25], 0.5, Some(0.125), None), [0.0625]);
/// ```
///
/// Source: Vicol, Metz & Sohl-Dickstein 2021, arXiv 2112.13835.
pub fn full_es_gradient(
    losses: [f64; 2],
    fresh: &[f64],
    sigma: f64,
    clip: Option<f64>,
    sign: Option<f64>,
) -> Vec<f64> {
    let mut difference = losses[0] - losses[1];
    if !difference.is_finite() {
        difference = 0.0;
    }
    if let Some(clip) = clip {
        difference = difference.clamp(-clip, clip);
    }
    if let Some(scale) = sign {
        difference = scaled_sign(difference, scale);
    }
    along(difference, fresh, sigma)
}

fn along(difference: f64, fresh: &[f64], sigma: f64) -> Vec<f64> {
    let factor = difference / (2.0 * sigma * sigma);
    fresh.iter().map(|xi| factor * xi).collect()
}

fn difference(record: &StepRecord) -> f64 {
    f64::from(record.losses[0]) - f64::from(record.losses[1])
}

/// sign(x)·`scale`, with sign(0) = 0.
fn scaled_sign(x: f64, scale: f64) -> f64 {
    if x == 0.0 { 0.0 } else { scale * x.signum() }
}
