//! Statistics over seeds and tasks.

use lopt_core::{Purpose, Streams};
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// The mean of values; NaN if there are none.
pub fn mean<T: Into<f64>>(values: impl IntoIterator<Item = T>) -> f64 {
    let mut count = 0_usize;
    let counted = values.into_iter().map(|value| {
        count += 1;
        value.into()
    });
    counted.sum::<f64>() / count as f64
}

/// An estimate with a 95 % bootstrap interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The estimate from the data.
    pub estimate: f64,
    /// The 2.5 % and 97.5 % quantiles over resamples; `None` for fewer than five values, where
    /// they would be meaningless.
    pub bounds: Option<[f64; 2]>,
}

/// Minimum number of values for an interval.
const ENOUGH: usize = 5;

/// Number of bootstrap resamples.
const RESAMPLES: usize = 10_000;

/// The interquartile mean: the mean of the middle half of the values, with fractional weights at
/// its ends, so that the weights sum to n/2 for any n. It is robust to outliers like the median but
/// uses more of the data (Agarwal et al. 2021, arXiv 2108.13264). `None` if there are no values.
pub fn interquartile_mean(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let (start, end) = (n / 4.0, 3.0 * n / 4.0);
    let weighted = sorted.iter().enumerate().map(|(index, value)| {
        let index = index as f64;
        let weight = ((index + 1.0).min(end) - index.max(start)).max(0.0);
        weight * value
    });
    (!values.is_empty()).then(|| weighted.sum::<f64>() / (n / 2.0))
}

/// The interquartile mean with a percentile bootstrap interval over the values (tasks).
/// The resamples are the same in every call.
pub fn bootstrap_interquartile_mean(values: &[f64]) -> Option<Interval> {
    let estimate = interquartile_mean(values)?;
    if values.len() < ENOUGH {
        let bounds = None;
        return Some(Interval { estimate, bounds });
    }
    let mut rng = Streams::new(0).stream(Purpose::Bootstrap, 0, 0, 0);
    let n = values.len() as u32;
    let mut resampled: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            let sample: Vec<f64> = (0..n)
                .map(|_| values[rng.random_range(0..n) as usize])
                .collect();
            interquartile_mean(&sample)
        })
        .collect();
    resampled.sort_by(f64::total_cmp);
    let bounds = Some([0.025, 0.975].map(|q| quantile(&resampled, q)));
    Some(Interval { estimate, bounds })
}

/// The quantile of sorted values, by nearest rank.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * q).round() as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interquartile_means_by_hand() {
        assert_eq!(interquartile_mean(&[]), None);
        assert_eq!(interquartile_mean(&[3.0]), Some(3.0));
        let few = bootstrap_interquartile_mean(&[3.0; 4]).unwrap();
        assert_eq!((few.estimate, few.bounds), (3.0, None));
        assert_eq!(interquartile_mean(&[100.0, 1.0, 2.0, -50.0]), Some(1.5));
        // n = 3: 0.25 of the first, 1 of the second, 0.25 of the third, over 1.5.
        let iqm = interquartile_mean(&[0.0, 1.0, 2.0]).unwrap();
        assert!((iqm - 1.0).abs() < 1e-12);
        let iqm = interquartile_mean(&[0.0, 1.0, 8.0]).unwrap();
        assert!((iqm - (1.0 + 0.25 * 8.0) / 1.5).abs() < 1e-12);
    }

    /// For n normal values the interval of the interquartile mean is about ±1.96·1.09·σ/√n (its
    /// efficiency for normal data is 0.84).
    #[test]
    fn intervals_cover_as_they_should() {
        let n = 100;
        let mut covered = 0;
        let mut width = 0.0;
        let repeats = 60;
        for repeat in 0..repeats {
            let mut rng = Streams::new(1).stream(Purpose::Evaluation, repeat, 0, 0);
            let values: Vec<f64> = (0..n)
                .map(|_| f64::from(lopt_core::normal(&mut rng)))
                .collect();
            let interval = bootstrap_interquartile_mean(&values).unwrap();
            let [low, high] = interval.bounds.unwrap();
            covered += u32::from(low <= 0.0 && 0.0 <= high);
            width += (high - low) / repeats as f64;
        }
        assert!(covered >= 52, "{covered} of {repeats}");
        assert!((0.36..0.50).contains(&width), "{width}");
    }
}
