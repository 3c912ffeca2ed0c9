use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};

/// The random number generator of the project: ChaCha with 8 rounds, which gives the same numbers
/// on every machine.
pub type Rng = rand_chacha::ChaCha8Rng;

/// What random numbers are used for. Each purpose has its own streams, so that draws for one never
/// affect another. The discriminants are part of the checkpoint format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// The initial θ.
    ThetaInit = 1,
    /// Perturbations ξ of θ.
    Perturbation = 2,
    /// Sampling of tasks from a family.
    TaskSample = 3,
    /// The initial inner parameters φ.
    ParamsInit = 4,
    /// Minibatches of the inner training.
    InnerBatch = 5,
    /// The length of an unroll.
    Horizon = 6,
    /// All draws of a held-out evaluation during meta-training.
    HeldOut = 7,
    /// All draws of an evaluation protocol.
    Evaluation = 8,
    /// Resampling in statistics.
    Bootstrap = 9,
    /// The check of a task's second derivatives.
    HessianCheck = 10,
    /// All draws of a study of gradient estimators.
    GradStudy = 11,
    /// All draws of a stability study.
    Stability = 12,
}

/// The random streams of one seed, each identified by a purpose and three counters.
///
/// The cipher's key holds (seed, purpose, a, b) and its stream number is c, so streams can be
/// created in any order and on any thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streams {
    seed: u64,
}

impl Streams {
    /// Creates the streams of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Returns the stream of (purpose, a, b, c).
    pub fn stream(&self, purpose: Purpose, a: u64, b: u64, c: u64) -> Rng {
        let mut key = [0; 32];
        for (part, word) in key
            .chunks_exact_mut(8)
            .zip([self.seed, purpose as u64, a, b])
        {
            part.copy_from_slice(&word.to_le_bytes());
        }
        let mut rng = Rng::from_seed(key);
        rng.set_stream(c);
        rng
    }
}

/// Draws from N(0, 1).
pub fn normal(rng: &mut Rng) -> f32 {
    StandardNormal.sample(rng)
}

/// Draws from N(0, 1) truncated to [−2, 2], by rejection.
pub fn truncated_normal(rng: &mut Rng) -> f32 {
    loop {
        let draw = normal(rng);
        if draw.abs() <= 2.0 {
            return draw;
        }
    }
}

/// Draws from the log-uniform distribution on [`low`, `high`], where both are above 0.
pub fn log_uniform(rng: &mut Rng, low: f64, high: f64) -> f64 {
    let (low, high) = (low.ln(), high.ln());
    (low + (high - low) * rng.random::<f64>()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(a: u64, b: u64, c: u64, purpose: Purpose, seed: u64) -> u32 {
        normal(&mut Streams::new(seed).stream(purpose, a, b, c)).to_bits()
    }

    #[test]
    fn every_counter_matters_and_nothing_else() {
        use Purpose::{InnerBatch, Perturbation};
        let all = [
            first(0, 0, 0, Perturbation, 1),
            first(1, 0, 0, Perturbation, 1),
            first(0, 1, 0, Perturbation, 1),
            first(0, 0, 1, Perturbation, 1),
            first(0, 0, 0, InnerBatch, 1),
            first(0, 0, 0, Perturbation, 2),
        ];
        let mut distinct = all.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(all[0], first(0, 0, 0, Perturbation, 1));
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut rng = Streams::new(0).stream(Purpose::ThetaInit, 0, 0, 0);
        let n = 100_000;
        let variance = |draws: &[f32]| {
            draws.iter().map(|x| f64::from(x * x)).sum::<f64>() / draws.len() as f64
        };
        let draws: Vec<_> = (0..n).map(|_| normal(&mut rng)).collect();
        // The standard error of the variance is √(2/n) = 0.0045.
        assert!((variance(&draws) - 1.0).abs() < 0.02);
        let draws: Vec<_> = (0..n).map(|_| truncated_normal(&mut rng)).collect();
        // 1 − 4·φ(2)/(2Φ(2) − 1) = 0.7737
        assert!((variance(&draws) - 0.7737).abs() < 0.02);
        assert!(draws.iter().all(|x| x.abs() <= 2.0));
    }
}
