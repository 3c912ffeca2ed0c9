//! The metrics of a meta-training run and their figure.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use lopt_eval::stats::mean;
use lopt_meta::HELD_OUT_FINAL_FRACTION;
use lopt_plot::{Axis, Color, Figure, Item, Marker, Shape};
use serde::Deserialize;

use crate::{Error, Result};

/// A point of the line of meta-losses is the mean of about this many outer steps.
const SMOOTHED: usize = 50;

/// The metrics of one outer step. Losses that were not finite are NaN.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Metrics {
    /// The number of outer steps after this one.
    pub outer_step: u64,
    /// The meta-loss of the step.
    #[serde(deserialize_with = "number")]
    pub meta_loss: f64,
    /// The held-out score, if there was an evaluation after the step.
    pub held_out: Option<HeldOut>,
}

/// A held-out score; see [`lopt_meta::HeldOutScore`].
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct HeldOut {
    /// The mean training loss of all inner steps.
    #[serde(deserialize_with = "number")]
    pub mean_loss: f64,
    /// The mean training loss of the last inner steps.
    #[serde(deserialize_with = "number")]
    pub final_loss: f64,
}

/// JSON has no NaN: it is written as null.
fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// Reads `metrics.jsonl` of a run directory.
///
/// # Errors
/// Returns an error if the file cannot be read or parsed.
pub fn metrics(run_dir: &Path) -> Result<Vec<Metrics>> {
    let path = run_dir.join("metrics.jsonl");
    let file = File::open(&path).map_err(lopt_core::Error::io("read", &path))?;
    // The text of a million outer steps has 200 MB: one line at a time.
    let lines = BufReader::new(file).lines();
    lines
        .map(|line| {
            let line = line.map_err(lopt_core::Error::io("read", &path))?;
            serde_json::from_str(&line).map_err(|source| {
                let path = path.clone();
                Error::Metrics { path, source }
            })
        })
        .collect()
}

/// Plots the losses of a run against outer steps; `None` if it has not taken any.
///
/// # Errors
/// Returns an error if the metrics cannot be read.
pub fn figure(run_dir: &Path, title: &str) -> Result<Option<Figure>> {
    let metrics = metrics(run_dir)?;
    if metrics.is_empty() {
        return Ok(None);
    }
    let smoothed = |metrics: &[Metrics]| {
        let step = metrics[metrics.len() / 2].outer_step as f64;
        (step, mean(metrics.iter().map(|m| m.meta_loss)))
    };
    let width = SMOOTHED.min(metrics.len() / 10).max(1);
    let held_out = |loss: fn(HeldOut) -> f64| -> Vec<(f64, f64)> {
        let evaluated = metrics.iter().filter_map(|m| Some((m, m.held_out?)));
        let points = evaluated.map(|(m, held_out)| (m.outer_step as f64, loss(held_out)));
        points.collect()
    };
    let line = metrics.chunks(width).map(smoothed).collect();
    let of_all = Shape::MarkedLine(held_out(|score| score.mean_loss));
    let of_last = Shape::Points(held_out(|score| score.final_loss), Marker::Square);
    let percent = 100 / HELD_OUT_FINAL_FRACTION;
    let items = vec![
        Item::new(Color::Gray, Shape::Line(line)).labelled("meta-loss"),
        Item::new(Color::Blue, of_all).labelled("held-out, mean of all steps"),
        Item::new(Color::Vermillion, of_last)
            .labelled(format!("held-out, last {percent} % of the steps")),
    ];
    Ok(Some(Figure::single(
        title,
        format!(
            "Normalized training losses against outer steps. Meta-loss: mean of {width} outer \
             steps, networks trained with perturbed θ. Held-out: new networks trained with θ."
        ),
        Axis::linear("outer step"),
        Axis::linear("training loss"),
        items,
    )))
}
