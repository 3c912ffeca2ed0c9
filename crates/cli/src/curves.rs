//! The figure of a meta-training run.

use std::path::Path;

use anyhow::{Context, Result};
use lopt_plot::{Axis, Color, Figure, Item, Marker, Panel, Shape};
use serde_json::Value;

/// A point of the meta-loss's line is the mean of about this many outer steps.
const SMOOTHED: usize = 50;

/// Draws `metrics.jsonl` of a run directory as `curves.svg` beside it.
pub fn save(run_dir: &Path, title: &str) -> Result<()> {
    let metrics = metrics(run_dir)?;
    if metrics.is_empty() {
        return Ok(());
    }
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let meta_loss = |metrics: &[Value]| {
        let sum: f64 = metrics.iter().map(|m| number(&m["meta_loss"])).sum();
        let step = number(&metrics[metrics.len() / 2]["outer_step"]);
        (step, sum / metrics.len() as f64)
    };
    let width = SMOOTHED.min(metrics.len() / 10).max(1);
    let held_out = |loss: &str| {
        let evaluated = metrics.iter().filter(|m| !m["held_out"].is_null());
        let point = |m: &Value| (number(&m["outer_step"]), number(&m["held_out"][loss]));
        evaluated.map(point).collect::<Vec<_>>()
    };
    let line = metrics.chunks(width).map(meta_loss).collect();
    let items = vec![
        Item::new(Color::Gray, Shape::Line(line)).labelled("meta-loss"),
        Item::new(Color::Blue, Shape::MarkedLine(held_out("mean_loss")))
            .labelled("held-out, mean of all steps"),
        Item::new(
            Color::Vermillion,
            Shape::Points(held_out("final_loss"), Marker::Square),
        )
        .labelled("held-out, last twentieth"),
    ];
    let figure = Figure {
        title: title.to_owned(),
        caption: format!(
            "Normalised training losses against outer steps. Meta-loss: of the perturbed networks of \
             {width} outer steps. Held-out: of fresh networks trained with θ."
        ),
        panels: vec![Panel {
            title: String::new(),
            x: Axis::linear("outer step"),
            y: Axis::linear("training loss"),
            items,
        }],
        columns: 1,
    };
    figure.save(&run_dir.join("curves.svg"))?;
    Ok(())
}

/// The lines of `metrics.jsonl` of a run directory.
pub fn metrics(run_dir: &Path) -> Result<Vec<Value>> {
    let path = run_dir.join("metrics.jsonl");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    text.lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .with_context(|| path.display().to_string())
}
