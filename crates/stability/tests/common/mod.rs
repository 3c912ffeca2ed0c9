//! Random matrices.
#![allow(dead_code)]

use lopt_core::{Purpose, Rng, Streams, normal};
use nalgebra::{DMatrix, DVector};
use rand_distr::{Distribution, Uniform};

pub fn rng(seed: u64) -> Rng {
    Streams::new(seed).stream(Purpose::Stability, 0, 0, 0)
}

pub fn uniform(low: f64, high: f64, rng: &mut Rng) -> f64 {
    Uniform::new_inclusive(low, high).unwrap().sample(rng)
}

pub fn vector(n: usize, rng: &mut Rng) -> DVector<f64> {
    DVector::from_fn(n, |_, _| f64::from(normal(rng)))
}

/// A random orthogonal matrix.
pub fn orthogonal(n: usize, rng: &mut Rng) -> DMatrix<f64> {
    DMatrix::from_fn(n, n, |_, _| f64::from(normal(rng)))
        .qr()
        .q()
}

/// A symmetric matrix with eigenvalues uniform between `low` and `high`.
pub fn symmetric(n: usize, low: f64, high: f64, rng: &mut Rng) -> DMatrix<f64> {
    let values = DVector::from_fn(n, |_, _| uniform(low, high, rng));
    with_eigenvalues(&values, rng)
}

/// A positive definite matrix with eigenvalues log-uniform between `low` and `high`.
pub fn positive(n: usize, low: f64, high: f64, rng: &mut Rng) -> DMatrix<f64> {
    let values = DVector::from_fn(n, |_, _| uniform(low.ln(), high.ln(), rng).exp());
    with_eigenvalues(&values, rng)
}

pub fn with_eigenvalues(values: &DVector<f64>, rng: &mut Rng) -> DMatrix<f64> {
    let q = orthogonal(values.len(), rng);
    let matrix = &q * DMatrix::from_diagonal(values) * q.transpose();
    (&matrix + matrix.transpose()) * 0.5
}
