//! Figures.

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

/// A figure of lines.
pub struct Lines<'a> {
    /// Above it.
    pub title: &'a str,
    /// What the horizontal axis shows, logarithmic.
    pub x: &'a str,
    /// What the vertical axis shows.
    pub y: &'a str,
    /// Whether the vertical axis is logarithmic; points that are not positive are left out.
    pub logarithmic: bool,
    /// Name and points of each line.
    pub series: Vec<(String, Vec<(f64, f64)>)>,
}

impl Lines<'_> {
    /// Writes the figure as SVG.
    ///
    /// # Errors
    /// If there is nothing to show, or the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|problem| Error::Plot {
            path: path.to_owned(),
            problem: problem.to_string(),
        })?;
        Ok(file::write_atomically(path, svg.as_bytes())?)
    }

    fn draw(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        let shown =
            |&(x, y): &(f64, f64)| x > 0.0 && y.is_finite() && (y > 0.0 || !self.logarithmic);
        let points = || {
            let all = self.series.iter().flat_map(|(_, points)| points);
            all.copied().filter(shown)
        };
        let range = |values: &mut dyn Iterator<Item = f64>| {
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
                (low.min(v), high.max(v))
            })
        };
        let (left, right) = range(&mut points().map(|p| p.0));
        let (low, high) = range(&mut points().map(|p| p.1));
        if !(left.is_finite() && low.is_finite()) {
            return Err("there is no point to show".into());
        }
        // Room for the legend on the right.
        let (left, right) = (left / 1.2, right * (right / left).powf(0.3).max(1.5));
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let mut builder = ChartBuilder::on(&root);
        builder
            .caption(self.title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(70);
        // The same twice: the kinds of axes are different types.
        macro_rules! draw {
            ($y:expr, $format:expr) => {{
                let mut chart = builder.build_cartesian_2d((left..right).log_scale(), $y)?;
                chart
                    .configure_mesh()
                    .x_desc(self.x)
                    .y_desc(self.y)
                    .x_label_formatter(&|&x| round_number(x))
                    .y_label_formatter(&$format)
                    .label_style(("sans-serif", 14))
                    .light_line_style(WHITE)
                    .draw()?;
                for (index, (name, points)) in self.series.iter().enumerate() {
                    let color = match index {
                        0 => BLACK,
                        _ => COLORS[(index - 1) % COLORS.len()],
                    };
                    let points: Vec<_> = points.iter().copied().filter(shown).collect();
                    let marks = points.iter().map(|&p| Circle::new(p, 3, color.filled()));
                    chart.draw_series(marks)?;
                    chart
                        .draw_series(LineSeries::new(points, color.stroke_width(2)))?
                        .label(name)
                        .legend(move |(x, y)| {
                            PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2))
                        });
                }
                chart
                    .configure_series_labels()
                    .position(SeriesLabelPosition::MiddleRight)
                    .background_style(WHITE.mix(0.8))
                    .border_style(BLACK.mix(0.3))
                    .label_font(("sans-serif", 14))
                    .draw()?;
            }};
        }
        if self.logarithmic {
            draw!((low / 2.0..high * 2.0).log_scale(), |y: &f64| format!(
                "{y:.0e}"
            ));
        } else {
            let margin = (0.05 * (high - low)).max(1e-3);
            draw!((low - margin)..(high + margin), |y: &f64| format!("{y:.2}"));
        }
        root.present()?;
        Ok(())
    }
}

/// 1, 2, 5, 10, 20, …; others would overlap on a logarithmic axis.
fn round_number(x: f64) -> String {
    let leading = x / 10f64.powf(x.log10().floor());
    let round = [1.0, 2.0, 5.0, 10.0].map(|r| (leading - r).abs() < 1e-6);
    if round.contains(&true) {
        format!("{x:.0}")
    } else {
        String::new()
    }
}
