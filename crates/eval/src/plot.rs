//! Figures: training loss against inner steps.

use std::path::Path;

use lopt_core::file;
use lopt_tasks::suite::Entry;
use plotters::prelude::*;

use crate::{ADAM, ContenderResult, Error, Result};

/// Okabe and Ito's palette, told apart by the colour-blind too; black is kept for Adam.
const COLORS: [RGBColor; 4] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
];
const SIZE: (u32, u32) = (720, 480);

/// Mean over seeds of the smoothed training loss as lines, lowest to highest as bands.
pub fn curves(
    path: &Path,
    entry: &Entry,
    adam_learning_rate: f64,
    results: &[ContenderResult],
) -> Result<()> {
    let mut svg = String::new();
    draw(&mut svg, entry, adam_learning_rate, results).map_err(|problem| Error::Plot {
        path: path.to_owned(),
        problem: problem.to_string(),
    })?;
    Ok(file::write_atomically(path, svg.as_bytes())?)
}

fn draw(
    svg: &mut String,
    entry: &Entry,
    adam_learning_rate: f64,
    results: &[ContenderResult],
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let points = || results.iter().flat_map(|result| &result.curve);
    let low = points().map(|p| p.2).fold(f64::INFINITY, f64::min);
    let high = points().map(|p| p.3).fold(f64::NEG_INFINITY, f64::max);
    let margin = (0.05 * (high - low)).max(1e-3);
    let title = format!("{}: {}", entry.group, entry.name);
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d(0f64..entry.horizon as f64, (low - margin)..(high + margin))?;
    chart
        .configure_mesh()
        .x_desc("inner step")
        .y_desc("training loss (mean of the last steps and over seeds)")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.2}"))
        .label_style(("sans-serif", 14))
        .light_line_style(WHITE)
        .draw()?;
    let mut colors = COLORS.iter().cycle().copied();
    for result in results {
        let is_adam = result.name == ADAM;
        let color = if is_adam {
            BLACK
        } else {
            colors.next().unwrap_or(BLACK)
        };
        let label = if is_adam {
            format!("{} (tuned, {adam_learning_rate:e})", result.name)
        } else {
            result.name.clone()
        };
        let upper = result.curve.iter().map(|p| (p.0 as f64, p.3));
        let lower = result.curve.iter().rev().map(|p| (p.0 as f64, p.2));
        let band: Vec<_> = upper.chain(lower).collect();
        chart.draw_series(std::iter::once(Polygon::new(band, color.mix(0.15))))?;
        let line = result.curve.iter().map(|p| (p.0 as f64, p.1));
        chart
            .draw_series(LineSeries::new(line, color.stroke_width(2)))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 14))
        .draw()?;
    root.present()?;
    Ok(())
}
