//! The metrics of a meta-training run and their figures.

use std::{
    fs::File,
    io::{BufRead, BufReader, ErrorKind, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use lopt_eval::stats::mean;
use lopt_meta::HELD_OUT_FINAL_PERCENT;
use lopt_plot::{Axis, Color, Figure, Item, Marker, Panel, Shape};
use serde::Deserialize;

use crate::{Error, Result};

/// A point of a line of noisy metrics is the mean of about this many outer steps.
const SMOOTHED: usize = 50;
/// The most points of such a line.
const POINTS: usize = 2000;

/// The metrics of one outer step. Losses that were not finite are NaN.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Metrics {
    /// The number of outer steps taken so far, including this one.
    pub outer_step: u64,
    /// The meta-loss of the step.
    #[serde(deserialize_with = "number")]
    pub meta_loss: f64,
    /// The norm of the estimated meta-gradient.
    #[serde(deserialize_with = "number")]
    pub gradient_norm: f64,
    /// The norm of θ after the step.
    #[serde(deserialize_with = "number")]
    pub theta_norm: f64,
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

/// The path of the metrics of a run directory.
pub fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("metrics.jsonl")
}

/// Reads `metrics.jsonl` of a run directory.
///
/// # Errors
/// Returns an error if the file cannot be read or parsed.
pub fn metrics(run_dir: &Path) -> Result<Vec<Metrics>> {
    let mut all = Live::new(run_dir);
    File::open(&all.path).map_err(lopt_core::Error::io("read", &all.path))?;
    all.add()?;
    Ok(all.metrics)
}

/// Reads the complete lines of a file from `position` on, and moves `position` to the end of the last
/// one. A last line without a line break is still being written, and is left for the next call. If
/// the file does not exist, nothing is read.
///
/// # Errors
/// Returns an error if the file cannot be read or `read` returns one.
pub fn read_added(
    path: &Path,
    position: &mut u64,
    read: &mut dyn FnMut(&str) -> serde_json::Result<()>,
) -> Result<()> {
    let failed = || lopt_core::Error::io("read", path);
    let mut file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        file => file.map_err(failed())?,
    };
    file.seek(SeekFrom::Start(*position)).map_err(failed())?;
    // The text of a million outer steps has 200 MB: one line at a time.
    let mut reader = BufReader::new(file);
    let mut line = String::new();
    while reader.read_line(&mut line).map_err(failed())? > 0 && line.ends_with('\n') {
        read(&line).map_err(|source| {
            let path = path.to_owned();
            Error::Metrics { path, source }
        })?;
        *position += line.len() as u64;
        line.clear();
    }
    Ok(())
}

/// The metrics of a run that may be in progress, in this process or another one.
#[derive(Clone, Debug)]
pub struct Live {
    path: PathBuf,
    position: u64,
    metrics: Vec<Metrics>,
}

impl Live {
    /// The metrics of a run directory, none of which are read yet.
    pub fn new(run_dir: &Path) -> Self {
        Self {
            path: path(run_dir),
            position: 0,
            metrics: vec![],
        }
    }

    /// Reads what was added, or the whole file if a resumed run has replaced its last lines.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or parsed.
    pub fn update(&mut self) -> Result<&[Metrics]> {
        let length = std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        if length < self.position || self.add().is_err() || !self.ascends() {
            self.position = 0;
            self.metrics.clear();
            self.add()?;
        }
        Ok(&self.metrics)
    }

    fn add(&mut self) -> Result<()> {
        let metrics = &mut self.metrics;
        read_added(&self.path, &mut self.position, &mut |line| {
            metrics.push(serde_json::from_str(line)?);
            Ok(())
        })
    }

    fn ascends(&self) -> bool {
        self.metrics
            .is_sorted_by(|a, b| a.outer_step < b.outer_step)
    }
}

/// The outer step with the lowest mean held-out loss, and its score.
pub fn best(metrics: &[Metrics]) -> Option<(u64, HeldOut)> {
    let scores = metrics
        .iter()
        .filter_map(|m| Some((m.outer_step, m.held_out?)));
    scores.min_by(|a, b| a.1.mean_loss.total_cmp(&b.1.mean_loss))
}

/// How many outer steps a point of a line of noisy metrics is the mean of.
fn width(metrics: &[Metrics]) -> usize {
    let least = SMOOTHED.min(metrics.len() / 10);
    least.max(metrics.len().div_ceil(POINTS)).max(1)
}

/// Means over neighboring outer steps.
fn smoothed(metrics: &[Metrics], value: fn(&Metrics) -> f64) -> Vec<(f64, f64)> {
    let point = |metrics: &[Metrics]| {
        let step = metrics[metrics.len() / 2].outer_step as f64;
        (step, mean(metrics.iter().map(value)))
    };
    metrics.chunks(width(metrics)).map(point).collect()
}

/// Plots the losses of a run against outer steps; `None` if it has not taken any.
pub fn losses(metrics: &[Metrics], title: &str) -> Option<Figure> {
    if metrics.is_empty() {
        return None;
    }
    let held_out = |loss: fn(HeldOut) -> f64| -> Vec<(f64, f64)> {
        let evaluated = metrics.iter().filter_map(|m| Some((m, m.held_out?)));
        let points = evaluated.map(|(m, held_out)| (m.outer_step as f64, loss(held_out)));
        points.collect()
    };
    let line = smoothed(metrics, |m| m.meta_loss);
    let of_all = Shape::MarkedLine(held_out(|score| score.mean_loss));
    let of_last = Shape::Points(held_out(|score| score.final_loss), Marker::Square);
    let items = vec![
        Item::new(Color::Gray, Shape::Line(line)).labelled("meta-loss"),
        Item::new(Color::Blue, of_all).labelled("held-out, mean of all steps"),
        Item::new(Color::Vermillion, of_last).labelled(format!(
            "held-out, last {HELD_OUT_FINAL_PERCENT} % of the steps"
        )),
    ];
    Some(Figure::single(
        title,
        format!(
            "Normalized training losses against outer steps. Meta-loss: mean of {} outer \
             steps, networks trained with perturbed θ. Held-out: new networks trained with θ.",
            width(metrics)
        ),
        Axis::linear("outer step"),
        Axis::linear("training loss"),
        items,
    ))
}

/// Plots the norms of the meta-gradient and of θ against outer steps; `None` if there are none.
pub fn norms(metrics: &[Metrics]) -> Option<Figure> {
    if metrics.is_empty() {
        return None;
    }
    let panel = |title: &str, y: Axis, color, value| Panel {
        title: title.to_owned(),
        x: Axis::linear("outer step"),
        y,
        items: vec![Item::new(color, Shape::Line(smoothed(metrics, value)))],
    };
    let gradient = Axis::logarithmic("‖∇L(θ)‖");
    let theta = Axis::linear("‖θ‖");
    Some(Figure {
        title: "Meta-gradient and θ".to_owned(),
        caption: format!("Norms, each the mean of {} outer steps.", width(metrics)),
        panels: vec![
            panel("meta-gradient", gradient, Color::Green, |m| m.gradient_norm),
            panel("θ", theta, Color::Purple, |m| m.theta_norm),
        ],
        columns: 2,
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    fn line(step: u64) -> String {
        format!(
            "{{\"outer_step\":{step},\"meta_loss\":null,\"gradient_norm\":1.5,\
             \"theta_norm\":2.0,\"held_out\":null,\"other\":1}}\n"
        )
    }

    fn steps(live: &mut Live) -> Vec<u64> {
        let metrics = live.update().unwrap();
        metrics.iter().map(|m| m.outer_step).collect()
    }

    #[test]
    fn a_growing_file_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path());
        let mut live = Live::new(folder.path());
        assert!(metrics(folder.path()).is_err());
        assert_eq!(steps(&mut live), [0; 0]);
        let second = line(2);
        let (start, end) = second.split_at(9);
        fs::write(&path, line(1) + start).unwrap();
        assert_eq!(steps(&mut live), [1]);
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(end.as_bytes()).unwrap();
        assert_eq!(steps(&mut live), [1, 2]);
        assert!(live.metrics[0].meta_loss.is_nan());
        // Resumed: shorter, then longer than before.
        fs::write(&path, line(1)).unwrap();
        assert_eq!(steps(&mut live), [1]);
        fs::write(&path, line(1) + &line(2) + &line(3) + &line(4)).unwrap();
        assert_eq!(steps(&mut live), [1, 2, 3, 4]);
        fs::write(&path, "{}\n").unwrap();
        assert!(live.update().is_err());
    }

    #[test]
    fn long_runs_have_short_lines() {
        let parse = |step| serde_json::from_str(&line(step)).unwrap();
        let metrics: Vec<Metrics> = (1..=10_000).map(parse).collect();
        assert_eq!(smoothed(&metrics, |m| m.theta_norm).len(), 200);
        assert_eq!(smoothed(&metrics[..9], |m| m.theta_norm).len(), 9);
        assert!(losses(&[], "").is_none() && best(&metrics).is_none());
    }
}
