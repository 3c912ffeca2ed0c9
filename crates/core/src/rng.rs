use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};

/// The random generator of the whole project: ChaCha with 8 rounds, the same numbers on
/// every machine.
pub type Rng = rand_chacha::ChaCha8Rng;

/// What random numbers are for. Each purpose has streams of its own, so that drawing
/// more of one never moves another. The numbers are part of the checkpoint format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// The initial θ.
    ThetaInit = 1,
    /// Perturbations ξ of θ.
    Perturbation = 2,
    /// Which task a family yields.
    TaskSample = 3,
    /// The initial inner parameters φ.
    ParamsInit = 4,
    /// Minibatches of the inner training.
    InnerBatch = 5,
    /// How long an unroll is.
    Horizon = 6,
    /// Everything of a held-out evaluation during meta-training.
    HeldOut = 7,
    /// Everything of an evaluation protocol.
    Evaluation = 8,
    /// Resampling in statistics.
    Bootstrap = 9,
    /// The check of a task's second derivatives.
    HessianCheck = 10,
    /// Everything of a study of gradient estimators.
    GradStudy = 11,
    /// Everything of a study of stability.
    Stability = 12,
}

/// Random streams of one seed: each is keyed by purpose and three counters.
///
/// The key of the cipher holds (seed, purpose, a, b) and its stream number is c, so any
/// stream is reached directly, in any order, on any thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streams {
    seed: u64,
}

impl Streams {
    /// All streams of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The stream of (purpose, a, b, c).
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

/// A draw of N(0, 1).
pub fn normal(rng: &mut Rng) -> f32 {
    StandardNormal.sample(rng)
}

/// A draw of N(0, 1) restricted to [−2, 2], by rejection.
pub fn truncated_normal(rng: &mut Rng) -> f32 {
    loop {
        let draw = normal(rng);
        if draw.abs() <= 2.0 {
            return draw;
        }
    }
}

/// A draw whose logarithm is uniform between those of `low` and `high`, both above 0.
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
