//! Tabular data from a random teacher network.

use lopt_core::{Purpose, Rng, Streams, log_uniform, normal};

use crate::{
    Split,
    target::{Sums, Target},
};

/// Columns of the inputs.
const FEATURES: usize = 16;
const TRAIN: usize = 4096;
const TEST: usize = 1024;
/// Hidden units of the teacher.
const HIDDEN: usize = 32;
/// Standard deviations of the features are log-uniform in this range.
const SCALES: [f64; 2] = [0.1, 10.0];
/// Standard deviation of the noise on the teacher's outputs, which have about 1.
const NOISE: f32 = 0.3;

/// Rows of features and their targets.
///
/// The features of z ~ N(0, 1) are zᵢ·sᵢ; the teacher's outputs are V·tanh(2·W·z) + noise with
/// normal W and V of unit scale.
pub(crate) struct Table {
    train: Rows,
    test: Rows,
    pub target: Target,
}

struct Rows {
    /// \[rows, features\]
    inputs: Vec<f32>,
    /// \[rows, outputs\]
    outputs: Vec<f32>,
}

struct Teacher {
    scales: Vec<f32>,
    /// \[hidden, features\]
    first: Vec<f32>,
    /// \[outputs, hidden\]
    second: Vec<f32>,
}

impl Table {
    /// The table of that seed, with one real target, or with a class: the teacher's largest output.
    pub fn new(seed: u64, classes: Option<usize>) -> Self {
        let stream = |c| Streams::new(seed).stream(Purpose::TaskSample, 0, 0, c);
        let outputs = classes.unwrap_or(1);
        let teacher = Teacher::new(outputs, &mut stream(0));
        let train = teacher.rows(TRAIN, &mut stream(1));
        let test = teacher.rows(TEST, &mut stream(2));
        let target = match classes {
            Some(classes) => Target::Class(classes),
            None => {
                let mut sums = Sums::new(outputs);
                train.outputs.chunks(outputs).for_each(|row| sums.add(row));
                let variance = sums.variance();
                Target::Values {
                    count: outputs,
                    variance,
                }
            }
        };
        Self {
            train,
            test,
            target,
        }
    }

    /// The number of columns of the inputs.
    pub fn features(&self) -> usize {
        FEATURES
    }

    fn split(&self, split: Split) -> &Rows {
        match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }

    /// The number of rows.
    pub fn len(&self, split: Split) -> usize {
        self.split(split).inputs.len() / FEATURES
    }

    /// The inputs \[rows, features\] of these rows.
    pub fn inputs(&self, split: Split, rows: &[u32]) -> Vec<f32> {
        chosen(&self.split(split).inputs, FEATURES, rows)
    }

    /// The teacher's outputs \[rows, outputs\] for these rows.
    pub fn outputs(&self, split: Split, rows: &[u32]) -> Vec<f32> {
        chosen(&self.split(split).outputs, self.target.outputs(), rows)
    }
}

fn chosen(all: &[f32], columns: usize, rows: &[u32]) -> Vec<f32> {
    let row = |&row: &u32| &all[row as usize * columns..][..columns];
    rows.iter().flat_map(row).copied().collect()
}

impl Teacher {
    fn new(outputs: usize, rng: &mut Rng) -> Self {
        let scales = (0..FEATURES).map(|_| log_uniform(rng, SCALES[0], SCALES[1]) as f32);
        let scales = scales.collect();
        let mut weights = |n: usize, inputs: usize, gain: f32| -> Vec<f32> {
            let sigma = gain / (inputs as f32).sqrt();
            (0..n * inputs).map(|_| sigma * normal(rng)).collect()
        };
        Self {
            scales,
            first: weights(HIDDEN, FEATURES, 2.0),
            second: weights(outputs, HIDDEN, 1.5),
        }
    }

    fn rows(&self, count: usize, rng: &mut Rng) -> Rows {
        let (mut inputs, mut outputs) = (vec![], vec![]);
        for _ in 0..count {
            let z: Vec<f32> = (0..FEATURES).map(|_| normal(rng)).collect();
            inputs.extend(z.iter().zip(&self.scales).map(|(z, scale)| z * scale));
            let hidden: Vec<f32> = times(&self.first, &z).map(f32::tanh).collect();
            outputs.extend(times(&self.second, &hidden).map(|y| y + NOISE * normal(rng)));
        }
        Rows { inputs, outputs }
    }
}

/// The matrix \[rows, x\] times the vector.
fn times(matrix: &[f32], x: &[f32]) -> impl Iterator<Item = f32> {
    let row = move |row: &[f32]| row.iter().zip(x).map(|(a, b)| a * b).sum();
    matrix.chunks(x.len()).map(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_depend_on_the_seed_and_are_noisy() {
        let [a, again, b] = [1, 1, 2].map(|seed| Table::new(seed, None));
        assert_eq!(a.train.inputs, again.train.inputs);
        assert_eq!(a.train.outputs, again.train.outputs);
        assert_ne!(a.train.inputs, b.train.inputs);
        assert_ne!(a.train.inputs[..100], a.test.inputs[..100]);
        assert_eq!((a.len(Split::Train), a.len(Split::Test)), (4096, 1024));
        let Target::Values { count: 1, variance } = a.target else {
            panic!("{:?}", a.target);
        };
        assert!((0.2..5.0).contains(&variance), "{variance}");
        // Row 3 of 16 columns.
        assert_eq!(a.inputs(Split::Train, &[3]), a.train.inputs[48..64]);
    }

    #[test]
    fn scales_of_features_differ() {
        let table = Table::new(1, Some(4));
        let scale = |column: usize| {
            let column = table.train.inputs.iter().skip(column).step_by(FEATURES);
            (column.map(|x| x * x).sum::<f32>() / TRAIN as f32).sqrt()
        };
        let scales: Vec<f32> = (0..FEATURES).map(scale).collect();
        let largest = scales.iter().copied().fold(0.0, f32::max);
        let smallest = scales.iter().copied().fold(f32::MAX, f32::min);
        assert!(largest > 10.0 * smallest, "{scales:?}");
        assert!(smallest > 0.09 && largest < 11.0, "{scales:?}");
    }
}
