//! Maps values to positions on an axis and places its labels.

use crate::Axis;

/// An axis with both ends, as exponents of ten if it is logarithmic.
pub struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
    rows: Vec<String>,
}

/// A labeled position, from 0 at the low end to 1 at the high end.
pub struct Tick {
    pub at: f64,
    pub label: String,
}

/// A number n · 10^e, whose text is exact.
type Decimal = (i64, i32);
type Labels = Vec<(Decimal, String)>;

/// Whether the axis can show the value.
pub fn shows(axis: &Axis, value: f64) -> bool {
    value.is_finite() && (value > 0.0 || !axis.logarithmic)
}

impl Scale {
    /// A scale over `values`, each of which the axis [`shows`].
    pub fn new(axis: &Axis, values: impl Iterator<Item = f64>) -> Result<Self, String> {
        let unit = |value: f64| match axis.logarithmic {
            true => value.log10(),
            false => value,
        };
        let (low, high) = match axis.range {
            Some((low, high)) => (unit(low), unit(high)),
            None => around(values.map(unit), axis.logarithmic),
        };
        let span = high - low;
        // The labels could not distinguish closer ends.
        let least = 1e-11 * low.abs().max(high.abs());
        if !(span.is_finite() && span > least.max(1e-290)) {
            return Err(format!(
                "the range of `{}` is empty or cannot be shown",
                axis.label
            ));
        }
        Ok(Self {
            low,
            high,
            logarithmic: axis.logarithmic,
            rows: axis.rows.clone(),
        })
    }

    /// The position from 0 at the low end to 1 at the high end, or `None` if the axis cannot show
    /// the value. Very distant positions are clamped, so that clipping has no rounding errors.
    pub fn place(&self, value: f64) -> Option<f64> {
        let unit = match self.logarithmic {
            true => value.log10(),
            false => value,
        };
        let at = (unit - self.low) / (self.high - self.low);
        at.is_finite().then(|| at.clamp(-1e6, 1e6))
    }

    pub fn same_range(&self, other: &Self) -> bool {
        self.low == other.low && self.high == other.high && self.logarithmic == other.logarithmic
    }

    /// The names of the rows, or the densest labels that fit.
    pub fn ticks(&self, fits: impl Fn(&[Tick]) -> bool) -> Vec<Tick> {
        if !self.rows.is_empty() {
            let positions = (1..=self.rows.len()).rev();
            let ticks = positions.zip(&self.rows).map(|(position, name)| Tick {
                at: self.place(position as f64).unwrap_or(0.0),
                label: name.clone(),
            });
            return ticks.collect();
        }
        let candidates = match self.logarithmic {
            true => self.logarithmic_labels(),
            false => linear_labels(self.low, self.high),
        };
        let place = |(value, label)| Tick {
            at: self.place(number(value)).unwrap_or(0.0).clamp(0.0, 1.0),
            label,
        };
        candidates
            .into_iter()
            .map(|labels| labels.into_iter().map(place).collect())
            .find(|ticks: &Vec<Tick>| !ticks.is_empty() && fits(ticks))
            .unwrap_or_default()
    }

    /// Positions of the minor ticks of a logarithmic axis.
    pub fn minor(&self) -> Vec<f64> {
        let span = self.high - self.low;
        let digits = if span <= 6.0 { 1..=9 } else { 1..=1 };
        if !self.logarithmic || span > 60.0 {
            return vec![];
        }
        let values = self.powers(digits);
        values
            .into_iter()
            .filter_map(|value| self.place(number(value)))
            .collect()
    }

    fn logarithmic_labels(&self) -> Vec<Labels> {
        let span = self.high - self.low;
        if span < 1.0 {
            return linear_labels(10f64.powf(self.low), 10f64.powf(self.high));
        }
        let mut candidates: Vec<Vec<Decimal>> = vec![];
        if span <= 3.0 {
            let round = self.powers(1..=9).into_iter();
            candidates.push(round.filter(|(n, _)| [1, 2, 5].contains(n)).collect());
        }
        for stride in [1, 2, 3, 4, 5, 10, 20, 50, 100, 200] {
            let powers = self.powers(1..=1).into_iter();
            candidates.push(powers.filter(|(_, e)| e % stride == 0).collect());
        }
        candidates.iter().map(|values| labels(values)).collect()
    }

    /// All n · 10^e with n among `digits` on the logarithmic axis.
    fn powers(&self, digits: std::ops::RangeInclusive<i64>) -> Vec<Decimal> {
        let exponents = self.low.floor() as i32..=self.high.floor() as i32 + 1;
        let all = exponents.flat_map(|e| digits.clone().map(move |n| (n, e)));
        let on_it = |&(n, e): &Decimal| {
            let unit = (n as f64).log10() + f64::from(e);
            (self.low - 1e-9..=self.high + 1e-9).contains(&unit)
        };
        all.filter(on_it).collect()
    }
}

/// The ends of an axis that spans the values with a margin.
fn around(values: impl Iterator<Item = f64>, logarithmic: bool) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
        (low.min(v), high.max(v))
    });
    if low > high {
        return (0.0, 1.0);
    }
    let magnitude = low.abs().max(high.abs());
    let margin = if high - low > 1e-9 * magnitude {
        0.05 * (high - low)
    } else if logarithmic || magnitude == 0.0 {
        0.5
    } else {
        0.05 * magnitude
    };
    (low - margin, high + margin)
}

/// Labels at multiples of 1, 2 or 5 times a power of ten, from dense to sparse.
fn linear_labels(low: f64, high: f64) -> Vec<Labels> {
    let with_at_most = |intervals: i32| {
        let least = (high - low) / f64::from(intervals);
        let e = least.log10().floor() as i32;
        let steps = [(1, e), (2, e), (5, e), (1, e + 1)];
        let enough = |&&step: &&Decimal| number(step) >= least * (1.0 - 1e-9);
        let &(n, e) = steps.iter().find(enough).unwrap_or(&steps[3]);
        let step = number((n, e));
        let first = (low / step - 1e-9).ceil() as i64;
        let last = (high / step + 1e-9).floor() as i64;
        let values: Vec<Decimal> = (first..=last).map(|k| (k * n, e)).collect();
        labels(&values)
    };
    (1..=7).rev().map(with_at_most).collect()
}

fn number((n, e): Decimal) -> f64 {
    // Parsing rounds once.
    format!("{n}e{e}").parse().unwrap_or(f64::NAN)
}

/// Decimal labels such as 0.05, or scientific ones such as 5e-7 if the longest of the decimal ones has
/// more than six characters and more than the longest scientific one.
fn labels(values: &[Decimal]) -> Labels {
    const SHORT: usize = 6;
    let plain = |&(n, e): &Decimal| match n {
        0 => "0".to_owned(),
        _ => format!("{:.1$}", number((n, e)), e.min(0).unsigned_abs() as usize),
    };
    let scientific = |&value: &Decimal| match number(value) {
        0.0 => "0".to_owned(),
        number => format!("{number:e}"),
    };
    let plain: Vec<String> = values.iter().map(plain).collect();
    let scientific: Vec<String> = values.iter().map(scientific).collect();
    let longest = |texts: &[String]| {
        let lengths = texts.iter().map(|text| text.trim_start_matches('-').len());
        lengths.max().unwrap_or(0)
    };
    let texts = match longest(&plain) <= SHORT.max(longest(&scientific)) {
        true => plain,
        false => scientific,
    };
    values.iter().copied().zip(texts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The labels of an axis with room for `most` of them.
    fn labels_of(axis: Axis, low: f64, high: f64, most: usize) -> Vec<String> {
        let scale = Scale::new(&axis.within(low, high), [].into_iter()).unwrap();
        let ticks = scale.ticks(|ticks| ticks.len() <= most);
        ticks.into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn labels_are_round_and_short() {
        let linear = |low, high| labels_of(Axis::linear("x"), low, high, 5).join(" ");
        assert_eq!(linear(0.0, 1.0), "0 0.5 1.0");
        assert_eq!(linear(-7.2, -2.9), "-7 -6 -5 -4 -3");
        assert_eq!(linear(0.0, 1e9), "0 5e8 1e9");
        assert_eq!(linear(1e-9, 4e-9), "1e-9 2e-9 3e-9 4e-9");
        assert_eq!(linear(0.0, 20_000.0), "0 5000 10000 15000 20000");
        assert_eq!(linear(1.00001, 1.00002), "1.000010 1.000015 1.000020");
        let log = |low, high| labels_of(Axis::logarithmic("x"), low, high, 7).join(" ");
        assert_eq!(log(2.0, 5.0), "2.0 2.5 3.0 3.5 4.0 4.5 5.0");
        assert_eq!(log(1.0, 100.0), "1 2 5 10 20 50 100");
        assert_eq!(log(100.0, 1e4), "100 200 500 1000 2000 5000 10000");
        assert_eq!(log(1e-3, 1e3), "0.001 0.01 0.1 1 10 100 1000");
        assert_eq!(log(1e-9, 1e9), "1e-9 1e-6 1e-3 1e0 1e3 1e6 1e9");
    }

    /// Includes extreme ranges.
    #[test]
    fn labels_say_where_they_are() {
        let exponents = [-250, -20, -3, 0, 5, 9, 250];
        let mut checked = 0;
        for e in exponents {
            for (from, to) in [
                (0.0, 1.0),
                (-3.7, 9.1),
                (1.0, 1.00003),
                (-2.0, -1.9),
                (1.0, 7e4),
            ] {
                for axis in [Axis::linear("x"), Axis::logarithmic("x")] {
                    let unit = 10f64.powi(e);
                    let axis = axis.within(from * unit, to * unit);
                    let Ok(scale) = Scale::new(&axis, [].into_iter()) else {
                        assert!(axis.logarithmic && from <= 0.0);
                        continue;
                    };
                    for most in 2..9 {
                        let ticks = scale.ticks(|ticks| ticks.len() <= most);
                        assert!(!ticks.is_empty() && ticks.len() <= most);
                        for tick in ticks {
                            let value: f64 = tick.label.parse().unwrap();
                            let at = scale.place(value).unwrap();
                            assert!((at - tick.at).abs() < 1e-6, "{axis:?}: {}", tick.label);
                            checked += 1;
                        }
                    }
                }
            }
        }
        assert!(checked > 1000);
    }

    #[test]
    fn ranges_of_data_have_a_margin_even_around_one_value() {
        let ends = |axis: Axis, values: &[f64]| {
            let scale = Scale::new(&axis, values.iter().copied()).unwrap();
            (scale.low, scale.high)
        };
        assert_eq!(ends(Axis::linear("x"), &[0.0, 10.0]), (-0.5, 10.5));
        assert_eq!(ends(Axis::linear("x"), &[0.0]), (-0.5, 0.5));
        assert_eq!(ends(Axis::linear("x"), &[-20.0]), (-21.0, -19.0));
        assert_eq!(ends(Axis::logarithmic("x"), &[1.0, 1.0]), (-0.5, 0.5));
    }
}
