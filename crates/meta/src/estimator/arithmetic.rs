//! From the losses of antithetic pairs to meta-gradients: the arithmetic of evolution
//! strategies.

use serde::{Deserialize, Serialize};

use super::unroll::StepRecord;

/// The meta-gradient of one pair by PES and the perturbation it carries on.
///
/// ĝ = \[ L̄_before · ξ_acc + L̄_after · ξ_new \] / (2σ²), where L̄ are the sums of
/// (ℓ⁺ − ℓ⁻) before and after the unroll ended, divided by the number of unmasked steps,
/// and ξ_acc = `accumulated` + ξ_new. After an end the accumulator restarts from ξ_new.
/// With `sign` each difference is sign(Σ (ℓ⁺ − ℓ⁻))·`sign`. Returns (ĝ, the new
/// accumulator).
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
        // The step that ends an unroll counts to the new perturbation already, as in the
        // reference.
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

/// The meta-gradient of one pair by truncated ES: (L̄⁺ − L̄⁻)·ξ/(2σ²) with the means L̄ of
/// the unmasked losses.
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

/// Which loss of a whole unroll counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnrollLoss {
    /// The mean over its steps.
    #[default]
    Mean,
    /// The lowest.
    Min,
    /// The last.
    Last,
}

impl UnrollLoss {
    /// Of the losses of one half, of which there is at least one.
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

/// The meta-gradient of one pair by full-horizon ES, (L⁺ − L⁻)·ξ/(2σ²). The difference is
/// limited to ±`clip`, then replaced by its sign times `sign`, where they are given; one
/// that is not finite counts as 0.
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

/// 0 has no sign.
fn scaled_sign(x: f64, scale: f64) -> f64 {
    if x == 0.0 { 0.0 } else { scale * x.signum() }
}
