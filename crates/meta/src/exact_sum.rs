//! Sums of real numbers that do not depend on the order, and thus not on the number of ranks.

use crate::{Comm, Result};

/// Sums in fixed point with 64 binary digits after the point. Addition is exact, so its order does
/// not matter.
///
/// An entry has 128 bits in four pieces of 32, each with room for carries, so ranks can add their
/// pieces as integers. Numbers are rounded to multiples of 2⁻⁶⁴ and clamped to ±2⁴⁰, and NaN counts
/// as 0. Up to 2²² numbers can be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExactSum {
    pieces: Vec<i64>,
}

const PIECES: usize = 4;
const UNIT: f64 = (1u128 << 64) as f64;
const LARGEST: f64 = (1u64 << 40) as f64;

impl ExactSum {
    /// Creates sums of 0.
    pub fn new(entries: usize) -> Self {
        Self {
            pieces: vec![0; PIECES * entries],
        }
    }

    /// Adds a number to each entry.
    pub fn add(&mut self, values: impl IntoIterator<Item = f64>) {
        for (pieces, value) in self.pieces.chunks_exact_mut(PIECES).zip(values) {
            // Converting NaN to an integer gives 0.
            let fixed = (value.clamp(-LARGEST, LARGEST) * UNIT) as i128;
            for (i, piece) in pieces.iter_mut().enumerate() {
                let shifted = fixed >> (32 * i);
                // The highest piece holds the sign.
                *piece += match i + 1 == PIECES {
                    true => shifted as i64,
                    false => shifted as u32 as i64,
                };
            }
        }
    }

    /// Returns the sums over all ranks.
    ///
    /// # Errors
    /// Returns an error if another rank cannot be reached.
    pub fn over(mut self, comm: &dyn Comm) -> Result<Vec<f64>> {
        comm.sum(&mut self.pieces)?;
        Ok(self.values())
    }

    fn values(&self) -> Vec<f64> {
        let value = |pieces: &[i64]| {
            let pieces = pieces.iter().enumerate();
            let fixed: i128 = pieces.map(|(i, &p)| i128::from(p) << (32 * i)).sum();
            fixed as f64 / UNIT
        };
        self.pieces.chunks_exact(PIECES).map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_does_not_matter() {
        let values = [1e9, -1e-9, 3.25, -1e9, 1e-18, f64::NAN, 0.1, -7.5e11];
        let sum = |order: &[usize]| {
            let mut sum = ExactSum::new(1);
            for &i in order {
                sum.add([values[i]]);
            }
            sum.values()[0]
        };
        let expected = sum(&[0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(sum(&[7, 6, 5, 4, 3, 2, 1, 0]), expected);
        assert_eq!(sum(&[3, 5, 0, 7, 1, 6, 2, 4]), expected);
        assert!((expected - (3.35 - 7.5e11)).abs() < 1e-3);
        assert_eq!(sum(&[0, 3]), 0.0);
        assert!((sum(&[1]) + 1e-9).abs() < 1e-19);
    }

    /// Two ranks with half of the numbers each, added piece by piece.
    #[test]
    fn ranks_add_their_pieces() {
        let numbers: Vec<f64> = (0..1000).map(|i| (f64::from(i) - 500.3) * 1.7e7).collect();
        let of = |numbers: &[f64]| {
            let mut sum = ExactSum::new(2);
            numbers.iter().for_each(|&x| sum.add([x, -x / 3.0]));
            sum
        };
        let (mut a, b) = (of(&numbers[..321]), of(&numbers[321..]));
        for (a, b) in a.pieces.iter_mut().zip(&b.pieces) {
            *a += b;
        }
        assert_eq!(a.values(), of(&numbers).values());
        let total: f64 = numbers.iter().sum();
        assert!((a.values()[0] - total).abs() < 1e-3);
    }

    #[test]
    fn what_is_too_large_is_limited() {
        let mut sum = ExactSum::new(3);
        sum.add([f64::INFINITY, f64::NEG_INFINITY, 1e300]);
        assert_eq!(sum.values(), [LARGEST, -LARGEST, LARGEST]);
    }
}
