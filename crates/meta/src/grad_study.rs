//! Bias and variance of the gradient estimators at a fixed θ, as functions of the unroll length.

use std::{num::NonZeroUsize, sync::Arc};

use lopt_core::{LearnedOptimizer, Workers};
use lopt_tasks::TaskFamily;
use serde::Serialize;

use crate::{Alone, Error, EstimatorConfig, EstimatorKind, Horizon, Result, Settings, outer::norm};

/// A comparison of the gradient estimators at a fixed θ.
#[derive(Clone, Debug)]
pub struct GradStudy {
    /// The lengths T of the unrolls, in inner steps.
    pub lengths: Vec<u64>,
    /// The length K of a truncation, in inner steps. Longer unrolls must be multiples of it.
    pub truncation: u64,
    /// The standard deviation σ of the perturbations.
    pub sigma: f64,
    /// The number of independent unrolls, each with its own initial parameters, minibatches and
    /// perturbation.
    pub samples: u64,
    /// The seed of the first sample; the others have the following seeds.
    pub seed: u64,
}

/// The quality of one estimator at one length. An estimate is the mean over the truncations of one
/// unroll, or of one antithetic pair of unrolls.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StudyPoint {
    /// The estimator, one of [`STUDIED`].
    pub estimator: &'static str,
    /// The length T of the unroll, in inner steps.
    pub length: u64,
    /// The norm of the mean estimate.
    pub norm: f64,
    /// The cosine between the mean estimate and the mean exact meta-gradient.
    pub cosine: f64,
    /// The mean of the estimates' cosines with the mean exact meta-gradient.
    pub sample_cosine: f64,
    /// The square root of the sum over θ of the estimates' variances.
    pub deviation: f64,
    /// The norm of the largest estimate.
    pub largest: f64,
}

/// The names of the estimators that are studied, in the order of the points for one length:
/// backpropagation through whole unrolls, then kinds of estimators.
pub const STUDIED: [&str; 5] = ["exact", "backprop", "full-es", "pes", "es"];

impl GradStudy {
    /// Returns the points ordered by length, then as in [`STUDIED`]. Calls `on_length` after each
    /// length with its points; the study stops if it returns `false`.
    ///
    /// # Errors
    /// Returns [`Error::Config`] if a length, the truncation or the number of samples is not valid,
    /// and an error if a task fails.
    pub fn run(
        &self,
        family: &Arc<dyn TaskFamily>,
        optimizer: &dyn LearnedOptimizer,
        workers: Workers,
        on_length: &mut dyn FnMut(u64, &[StudyPoint]) -> bool,
    ) -> Result<Vec<StudyPoint>> {
        self.check()?;
        let mut points: Vec<StudyPoint> = vec![];
        for &length in &self.lengths {
            let mut exact = vec![];
            for name in STUDIED {
                let (config, parts) = self.estimator(name, length)?;
                let job = |sample| sampled(&config, parts, sample, family, optimizer);
                let seeds = self.seed..self.seed + self.samples;
                let estimates = workers.map(seeds, job).into_iter();
                let estimates: Vec<Vec<f64>> = estimates.collect::<Result<_>>()?;
                if name == STUDIED[0] {
                    exact = mean_of(&estimates);
                }
                points.push(point(name, length, &estimates, &exact));
            }
            if !on_length(length, &points[points.len() - STUDIED.len()..]) {
                break;
            }
        }
        Ok(points)
    }

    fn check(&self) -> Result<()> {
        let problem = |what: String| Err(Error::Config(what));
        if self.truncation == 0 || self.samples < 2 || self.lengths.contains(&0) {
            let what = "lengths and truncation must be at least 1, and samples at least 2";
            return problem(what.to_owned());
        }
        if !(self.sigma > 0.0 && self.sigma.is_finite()) {
            let sigma = self.sigma;
            return problem(format!("σ is {sigma}; it must be positive and finite"));
        }
        let whole =
            |length: &&u64| **length > self.truncation && !length.is_multiple_of(self.truncation);
        match self.lengths.iter().find(whole) {
            Some(length) => problem(format!(
                "length {length} is not a multiple of the truncation, {}",
                self.truncation
            )),
            None => Ok(()),
        }
    }

    /// Returns the configuration of an estimator with one network or pair, and the number of its
    /// estimates per unroll.
    fn estimator(&self, name: &str, length: u64) -> Result<(EstimatorConfig, u64)> {
        let (kind, truncation) = match name {
            "exact" => (EstimatorKind::Backprop, length),
            name => (name.parse()?, self.truncation.min(length)),
        };
        let config = EstimatorConfig::new(
            kind,
            &Settings {
                tasks: 1,
                horizon: Horizon::Constant { steps: length },
                truncation: Some(truncation as usize),
                sigma: Some(self.sigma),
                sign: None,
            },
        );
        let parts = match config.settings().truncation {
            Some(truncation) => length / truncation as u64,
            None => 1,
        };
        Ok((config, parts))
    }
}

/// Returns the estimate of one whole unroll.
fn sampled(
    config: &EstimatorConfig,
    parts: u64,
    seed: u64,
    family: &Arc<dyn TaskFamily>,
    optimizer: &dyn LearnedOptimizer,
) -> Result<Vec<f64>> {
    let alone = Workers::new(Some(NonZeroUsize::MIN));
    let mut estimator = config.start(seed, family.clone(), alone, optimizer, &Alone)?;
    let estimates: Vec<Vec<f64>> = (0..parts)
        .map(|part| Ok(estimator.estimate(optimizer, part, &Alone)?.gradient))
        .collect::<Result<_>>()?;
    Ok(mean_of(&estimates))
}

fn point(
    estimator: &'static str,
    length: u64,
    estimates: &[Vec<f64>],
    exact: &[f64],
) -> StudyPoint {
    let mean = mean_of(estimates);
    let squares = |estimate: &Vec<f64>| -> f64 {
        let differences = estimate.iter().zip(&mean).map(|(a, b)| (a - b).powi(2));
        differences.sum()
    };
    let variance = estimates.iter().map(squares).sum::<f64>() / (estimates.len().max(2) - 1) as f64;
    let cosines = estimates.iter().map(|estimate| cosine(estimate, exact));
    StudyPoint {
        estimator,
        length,
        norm: norm(&mean),
        cosine: cosine(&mean, exact),
        sample_cosine: cosines.sum::<f64>() / estimates.len() as f64,
        deviation: variance.sqrt(),
        largest: estimates.iter().map(|e| norm(e)).fold(0.0, f64::max),
    }
}

/// Returns the mean of vectors of the same length.
fn mean_of(vectors: &[Vec<f64>]) -> Vec<f64> {
    let mut mean = vec![];
    for vector in vectors {
        mean.resize(vector.len(), 0.0);
        for (sum, x) in mean.iter_mut().zip(vector) {
            *sum += x / vectors.len() as f64;
        }
    }
    mean
}

/// Returns the cosine of the angle between two vectors, or 0 if one of them is 0.
fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    let lengths = norm(a) * norm(b);
    if lengths > 0.0 { dot / lengths } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_by_hand() {
        let estimates = [vec![3.0, 0.0], vec![1.0, 0.0]];
        let of = point("pes", 7, &estimates, &[1.0, 1.0]);
        let half = 0.5f64.sqrt();
        assert_eq!((of.norm, of.largest, of.length), (2.0, 3.0, 7));
        assert!((of.cosine - half).abs() < 1e-12 && (of.sample_cosine - half).abs() < 1e-12);
        assert!((of.deviation - 2f64.sqrt()).abs() < 1e-12);
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 0.0]), 0.0);
    }

    #[test]
    fn lengths_are_whole_truncations() {
        let study = GradStudy {
            lengths: vec![5, 20, 25],
            truncation: 10,
            sigma: 0.01,
            samples: 2,
            seed: 0,
        };
        let error = study.check().unwrap_err().to_string();
        assert!(error.contains("length 25"), "{error}");
        let (config, parts) = study.estimator("backprop", 20).unwrap();
        assert!(matches!(config, EstimatorConfig::Backprop(c) if c.truncation == 10));
        assert_eq!(parts, 2);
        for (name, length) in [("exact", 20), ("full-es", 20), ("pes", 5)] {
            assert_eq!(study.estimator(name, length).unwrap().1, 1);
        }
    }
}
