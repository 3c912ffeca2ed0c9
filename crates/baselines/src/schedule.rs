use lopt_core::StepContext;

/// A schedule of the learning rate: linear warm-up, then cosine decay to 0 at the horizon.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WarmUpCosine {
    /// The fraction of the horizon for the warm-up, which takes at least one step unless this is 0.
    pub warm_up: f64,
}

impl WarmUpCosine {
    /// Returns the factor of the learning rate for a step; 1 if the horizon is unknown.
    ///
    /// ```
    /// use lopt_baselines::WarmUpCosine;
    /// use lopt_core::StepContext;
    ///
    /// let schedule = WarmUpCosine { warm_up: 0.1 };
    /// let factor = |step| schedule.factor(&StepContext::new(step, 1e-3).with_horizon(100));
    /// assert_eq!((factor(4), factor(9), factor(10)), (0.5, 1.0, 1.0));
    /// assert!((factor(55) - 0.5).abs() < 1e-12 && factor(100) == 0.0);
    /// ```
    pub fn factor(&self, context: &StepContext) -> f64 {
        let Some(horizon) = context.horizon else {
            return 1.0;
        };
        let warm_up = match self.warm_up {
            0.0 => 0,
            fraction => ((fraction * horizon as f64).round() as u64).max(1),
        };
        let cosine = lopt_core::Schedule::Cosine {
            warm_up,
            steps: horizon,
            end: 0.0,
        };
        cosine.factor(context.step)
    }

    /// Returns the same step with the scheduled learning rate.
    pub(crate) fn apply(&self, context: &StepContext) -> StepContext {
        StepContext {
            learning_rate: context.learning_rate * self.factor(context),
            ..*context
        }
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::*;

    fn factors(warm_up: f64, horizon: u64) -> Vec<f64> {
        let at = |step| StepContext::new(step, 1.0).with_horizon(horizon);
        let factor = |step| WarmUpCosine { warm_up }.factor(&at(step));
        (0..horizon + 2).map(factor).collect()
    }

    #[test]
    fn the_warm_up_is_linear_and_the_decay_a_cosine() {
        let found = factors(0.5, 8);
        let cosine = |progress: f64| (1.0 + (PI * progress).cos()) / 2.0;
        let expected = [
            0.25,
            0.5,
            0.75,
            1.0,
            1.0,
            cosine(0.25),
            0.5,
            cosine(0.75),
            0.0,
            0.0,
        ];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        // Without a warm-up the first step has the peak rate.
        assert_eq!(factors(0.0, 2)[0], 1.0);
        assert!((factors(0.0, 2)[1] - 0.5).abs() < 1e-12);
    }

    #[test]
    fn the_shortest_runs_have_a_rate() {
        assert_eq!(factors(0.05, 1), [1.0, 0.0, 0.0]);
        assert_eq!(factors(0.05, 2), [1.0, 1.0, 0.0, 0.0]);
        // 5 % of 40 steps are 2.
        assert_eq!(factors(0.05, 40)[..3], [0.5, 1.0, 1.0]);
    }

    #[test]
    fn without_a_horizon_the_rate_is_constant() {
        for step in [0, 7, 1_000_000] {
            let context = StepContext::new(step, 0.3);
            assert_eq!(WarmUpCosine { warm_up: 0.05 }.apply(&context), context);
        }
    }
}
