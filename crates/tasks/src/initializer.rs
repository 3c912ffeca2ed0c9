use lopt_core::{Rng, normal, truncated_normal};
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// The initial distribution of weights \[in, out\]; biases start at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Initializer {
    /// N(0, 2/in) (He et al. 2015)
    He,
    /// Uniform in ±√(6/(in + out)) (Glorot and Bengio 2010)
    Glorot,
    /// N(0, 1/in) truncated at ±2σ, as in haiku (LeCun et al. 1998)
    Lecun,
}

impl Initializer {
    /// Samples weights \[fan_in, fan_out\], row-major.
    pub fn sample(self, fan_in: usize, fan_out: usize, rng: &mut Rng) -> Vec<f32> {
        let per_input = |scale: f32| (scale / fan_in as f32).sqrt();
        let mut draw: Box<dyn FnMut() -> f32> = match self {
            Initializer::He => Box::new(|| per_input(2.0) * normal(rng)),
            Initializer::Lecun => Box::new(|| per_input(1.0) * truncated_normal(rng)),
            Initializer::Glorot => {
                let limit = (6.0 / (fan_in + fan_out) as f32).sqrt();
                Box::new(move || limit * rng.random_range(-1f32..1.0))
            }
        };
        (0..fan_in * fan_out).map(|_| draw()).collect()
    }
}

#[cfg(test)]
mod tests {
    use lopt_core::{Purpose, Streams};

    use super::*;

    #[test]
    fn variances() {
        let mut rng = Streams::new(0).stream(Purpose::ParamsInit, 0, 0, 0);
        let (fan_in, fan_out) = (200, 300);
        for (initializer, expected) in [
            (Initializer::He, 2.0 / 200.0),
            (Initializer::Glorot, 2.0 / 500.0),
            (Initializer::Lecun, 0.7737 / 200.0),
        ] {
            let w = initializer.sample(fan_in, fan_out, &mut rng);
            let variance = w.iter().map(|w| w * w).sum::<f32>() / w.len() as f32;
            assert!(
                (variance / expected - 1.0).abs() < 0.03,
                "{initializer:?}: {variance} {expected}"
            );
        }
    }
}
