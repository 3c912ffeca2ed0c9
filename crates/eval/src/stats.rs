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
    /// The 2.5 % and 97.5 % quantiles over resamples; `None` if there are too few values to
    /// resample: fewer than five tasks, or one seed.
    pub bounds: Option<[f64; 2]>,
}

/// Minimum number of values for an interval.
const ENOUGH: usize = 5;

/// Number of bootstrap resamples of tasks.
const RESAMPLES: usize = 10_000;

/// Number of bootstrap resamples of seeds.
const SEED_RESAMPLES: usize = 1000;

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
    let resampled = (0..RESAMPLES).filter_map(|_| {
        let sample: Vec<f64> = (0..n)
            .map(|_| values[rng.random_range(0..n) as usize])
            .collect();
        interquartile_mean(&sample)
    });
    let bounds = Some(percentiles(resampled.collect()));
    Some(Interval { estimate, bounds })
}

/// The choices of seeds that a bootstrap draws with replacement for a task, each in ascending
/// order. They are the same in every call, and independent of those for other tasks.
///
/// One seed cannot be resampled: there are no choices then.
pub fn seed_resamples(task: u64, seeds: u64) -> Vec<Vec<usize>> {
    if seeds < 2 {
        return vec![];
    }
    let mut rng = Streams::new(0).stream(Purpose::Bootstrap, 1, task, 0);
    let choices = (0..SEED_RESAMPLES).map(|_| {
        let draw = |_| rng.random_range(0..seeds) as usize;
        let mut choice: Vec<usize> = (0..seeds).map(draw).collect();
        choice.sort_unstable();
        choice
    });
    choices.collect()
}

/// A value measured on a task, for all seeds and for each choice of seeds in [`seed_resamples`].
#[derive(Clone, Debug, PartialEq)]
pub struct Resampled {
    /// The value for all seeds.
    pub estimate: f64,
    /// The value for each choice of seeds.
    pub resampled: Vec<f64>,
}

impl Resampled {
    /// Applies `change` to every value.
    pub fn map(&self, change: impl Fn(f64) -> f64) -> Self {
        Self {
            estimate: change(self.estimate),
            resampled: self.resampled.iter().copied().map(change).collect(),
        }
    }
}

/// A statistic over the values of tasks, with a percentile bootstrap interval over the seeds within
/// each task. The tasks are the same in all resamples: the interval says how much the statistic depends
/// on the seeds, not on the choice of tasks (Agarwal et al. 2021, arXiv 2108.13264).
pub fn stratified_bootstrap(
    tasks: &[Resampled],
    statistic: impl Fn(&[f64]) -> Option<f64>,
) -> Option<Interval> {
    let estimates: Vec<f64> = tasks.iter().map(|task| task.estimate).collect();
    let estimate = statistic(&estimates)?;
    let resamples = tasks.iter().map(|task| task.resampled.len()).min()?;
    let resampled = (0..resamples).filter_map(|index| {
        let of_tasks = tasks.iter().map(|task| task.resampled[index]);
        statistic(&of_tasks.collect::<Vec<f64>>())
    });
    let bounds = (resamples > 0).then(|| percentiles(resampled.collect()));
    Some(Interval { estimate, bounds })
}

/// The 2.5 % and 97.5 % quantiles.
fn percentiles(mut values: Vec<f64>) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    [0.025, 0.975].map(|q| quantile(&values, q))
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

    #[test]
    fn seeds_are_resampled_for_each_task() {
        assert!(seed_resamples(0, 1).is_empty());
        let choices = seed_resamples(0, 3);
        assert_eq!(choices, seed_resamples(0, 3));
        assert_ne!(choices, seed_resamples(1, 3));
        assert!(choices.iter().all(|c| c.len() == 3 && c.is_sorted()));
        // Of 27 draws 6 are a permutation of all seeds; 4 standard errors are 0.053.
        let all = choices.iter().filter(|c| **c == [0, 1, 2]).count();
        let share = all as f64 / choices.len() as f64;
        assert!((share - 6.0 / 27.0).abs() < 0.053, "{share}");
    }

    /// The mean over T tasks of the mean over S seeds has the standard error σ/√(T·S); resampling S
    /// of S seeds shows √((S − 1)/S) of it.
    #[test]
    fn stratified_intervals_are_as_wide_as_they_should() {
        let (tasks, seeds) = (200, 5);
        let mut rng = Streams::new(2).stream(Purpose::Evaluation, 0, 0, 0);
        let of_tasks: Vec<Resampled> = (0..tasks)
            .map(|task| {
                let values: Vec<f64> = (0..seeds)
                    // Tasks differ by much more than seeds do, which must not matter.
                    .map(|_| 50.0 * task as f64 + f64::from(lopt_core::normal(&mut rng)))
                    .collect();
                let of = |choice: &Vec<usize>| mean(choice.iter().map(|&seed| values[seed]));
                Resampled {
                    estimate: mean(values.iter().copied()),
                    resampled: seed_resamples(task, seeds).iter().map(of).collect(),
                }
            })
            .collect();
        let average = |values: &[f64]| Some(mean(values.iter().copied()));
        let found = stratified_bootstrap(&of_tasks, average).unwrap();
        let [low, high] = found.bounds.unwrap();
        assert!(low < found.estimate && found.estimate < high);
        let expected = 2.0 * 1.96 * (0.8 / (tasks * seeds) as f64).sqrt();
        let width = high - low;
        assert!(
            (0.85..1.15).contains(&(width / expected)),
            "{width} {expected}"
        );
        // One seed: an estimate without an interval.
        let one = Resampled {
            estimate: 3.0,
            resampled: vec![],
        };
        let found = stratified_bootstrap(&[one], interquartile_mean).unwrap();
        assert_eq!((found.estimate, found.bounds), (3.0, None));
        assert_eq!(stratified_bootstrap(&[], interquartile_mean), None);
    }
}
