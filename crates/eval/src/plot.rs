//! Figures.

use std::path::Path;

use lopt_plot::{Axis, Color, Figure, Item, Panel, Shape};
use lopt_tasks::suite::Entry;

use crate::{ADAM, ContenderResult, Result};

/// Mean over seeds of the smoothed training loss as lines, lowest to highest as bands.
pub fn curves(
    path: &Path,
    entry: &Entry,
    adam_learning_rate: f64,
    results: &[ContenderResult],
) -> Result<()> {
    let mut bands = vec![];
    let mut lines = vec![];
    let mut others = 0..;
    for result in results {
        let (color, label) = match &*result.name {
            ADAM => (
                Color::Black,
                format!("{ADAM} (tuned, {adam_learning_rate:e})"),
            ),
            name => (Color::nth(others.next().unwrap_or(0)), name.to_owned()),
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
    let figure = Figure {
        title: format!("{}: {}", entry.group, entry.name),
        caption: "Lines: means over the seeds. Bands: from the lowest to the highest seed. Each \
                  loss is the mean of the last steps."
            .to_owned(),
        panels: vec![Panel {
            title: String::new(),
            x: Axis::linear("inner step").within(0.0, entry.horizon as f64),
            y: Axis::linear("training loss"),
            items: bands.into_iter().chain(lines).collect(),
        }],
        columns: 1,
    };
    Ok(figure.save(path)?)
}
