//! Strokes, areas, markers and texts in pixels.

use std::error::Error;

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{Color, Marker, clip::Point, text::LINE};

pub type Drawn<T = ()> = Result<T, Box<dyn Error>>;

/// Units per pixel: the backend draws at integer coordinates only.
const UNITS: f64 = 4.0;
/// The backend's fonts are smaller than asked for by this factor.
const FONT: f64 = 1.24;
/// Half of a marker's size.
const MARKER: f64 = 3.5;

pub const INK: RGBColor = RGBColor(40, 40, 40);
pub const GRID: RGBColor = RGBColor(232, 232, 232);

/// A drawing in progress.
pub struct Canvas<'a>(SVGBackend<'a>);

impl Canvas<'_> {
    /// The SVG that `draw` produces on a white background of this size.
    pub fn svg(size: Point, draw: impl FnOnce(&mut Canvas) -> Drawn) -> Drawn<String> {
        let mut svg = String::new();
        let units = to_units(size);
        let units = (units.0.unsigned_abs(), units.1.unsigned_abs());
        let mut canvas = Canvas(SVGBackend::with_string(&mut svg, units));
        canvas.area(&[(0.0, 0.0), (size.0, 0.0), size, (0.0, size.1)], &WHITE)?;
        draw(&mut canvas)?;
        canvas.0.present()?;
        drop(canvas);
        let in_units = format!("width=\"{}\" height=\"{}\"", units.0, units.1);
        let in_pixels = format!("width=\"{}\" height=\"{}\"", size.0, size.1);
        Ok(svg.replacen(&in_units, &in_pixels, 1))
    }

    pub fn line<C>(&mut self, points: &[Point], color: &C, width: f64) -> Drawn
    where
        C: plotters::style::Color,
    {
        let mut points: Vec<_> = points.iter().copied().map(to_units).collect();
        points.dedup();
        let style = color.stroke_width((width * UNITS) as u32);
        Ok(self.0.draw_path(points, &style)?)
    }

    /// Fills a polygon.
    pub fn area<C>(&mut self, corners: &[Point], color: &C) -> Drawn
    where
        C: plotters::style::Color,
    {
        let corners = corners.iter().copied().map(to_units);
        Ok(self.0.fill_polygon(corners, &color.filled())?)
    }

    /// Draws a marker; a hollow one covers what is below it.
    pub fn marker(&mut self, at: Point, marker: Marker, color: Color, hollow: bool) -> Drawn {
        let color = color.rgb();
        let corner = |x: f64, y: f64| (at.0 + MARKER * x, at.1 + MARKER * y);
        let corners: Vec<Point> = match marker {
            Marker::Cross => {
                let stroke = |from: f64, to: f64| [corner(-from, -to), corner(from, to)];
                self.line(&stroke(0.9, 0.9), &color, 1.75)?;
                return self.line(&stroke(0.9, -0.9), &color, 1.75);
            }
            Marker::Circle => {
                let angles = (0..24).map(|k| f64::from(k) * std::f64::consts::TAU / 24.0);
                angles.map(|a| corner(a.cos(), a.sin())).collect()
            }
            Marker::Triangle => [(0.0, -1.25), (1.15, 0.85), (-1.15, 0.85)]
                .map(|(x, y)| corner(x, y))
                .into(),
            Marker::Square => [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]
                .map(|(x, y)| corner(x, y))
                .into(),
        };
        self.area(&corners, if hollow { &WHITE } else { &color })?;
        let outline = [&corners[..], &corners[..1]].concat();
        self.line(&outline, &color, if hollow { 1.5 } else { 0.25 })
    }

    /// Draws a line of text with its start (`from` 0), middle (0.5) or end (1) at a point.
    pub fn text(&mut self, text: &str, size: f64, at: Point, from: f64) -> Drawn {
        self.write(text, size, at, from, FontTransform::None)
    }

    /// Draws lines of text from `at` downwards; `from` is as for [`Canvas::text`].
    pub fn lines(&mut self, lines: &[String], size: f64, at: Point, from: f64) -> Drawn {
        lines.iter().enumerate().try_for_each(|(index, line)| {
            let middle = at.1 + (index as f64 + 0.5) * size * LINE;
            self.text(line, size, (at.0, middle), from)
        })
    }

    /// Draws lines of text that read upwards, centered at `at`, each to the right of the previous.
    pub fn upward_lines(&mut self, lines: &[String], size: f64, at: Point) -> Drawn {
        lines.iter().enumerate().try_for_each(|(index, line)| {
            let middle = at.0 + (index as f64 + 0.5) * size * LINE;
            self.write(line, size, (middle, at.1), 0.5, FontTransform::Rotate270)
        })
    }

    fn write(
        &mut self,
        text: &str,
        size: f64,
        at: Point,
        from: f64,
        transform: FontTransform,
    ) -> Drawn {
        // XML has no control characters.
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        let horizontal = match from {
            0.0 => HPos::Left,
            1.0 => HPos::Right,
            _ => HPos::Center,
        };
        let font = ("sans-serif", size * UNITS * FONT).into_font();
        let style = TextStyle::from(font.transform(transform))
            .color(&INK)
            .pos(Pos::new(horizontal, VPos::Center));
        Ok(self.0.draw_text(&text, &style, to_units(at))?)
    }
}

fn to_units((x, y): Point) -> (i32, i32) {
    ((x * UNITS).round() as i32, (y * UNITS).round() as i32)
}

impl Color {
    pub(crate) fn rgb(self) -> RGBColor {
        match self {
            Color::Black => BLACK,
            Color::Gray => RGBColor(120, 120, 120),
            Color::LightGray => RGBColor(190, 190, 190),
            Color::Blue => RGBColor(0, 114, 178),
            Color::Vermillion => RGBColor(213, 94, 0),
            Color::Green => RGBColor(0, 158, 115),
            Color::Purple => RGBColor(204, 121, 167),
            Color::Orange => RGBColor(230, 159, 0),
            Color::Sky => RGBColor(86, 180, 233),
        }
    }

    /// The opaque color of filled cells.
    pub(crate) fn tint(self) -> RGBColor {
        let RGBColor(red, green, blue) = self.rgb();
        let lighter = |channel: u8| 255 - ((255 - u16::from(channel)) * 13 / 20) as u8;
        RGBColor(lighter(red), lighter(green), lighter(blue))
    }

    /// The marker of lines in this color, and whether it is hollow.
    pub(crate) fn marker(self) -> (Marker, bool) {
        match self {
            Color::Blue => (Marker::Circle, false),
            Color::Vermillion => (Marker::Square, false),
            Color::Green => (Marker::Triangle, false),
            Color::Purple | Color::Gray => (Marker::Cross, false),
            Color::Orange => (Marker::Circle, true),
            Color::Sky => (Marker::Square, true),
            Color::Black | Color::LightGray => (Marker::Triangle, true),
        }
    }
}
