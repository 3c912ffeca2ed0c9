//! Draws shapes in a panel and in the legend.

use plotters::style::Color as _;

use crate::{
    Color, Item, Shape,
    axis::Scale,
    canvas::{Canvas, Drawn},
    clip::{Frame, Point, dashes, rectangle},
};

/// Length of a line in the legend.
pub const KEY: f64 = 28.0;
/// Distance between the markers of a line with many points, in pixels.
const MARKERS_APART: f64 = 60.0;
/// Opacity of a band.
const BAND: f64 = 0.18;

/// Draws the sample of an item in the legend.
pub fn key(canvas: &mut Canvas, item: &Item, (left, middle): Point) -> Drawn {
    let line = [(left, middle), (left + KEY, middle)];
    let center = (left + KEY / 2.0, middle);
    let (start, end) = ((left, middle - 5.0), (left + KEY, middle + 5.0));
    match &item.shape {
        Shape::Line(_) => stroke(canvas, &line, item.color),
        Shape::DashedLine(_) => dashed(canvas, &line, item.color),
        Shape::MarkedLine(_) => {
            let (marker, hollow) = item.color.marker();
            stroke(canvas, &line, item.color)?;
            canvas.marker(center, marker, item.color, hollow)
        }
        Shape::Points(_, marker) => canvas.marker(center, *marker, item.color, false),
        Shape::Band(_) => canvas.area(&rectangle(start, end), &item.color.rgb().mix(BAND)),
        Shape::Cells { .. } => canvas.area(&rectangle(start, end), &item.color.tint()),
    }
}

/// The scales of a panel and the frame they map to.
pub struct View {
    pub x: Scale,
    pub y: Scale,
    pub frame: Frame,
}

impl View {
    fn at(&self, (x, y): (f64, f64)) -> Option<Point> {
        let (x, y) = (self.x.place(x)?, self.y.place(y)?);
        Some(self.on_frame(x, y))
    }

    /// The point at these fractions of the axes.
    pub fn on_frame(&self, x: f64, y: f64) -> Point {
        let Frame { left, bottom, .. } = self.frame;
        (
            left + x * self.frame.width(),
            bottom - y * self.frame.height(),
        )
    }

    pub fn draw(&self, canvas: &mut Canvas, item: &Item) -> Drawn {
        let color = item.color;
        match &item.shape {
            Shape::Line(points) => self.line(canvas, points, color, stroke),
            Shape::DashedLine(points) => self.line(canvas, points, color, dashed),
            Shape::MarkedLine(points) => {
                self.line(canvas, points, color, stroke)?;
                self.markers(canvas, points, color)
            }
            Shape::Points(points, marker) => {
                let points = points.iter().filter_map(|&point| self.at(point));
                points
                    .filter(|&point| self.frame.contains(point))
                    .try_for_each(|point| canvas.marker(point, *marker, color, false))
            }
            Shape::Band(points) => self.band(canvas, points, color),
            Shape::Cells {
                x,
                y,
                columns,
                rows,
                filled,
            } => {
                let grid = (*columns, *rows);
                self.cells(canvas, (*x, *y), grid, filled, color)
            }
        }
    }

    fn line(
        &self,
        canvas: &mut Canvas,
        points: &[(f64, f64)],
        color: Color,
        draw: fn(&mut Canvas, &[Point], Color) -> Drawn,
    ) -> Drawn {
        let points: Vec<_> = points.iter().map(|&point| self.at(point)).collect();
        for run in points.split(Option::is_none) {
            let run: Vec<Point> = run.iter().copied().flatten().collect();
            if let [alone] = run[..]
                && self.frame.contains(alone)
            {
                let dot = [(alone.0 - 1.0, alone.1), (alone.0 + 1.0, alone.1)];
                canvas.line(&dot, &color.rgb(), 2.0)?;
            }
            for piece in self.frame.line(&run) {
                draw(canvas, &piece, color)?;
            }
        }
        Ok(())
    }

    /// Draws a marker at each point or, if they are many, at some, different for each color.
    fn markers(&self, canvas: &mut Canvas, points: &[(f64, f64)], color: Color) -> Drawn {
        let points = points.iter().filter_map(|&point| self.at(point));
        let inside: Vec<Point> = points.filter(|&p| self.frame.contains(p)).collect();
        let (marker, hollow) = color.marker();
        let dense = inside.len() as f64 > self.frame.width() / 10.0;
        let phase = MARKERS_APART * (color as usize as f64 / 9.0);
        let mut last = inside.first().map_or(0.0, |first| first.0 - phase);
        for &point in &inside {
            if !dense || (point.0 - last).abs() >= MARKERS_APART {
                canvas.marker(point, marker, color, hollow)?;
                last = point.0;
            }
        }
        Ok(())
    }

    fn band(&self, canvas: &mut Canvas, points: &[(f64, f64, f64)], color: Color) -> Drawn {
        let ends: Vec<_> = points
            .iter()
            .map(|&(x, low, high)| {
                let high = self.at((x, high))?;
                let low = match self.at((x, low)) {
                    None if low <= 0.0 => (high.0, self.frame.bottom.max(high.1)),
                    other => other?,
                };
                Some((low, high))
            })
            .collect();
        for run in ends.split(Option::is_none) {
            let run = || run.iter().flatten();
            let high = run().map(|ends| ends.1);
            let outline = run().map(|ends| ends.0).chain(high.rev()).collect();
            let inside = self.frame.polygon(outline);
            canvas.area(&inside, &color.rgb().mix(BAND))?;
        }
        Ok(())
    }

    fn cells(
        &self,
        canvas: &mut Canvas,
        (x, y): ((f64, f64), (f64, f64)),
        (columns, rows): (usize, usize),
        filled: &[bool],
        color: Color,
    ) -> Drawn {
        let corners = (self.at((x.0, y.0)), self.at((x.1, y.1)));
        let (Some(first), Some(last)) = corners else {
            return Ok(());
        };
        let corner = |column: usize, row: usize| {
            let right = column as f64 / columns as f64;
            let up = row as f64 / rows as f64;
            (
                first.0 + right * (last.0 - first.0),
                first.1 + up * (last.1 - first.1),
            )
        };
        // One polygon with connecting lines there and back: separate ones would show seams.
        let mut outline = vec![];
        for (row, cells) in filled.chunks(columns.max(1)).take(rows).enumerate() {
            for (from, to) in runs(cells) {
                let all = rectangle(corner(from, row), corner(to, row + 1));
                let inside = self.frame.polygon(all.into());
                let home = outline.first().copied();
                outline.extend(inside.iter().chain(inside.first()));
                outline.extend(home);
            }
        }
        canvas.area(&outline, &color.tint())
    }
}

/// Start and end of each run of filled cells.
fn runs(cells: &[bool]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = vec![];
    for (index, _) in cells.iter().enumerate().filter(|(_, filled)| **filled) {
        match runs.last_mut() {
            Some((_, end)) if *end == index => *end += 1,
            _ => runs.push((index, index + 1)),
        }
    }
    runs
}

fn stroke(canvas: &mut Canvas, points: &[Point], color: Color) -> Drawn {
    canvas.line(points, &color.rgb(), 1.75)
}

fn dashed(canvas: &mut Canvas, points: &[Point], color: Color) -> Drawn {
    let (dash, gap) = [(6.0, 4.0), (2.0, 3.0), (11.0, 4.0)][color as usize % 3];
    for piece in dashes(points, dash, gap) {
        stroke(canvas, &piece, color)?;
    }
    Ok(())
}
