//! Gradient estimators compared with the exact meta-gradient, for several optimizers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use lopt_core::{LearnedOptimizer, Workers};
use lopt_meta::{GradStudy, STUDIED, StudyPoint};
use lopt_plot::{Axis, Color, Figure, Item, Shape};
use lopt_tasks::TaskFamily;

use crate::{Result, Table};

/// The results of the study for one optimizer.
#[derive(Clone, Debug, PartialEq)]
pub struct Studied {
    /// The name of the optimizer.
    pub optimizer: String,
    /// The points, by length and estimator.
    pub points: Vec<StudyPoint>,
}

/// Runs the study for each optimizer on `family`. `on_length` is called with the name of the
/// optimizer and the length after each length. Once `stop` is set, the results so far are returned.
///
/// # Errors
/// Returns an error if a length above the truncation is not a multiple of it, or a task fails.
pub fn run(
    study: &GradStudy,
    optimizers: &[(&str, Arc<dyn LearnedOptimizer>)],
    family: &Arc<dyn TaskFamily>,
    workers: Workers,
    stop: &AtomicBool,
    on_length: &mut dyn FnMut(&str, u64),
) -> Result<Vec<Studied>> {
    let mut all = vec![];
    for (name, optimizer) in optimizers {
        let points = study.run(family, &**optimizer, workers, &mut |length, _| {
            on_length(name, length);
            !stop.load(Ordering::Relaxed)
        })?;
        let optimizer = (*name).to_owned();
        all.push(Studied { optimizer, points });
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(all)
}

/// The results for one optimizer, rounded for reading.
pub fn table(studied: &Studied) -> Table {
    let header = [
        "steps",
        "estimator",
        "norm",
        "cosine",
        "single cosine",
        "deviation",
        "largest",
    ];
    let mut table = Table::new(header, 2);
    for point in &studied.points {
        table.row([
            point.length.to_string(),
            point.estimator.to_owned(),
            format!("{:.3e}", point.norm),
            format!("{:.3}", point.cosine),
            format!("{:.3}", point.sample_cosine),
            format!("{:.3e}", point.deviation),
            format!("{:.3e}", point.largest),
        ]);
    }
    table
}

/// The results in full precision.
pub fn numbers(studied: &[Studied]) -> Table {
    let header = [
        "optimizer",
        "estimator",
        "length",
        "norm",
        "cosine",
        "sample_cosine",
        "deviation",
        "largest",
    ];
    let mut table = Table::new(header, 2);
    for (optimizer, point) in points(studied) {
        table.row([
            optimizer.to_owned(),
            point.estimator.to_owned(),
            point.length.to_string(),
            point.norm.to_string(),
            point.cosine.to_string(),
            point.sample_cosine.to_string(),
            point.deviation.to_string(),
            point.largest.to_string(),
        ]);
    }
    table
}

fn points(studied: &[Studied]) -> impl Iterator<Item = (&str, &StudyPoint)> {
    studied
        .iter()
        .flat_map(|of| of.points.iter().map(|point| (&*of.optimizer, point)))
}

/// Cosine, deviation and norm against the length of the unroll, each with a name.
pub fn figures(study: &GradStudy, studied: &Studied) -> Vec<(String, Figure)> {
    type Value = fn(&StudyPoint) -> f64;
    let figures: [(&str, Axis, Value); 3] = [
        (
            "cosine",
            Axis::linear("mean cosine of an estimate with the exact gradient"),
            |p| p.sample_cosine,
        ),
        (
            "deviation",
            Axis::logarithmic("deviation of an estimate"),
            |p| p.deviation,
        ),
        (
            "norm",
            Axis::logarithmic("norm of the mean estimate"),
            |p| p.norm,
        ),
    ];
    let Studied { optimizer, points } = studied;
    let draw = |(what, y, value): (&str, Axis, Value)| {
        let line = |(index, estimator): (usize, &&str)| {
            let points = points.iter().filter(|p| p.estimator == *estimator);
            let points = points.map(|p| (p.length as f64, value(p))).collect();
            // The first one is the reference.
            let color = index.checked_sub(1).map_or(Color::Black, Color::nth);
            Item::new(color, Shape::MarkedLine(points)).labelled(*estimator)
        };
        let figure = Figure::single(
            format!("{optimizer}: estimates of the meta-gradient"),
            format!(
                "Truncations of {} steps, σ {}, {} unrolls for each point.",
                study.truncation, study.sigma, study.samples
            ),
            Axis::logarithmic("length of the unroll T (inner steps)"),
            y,
            STUDIED.iter().enumerate().map(line).collect(),
        );
        (format!("{optimizer}-{what}"), figure)
    };
    figures.into_iter().map(draw).collect()
}
