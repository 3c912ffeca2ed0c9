//! Median times of jobs that run alternately.

use std::time::{Duration, Instant};

/// Minimum duration of a sample; shorter jobs are repeated within it.
const SAMPLE: Duration = Duration::from_millis(20);

/// Median seconds per call of each job. The jobs run alternately, `rounds` times, so that other
/// load on the machine affects all of them.
pub fn medians<const N: usize>(rounds: usize, mut jobs: [&mut dyn FnMut(); N]) -> [f64; N] {
    let calls = jobs.each_mut().map(|job| calls_per_sample(*job));
    let mut samples = [const { vec![] }; N];
    for _ in 0..rounds {
        for ((job, calls), samples) in jobs.iter_mut().zip(calls).zip(&mut samples) {
            let start = Instant::now();
            (0..calls).for_each(|_| job());
            samples.push(start.elapsed().as_secs_f64() / f64::from(calls));
        }
    }
    samples.map(median)
}

fn calls_per_sample(job: &mut dyn FnMut()) -> u32 {
    job();
    let start = Instant::now();
    job();
    let once = start.elapsed().as_secs_f64().max(1e-9);
    (SAMPLE.as_secs_f64() / once).ceil() as u32
}

/// The median; of two middle values the larger.
///
/// # Panics
/// Panics if `values` is empty.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
