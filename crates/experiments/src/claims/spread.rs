//! Values over several seeds.

use std::fmt;

use lopt_eval::{Curve, stats::mean};
use lopt_plot::{Color, Item, Shape};

use crate::Run;

/// The caption of figures of [`lines`].
pub const LINES: &str =
    "Lines: medians over meta-training seeds. Bands: from the lowest to the highest.";

/// The median and the range of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub lowest: f64,
    pub median: f64,
    pub highest: f64,
}

impl Spread {
    /// The spread of values; NaN if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let n = sorted.len();
        Self {
            lowest: at(0),
            median: (at(n.saturating_sub(1) / 2) + at(n / 2)) / 2.0,
            highest: at(n.saturating_sub(1)),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self {
            lowest,
            median,
            highest,
        } = self;
        write!(f, "{median:.4} [{lowest:.4}, {highest:.4}]")
    }
}

/// The standard deviation of a sample; NaN for fewer than two values.
pub fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values.iter().copied());
    let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
    (squares / (values.len() as f64 - 1.0)).sqrt()
}

/// A line through the medians, and a band from the lowest to the highest seed.
pub fn lines(color: Color, label: &str, spreads: &[(f64, Spread)]) -> [Item; 2] {
    let band = spreads.iter().map(|(x, s)| (*x, s.lowest, s.highest));
    let line = spreads.iter().map(|(x, s)| (*x, s.median));
    [
        Item::new(color, Shape::Band(band.collect())),
        Item::new(color, Shape::MarkedLine(line.collect())).labelled(label),
    ]
}

/// The mean held-out losses of all seeds at each evaluated outer step.
pub fn held_out(runs: &[Run]) -> Vec<(f64, Spread)> {
    let steps = runs.first().map_or(&[][..], |run| &run.held_out);
    let at = |(index, &(step, _)): (usize, &(u64, f64))| {
        let of_seed = |run: &Run| run.held_out.get(index).map_or(f64::NAN, |(_, loss)| *loss);
        (step as f64, Spread::of(runs.iter().map(of_seed)))
    };
    steps.iter().enumerate().map(at).collect()
}

/// Training runs that diverged, of all training runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diverged {
    pub diverged: u64,
    pub runs: u64,
}

impl Diverged {
    /// The count over the first `steps` steps of curves by optimizer and seed.
    pub fn of(curves: &[Vec<Curve>], steps: usize) -> Self {
        let all = curves.iter().flatten();
        let diverged = all.clone().filter(|curve| curve.diverged(steps));
        Self {
            diverged: diverged.count() as u64,
            runs: all.count() as u64,
        }
    }
}

impl std::iter::Sum for Diverged {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        let none = Self {
            diverged: 0,
            runs: 0,
        };
        counts.fold(none, |sum, count| Self {
            diverged: sum.diverged + count.diverged,
            runs: sum.runs + count.runs,
        })
    }
}

impl fmt::Display for Diverged {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.diverged, self.runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        assert_eq!(
            Spread::of([3.0, 1.0, 2.0]).to_string(),
            "2.0000 [1.0000, 3.0000]"
        );
        assert_eq!(Spread::of([4.0, 1.0]).median, 2.5);
        assert_eq!(Spread::of([7.0]).median, 7.0);
        assert!(Spread::of([]).median.is_nan());
        assert!((deviation(&[1.0, 2.0, 3.0]) - 1.0).abs() < 1e-12);
        assert!(deviation(&[1.0]).is_nan());
    }
}
