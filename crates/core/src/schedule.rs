use std::{f64::consts::PI, fmt, sync::Arc};

use crate::{Error, Result};

/// A factor of the learning rate that depends on the step t = 0, 1, 2, …
///
/// The warm-up is linear: the factor is (t + 1) / `warm_up` while t < `warm_up`.
///
/// ```
/// use lopt_core::Schedule;
///
/// let schedule = Schedule::Cosine { warm_up: 10, steps: 110, end: 0.0 };
/// assert_eq!((schedule.factor(4), schedule.factor(10)), (0.5, 1.0));
/// assert!((schedule.factor(60) - 0.5).abs() < 1e-12);
/// assert_eq!(schedule.factor(1000), 0.0);
/// let halves = Schedule::own(|step| 0.5f64.powf((step / 30) as f64));
/// assert_eq!(halves.factor(65), 0.25);
/// ```
#[derive(Clone)]
pub enum Schedule {
    /// Warm-up, then 1.
    Constant {
        /// Steps of the warm-up.
        warm_up: u64,
    },
    /// Warm-up, then linear from 1 to `end` at step `steps`, then `end`.
    Linear {
        /// Steps of the warm-up.
        warm_up: u64,
        /// Steps in total, including the warm-up.
        steps: u64,
        /// The factor at the end.
        end: f64,
    },
    /// Warm-up, then half a cosine from 1 to `end` at step `steps`, then `end`.
    Cosine {
        /// Steps of the warm-up.
        warm_up: u64,
        /// Steps in total, including the warm-up.
        steps: u64,
        /// The factor at the end.
        end: f64,
    },
    /// Any function of the step.
    Own(Arc<dyn Fn(u64) -> f64 + Send + Sync>),
}

impl Default for Schedule {
    /// Returns the schedule that is always 1.
    fn default() -> Self {
        Schedule::Constant { warm_up: 0 }
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, warm_up, steps, end) = match self {
            Schedule::Constant { warm_up } => ("Constant", warm_up, None, None),
            Schedule::Linear {
                warm_up,
                steps,
                end,
            } => ("Linear", warm_up, Some(steps), Some(end)),
            Schedule::Cosine {
                warm_up,
                steps,
                end,
            } => ("Cosine", warm_up, Some(steps), Some(end)),
            Schedule::Own(_) => return f.write_str("Own(..)"),
        };
        f.debug_struct(name)
            .field("warm_up", warm_up)
            .field("steps", &steps)
            .field("end", &end)
            .finish()
    }
}

impl Schedule {
    /// A schedule by any function of the step.
    pub fn own(factor: impl Fn(u64) -> f64 + Send + Sync + 'static) -> Self {
        Schedule::Own(Arc::new(factor))
    }

    /// The factor for step `step`.
    pub fn factor(&self, step: u64) -> f64 {
        let warm_up = match *self {
            Schedule::Constant { warm_up }
            | Schedule::Linear { warm_up, .. }
            | Schedule::Cosine { warm_up, .. } => warm_up,
            Schedule::Own(ref factor) => return factor(step),
        };
        if step < warm_up {
            return (step + 1) as f64 / warm_up as f64;
        }
        // From 0 at the end of the warm-up to 1 at the end.
        let progress = |steps: u64| match step >= steps {
            true => 1.0,
            false => (step - warm_up) as f64 / (steps - warm_up) as f64,
        };
        match *self {
            Schedule::Linear { steps, end, .. } => 1.0 + (end - 1.0) * progress(steps),
            Schedule::Cosine { steps, end, .. } => {
                end + (1.0 - end) * 0.5 * (1.0 + (PI * progress(steps)).cos())
            }
            Schedule::Constant { .. } | Schedule::Own(_) => 1.0,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        match *self {
            Schedule::Linear { end, .. } | Schedule::Cosine { end, .. }
                if !(end.is_finite() && end >= 0.0) =>
            {
                Err(Error::Setting(format!(
                    "the schedule ends at the factor {end}; it must be finite and at least 0"
                )))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    #[test]
    fn by_hand() {
        let factors = |schedule: Schedule| (0..6).map(|t| schedule.factor(t)).collect::<Vec<_>>();
        assert_eq!(factors(Schedule::default()), [1.0; 6]);
        let warm = Schedule::Constant { warm_up: 4 };
        assert_eq!(factors(warm), [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
        let linear = Schedule::Linear {
            warm_up: 2,
            steps: 4,
            end: 0.5,
        };
        assert_eq!(factors(linear), [0.5, 1.0, 1.0, 0.75, 0.5, 0.5]);
        // An end before the end of the warm-up.
        let short = Schedule::Cosine {
            warm_up: 2,
            steps: 1,
            end: 0.1,
        };
        let found = factors(short);
        assert_eq!(found[..2], [0.5, 1.0]);
        assert!(found[2..].iter().all(|factor| (factor - 0.1).abs() < 1e-15));
        assert_eq!(factors(Schedule::own(|t| t as f64))[5], 5.0);
    }
}
