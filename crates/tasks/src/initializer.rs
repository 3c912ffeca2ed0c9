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
    /// A random matrix with orthonormal columns, or rows if there are fewer rows (Saxe et al. 2014)
    Orthogonal,
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
            Initializer::Orthogonal => return orthogonal(fan_in, fan_out, rng),
        };
        (0..fan_in * fan_out).map(|_| draw()).collect()
    }
}

/// Orthonormalizes normal vectors, the shorter dimension of \[rows, columns\] one after the other.
fn orthogonal(rows: usize, columns: usize, rng: &mut Rng) -> Vec<f32> {
    let (count, length) = (rows.min(columns), rows.max(columns));
    let mut vectors: Vec<Vec<f64>> = vec![];
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for _ in 0..count {
        let mut v: Vec<f64> = (0..length).map(|_| normal(rng).into()).collect();
        // Once leaves rounding errors; twice does not.
        for _ in 0..2 {
            for other in &vectors {
                let along = dot(&v, other);
                v.iter_mut().zip(other).for_each(|(v, o)| *v -= along * o);
            }
        }
        let norm = dot(&v, &v).sqrt();
        v.iter_mut().for_each(|v| *v /= norm);
        vectors.push(v);
    }
    let at = |row: usize, column: usize| match rows >= columns {
        true => vectors[column][row],
        false => vectors[row][column],
    };
    let all = (0..rows * columns).map(|i| at(i / columns, i % columns) as f32);
    all.collect()
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

    /// WᵀW = 1, or WWᵀ = 1 for a wide matrix.
    #[test]
    fn orthogonal_weights() {
        let mut rng = Streams::new(0).stream(Purpose::ParamsInit, 0, 0, 0);
        for (rows, columns) in [(7, 4), (4, 7), (6, 6)] {
            let w = Initializer::Orthogonal.sample(rows, columns, &mut rng);
            let at = |row: usize, column: usize| w[row * columns + column];
            let product = |a: usize, b: usize| -> f32 {
                match rows >= columns {
                    true => (0..rows).map(|i| at(i, a) * at(i, b)).sum(),
                    false => (0..columns).map(|i| at(a, i) * at(b, i)).sum(),
                }
            };
            for (a, b) in (0..rows.min(columns)).flat_map(|a| (0..=a).map(move |b| (a, b))) {
                let expected = if a == b { 1.0 } else { 0.0 };
                assert!((product(a, b) - expected).abs() < 1e-6, "{a} {b}");
            }
        }
    }
}
