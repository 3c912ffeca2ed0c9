use serde::{Deserialize, Serialize};

/// The configuration of the [`OuterOptimizer`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OuterConfig {
    /// The number of outer steps of the run.
    pub steps: u64,
    /// The peak learning rate.
    pub learning_rate: f64,
    /// The weight decay λ. It applies to all of θ: the MLP's weights and biases and the decay
    /// offsets δ.
    pub weight_decay: f64,
    /// How λ is applied.
    pub decay: Decay,
    /// How the meta-gradient is clipped.
    pub clip: Clip,
    /// The number of outer steps over which the learning rate increases linearly.
    pub warm_up: u64,
    /// The learning rate after the warm-up.
    pub schedule: Schedule,
}

/// How the weight decay λ is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// AdamW: θ ← θ − lr·(Adam's direction + λθ).
    Decoupled,
    /// L2 regularization: λθ is added to the meta-gradient before clipping.
    Coupled,
}

/// How the meta-gradient is clipped.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "kind")]
pub enum Clip {
    /// Clips each coordinate to \[−max, max\].
    PerCoordinate {
        /// The limit.
        max: f64,
    },
    /// Scales the gradient down to a Euclidean norm of at most max.
    GlobalNorm {
        /// The limit.
        max: f64,
    },
    /// No clipping.
    Off,
}

/// The learning rate after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// The peak learning rate.
    Constant,
    /// Decreases to 0 at the last outer step along half a cosine.
    Cosine,
}

impl Clip {
    /// Clips `gradient` in place.
    pub fn apply(self, gradient: &mut [f64]) {
        match self {
            Clip::PerCoordinate { max } => {
                gradient.iter_mut().for_each(|g| *g = g.clamp(-max, max));
            }
            Clip::GlobalNorm { max } => {
                let norm = norm(gradient);
                if norm > max {
                    gradient.iter_mut().for_each(|g| *g *= max / norm);
                }
            }
            Clip::Off => {}
        }
    }
}

/// Returns the Euclidean norm.
pub fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// AdamW, or Adam with L2 regularization, on θ.
///
/// m ← β₁·m + (1 − β₁)·g, v ← β₂·v + (1 − β₂)·g²,
/// θ ← θ − lr · ( (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε) + λθ ), t = 1, 2, …
///
/// g is the clipped meta-gradient, β₁ = 0.9, β₂ = 0.999, ε = 1e-8. With [`Decay::Coupled`], λθ is
/// added to the meta-gradient instead. Everything is computed in f64, and θ is rounded to f32.
///
/// ```
/// use lopt_meta::{Clip, Decay, OuterConfig, OuterOptimizer, Schedule};
///
/// let config = OuterConfig {
///     steps: 10,
///     learning_rate: 0.1,
///     weight_decay: 0.5,
///     decay: Decay::Decoupled,
///     clip: Clip::Off,
///     warm_up: 0,
///     schedule: Schedule::Constant,
/// };
/// let theta = OuterOptimizer::new(config, 1).update(&[1.0], vec![1e-3]);
/// assert!((theta[0] - (1.0 - 0.1 * (1.0 + 0.5))).abs() < 1e-5);
/// ```
///
/// Source: Loshchilov and Hutter 2019, arXiv 1711.05101.
#[derive(Clone, Debug)]
pub struct OuterOptimizer {
    config: OuterConfig,
    /// The number of outer steps taken.
    pub step: u64,
    /// The first moment m.
    pub m: Vec<f64>,
    /// The second moment v.
    pub v: Vec<f64>,
}

impl OuterOptimizer {
    /// Creates the optimizer for `n` meta-parameters.
    pub fn new(config: OuterConfig, n: usize) -> Self {
        Self {
            config,
            step: 0,
            m: vec![0.0; n],
            v: vec![0.0; n],
        }
    }

    /// Returns the learning rate of the next step.
    pub fn learning_rate(&self) -> f64 {
        let OuterConfig {
            learning_rate,
            warm_up,
            steps,
            ..
        } = self.config;
        if self.step < warm_up {
            return learning_rate * (self.step + 1) as f64 / warm_up as f64;
        }
        match self.config.schedule {
            Schedule::Constant => learning_rate,
            Schedule::Cosine => {
                let total = (steps.max(warm_up + 1) - warm_up) as f64;
                let done = ((self.step - warm_up) as f64 / total).min(1.0);
                learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
        }
    }

    /// Returns θ after a step with the meta-gradient `gradient`.
    pub fn update(&mut self, theta: &[f32], mut gradient: Vec<f64>) -> Vec<f32> {
        let lr = self.learning_rate();
        let lambda = self.config.weight_decay;
        let (coupled, decoupled) = match self.config.decay {
            Decay::Coupled => (lambda, 0.0),
            Decay::Decoupled => (0.0, lambda),
        };
        for (g, &w) in gradient.iter_mut().zip(theta) {
            *g += coupled * f64::from(w);
        }
        self.config.clip.apply(&mut gradient);
        self.step += 1;
        let correct1 = 1.0 - BETA1.powf(self.step as f64);
        let correct2 = 1.0 - BETA2.powf(self.step as f64);
        let moments = self.m.iter_mut().zip(&mut self.v);
        theta
            .iter()
            .zip(&gradient)
            .zip(moments)
            .map(|((&w, &g), (m, v))| {
                *m = BETA1 * *m + (1.0 - BETA1) * g;
                *v = BETA2 * *v + (1.0 - BETA2) * g * g;
                let direction = (*m / correct1) / ((*v / correct2).sqrt() + EPSILON);
                let w = f64::from(w);
                (w - lr * (direction + decoupled * w)) as f32
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> OuterConfig {
        OuterConfig {
            steps: 10,
            learning_rate: 0.1,
            weight_decay: 0.5,
            decay: Decay::Decoupled,
            clip: Clip::Off,
            warm_up: 0,
            schedule: Schedule::Constant,
        }
    }

    /// The first step of Adam is lr·sign(g) for any |g|; AdamW adds lr·λ·θ.
    #[test]
    fn first_steps_by_hand() {
        let mut outer = OuterOptimizer::new(config(), 2);
        let theta = outer.update(&[1.0, -2.0], vec![1e-3, -50.0]);
        assert!((theta[0] - (1.0 - 0.1 - 0.05)).abs() < 1e-5, "{theta:?}");
        assert!((theta[1] - (-2.0 + 0.1 + 0.1)).abs() < 1e-5, "{theta:?}");

        // Coupled: g = 1e-3 + 0.5·1 > 0 and −0.9 + 0.5·(−2) < 0, no other decay.
        let mut outer = OuterOptimizer::new(
            OuterConfig {
                decay: Decay::Coupled,
                ..config()
            },
            2,
        );
        let theta = outer.update(&[1.0, -2.0], vec![1e-3, 0.9]);
        assert!(
            (theta[0] - 0.9).abs() < 1e-5 && (theta[1] + 1.9).abs() < 1e-5,
            "{theta:?}"
        );
    }

    #[test]
    fn clipping() {
        let clipped = |clip: Clip| {
            let mut g = vec![-4.0, 3.0, 0.0];
            clip.apply(&mut g);
            g
        };
        assert_eq!(clipped(Clip::PerCoordinate { max: 3.5 }), [-3.5, 3.0, 0.0]);
        assert_eq!(
            clipped(Clip::GlobalNorm { max: 1.0 }),
            [-0.8, 0.6000000000000001, 0.0]
        );
        assert_eq!(clipped(Clip::GlobalNorm { max: 6.0 }), [-4.0, 3.0, 0.0]);
        assert_eq!(clipped(Clip::Off), [-4.0, 3.0, 0.0]);
    }

    #[test]
    fn warm_up_and_cosine() {
        let config = OuterConfig {
            warm_up: 4,
            schedule: Schedule::Cosine,
            ..config()
        };
        let mut outer = OuterOptimizer::new(config, 1);
        let mut rates = vec![];
        for _ in 0..10 {
            rates.push(outer.learning_rate());
            outer.update(&[0.0], vec![1.0]);
        }
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(
            near(rates[0], 0.025) && near(rates[3], 0.1) && near(rates[4], 0.1),
            "{rates:?}"
        );
        assert!(near(rates[7], 0.05), "{rates:?}");
        assert!(near(outer.learning_rate(), 0.0));
    }
}
