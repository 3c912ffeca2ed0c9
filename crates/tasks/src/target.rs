//! What a network predicts, with the loss that measures it.

use candle_core::Tensor;
use lopt_core::Result;

use crate::{classification, classification::TestRun};

/// The bound of the normalized squared error, in units of the targets' variance.
const CEILING: f32 = 1.5;

/// What a network predicts for each row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    /// One of so many classes; the loss is the cross-entropy.
    Class(usize),
    /// Real numbers; the loss is the mean squared error.
    Values {
        count: usize,
        /// The loss of predicting the mean of the training targets.
        variance: f32,
    },
}

impl Target {
    /// The number of a network's outputs for each row.
    pub fn outputs(self) -> usize {
        match self {
            Self::Class(count) | Self::Values { count, .. } => count,
        }
    }

    /// The loss of `outputs` \[rows, outputs\], a scalar; `targets` is \[rows\] of u32 for classes,
    /// else \[rows, outputs\].
    pub fn loss(self, outputs: &Tensor, targets: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Class(_) => candle_nn::loss::cross_entropy(outputs, targets)?,
            Self::Values { .. } => (outputs - targets)?.sqr()?.mean_all()?,
        })
    }

    /// See [`Task::normalize`](crate::Task::normalize).
    pub fn normalize(self, loss: f32) -> f32 {
        match self {
            Self::Class(classes) => classification::normalize(loss, classes),
            Self::Values { variance, .. } if loss.is_finite() => {
                (loss / variance).clamp(0.0, CEILING)
            }
            Self::Values { .. } => CEILING,
        }
    }

    /// The derivative of [`Target::normalize`].
    pub fn normalize_slope(self, loss: f32) -> f32 {
        match self {
            Self::Class(classes) => f32::from(classification::normalize(loss, classes) == loss),
            Self::Values { variance, .. } => {
                let inside = (0.0..=CEILING).contains(&(loss / variance));
                if inside { 1.0 / variance } else { 0.0 }
            }
        }
    }

    /// Adds predictions for test rows to `run`.
    pub fn test(self, run: &mut TestRun, outputs: &Tensor, targets: &Tensor) -> Result<()> {
        match self {
            Self::Class(_) => run.add(outputs, targets),
            Self::Values { variance, .. } => {
                let loss = self.loss(outputs, targets)?.to_scalar::<f32>()?;
                let rows = targets.dim(0)?;
                let explained = 1.0 - f64::from(loss / variance);
                run.add_part(rows, loss, explained * rows as f64);
                Ok(())
            }
        }
    }
}

/// Sums over rows, for the variance of each column.
pub(crate) struct Sums {
    rows: usize,
    of_values: Vec<f64>,
    of_squares: f64,
}

impl Sums {
    pub fn new(columns: usize) -> Self {
        Self {
            rows: 0,
            of_values: vec![0.0; columns],
            of_squares: 0.0,
        }
    }

    pub fn add(&mut self, row: &[f32]) {
        self.rows += 1;
        for (sum, &value) in self.of_values.iter_mut().zip(row) {
            *sum += f64::from(value);
            self.of_squares += f64::from(value) * f64::from(value);
        }
    }

    /// The mean over columns of their variances.
    pub fn variance(&self) -> f32 {
        let n = self.rows as f64;
        let of_means: f64 = self.of_values.iter().map(|sum| (sum / n).powi(2)).sum();
        ((self.of_squares / n - of_means) / self.of_values.len() as f64) as f32
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Predicting the mean has the normalized loss 1 and explains nothing.
    #[test]
    fn squared_errors_are_relative_to_the_variance() {
        let rows = [[1f32, 0.0], [3.0, 0.0], [2.0, 6.0]];
        let mut sums = Sums::new(2);
        rows.iter().for_each(|row| sums.add(row));
        let variance = sums.variance();
        // (2/3 + 8)/2
        assert!((variance - 13.0 / 3.0).abs() < 1e-5, "{variance}");
        let target = Target::Values { count: 2, variance };
        let targets = Tensor::new(&rows, &Device::Cpu).unwrap();
        let mean = Tensor::new(&[[2f32, 2.0]; 3], &Device::Cpu).unwrap();
        let loss: f32 = target.loss(&mean, &targets).unwrap().to_scalar().unwrap();
        assert!((target.normalize(loss) - 1.0).abs() < 1e-5);
        assert!((target.normalize_slope(loss) - 3.0 / 13.0).abs() < 1e-5);
        for bad in [f32::NAN, f32::INFINITY, 1e30] {
            assert_eq!(
                (target.normalize(bad), target.normalize_slope(bad)),
                (1.5, 0.0)
            );
        }
        let accuracy = |outputs: &Tensor| {
            let mut run = TestRun::default();
            target.test(&mut run, outputs, &targets).unwrap();
            run.score().accuracy
        };
        assert_eq!(accuracy(&targets), 1.0);
        assert!(accuracy(&mean) < 1e-5);
        assert_eq!(accuracy(&(mean * 1e3).unwrap()), 0.0);
    }
}
