//! Figures of training curves.

use std::path::Path;

use lopt_plot::{Axis, Color, Figure, Item, Shape};
use lopt_tasks::suite::Entry;

use crate::{Baseline, ContenderResult, Result, Tuned};

/// Saves the smoothed training losses: means over seeds as lines, lowest to highest as bands.
pub fn curves(
    path: &Path,
    entry: &Entry,
    tuned: &[Tuned],
    results: &[ContenderResult],
) -> Result<()> {
    let mut bands = vec![];
    let mut lines = vec![];
    let mut others = 0..;
    for result in results {
        let name = &result.name;
        let label = match tuned.iter().find(|t| t.baseline.name() == name) {
            Some(tuned) => format!("{name} (tuned, {:e})", tuned.learning_rate),
            None => name.clone(),
        };
        let color = match name == Baseline::Adam.name() {
            true => Color::Black,
            false => Color::nth(others.next().unwrap_or(0)),
        };
        let curve = || {
            result
                .curve
                .iter()
                .map(|&(step, ..)| step as f64)
                .zip(&result.curve)
        };
        let band = curve().map(|(step, point)| (step, point.2, point.3));
        let line = curve().map(|(step, point)| (step, point.1));
        bands.push(Item::new(color, Shape::Band(band.collect())));
        lines.push(Item::new(color, Shape::MarkedLine(line.collect())).labelled(label));
    }
    let figure = Figure::single(
        format!("{}: {}", entry.group, entry.name),
        "Lines: means over the seeds. Bands: from the lowest to the highest seed. Each loss is the \
         mean of the last steps.",
        Axis::linear("inner step").within(0.0, entry.horizon as f64),
        Axis::linear("training loss"),
        bands.into_iter().chain(lines).collect(),
    );
    Ok(figure.save(path)?)
}
