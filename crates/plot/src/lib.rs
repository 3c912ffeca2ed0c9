//! Figures as SVG: panels of lines, points, bands and cells, with a legend and a caption.
//!
//! A [`Figure`] is data. It is drawn so that legend, labels and data never cover each other,
//! and that a print in black and white can be read: series of [`Shape::MarkedLine`] differ in
//! their markers too.
//!
//! ```
//! use lopt_plot::{Axis, Color, Figure, Item, Panel, Shape};
//!
//! let losses = vec![(1.0, 2.3), (10.0, 0.9), (100.0, 0.2)];
//! let panel = Panel {
//!     title: String::new(),
//!     x: Axis::logarithmic("inner steps"),
//!     y: Axis::linear("loss (nats)").within(0.0, 2.5),
//!     items: vec![Item::new(Color::Blue, Shape::MarkedLine(losses)).labelled("STAR")],
//! };
//! let figure = Figure {
//!     title: "Training".to_owned(),
//!     caption: "The loss of one network.".to_owned(),
//!     panels: vec![panel],
//!     columns: 1,
//! };
//! assert!(figure.svg()?.contains("STAR"));
//! # Ok::<(), lopt_plot::Error>(())
//! ```

mod axis;
mod canvas;
mod clip;
mod item;
mod layout;
mod panel;
mod text;

use std::path::Path;

use lopt_core::file;

/// The result of drawing.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong while drawing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A figure cannot be drawn.
    #[error("cannot draw {figure}: {problem}")]
    Plot {
        /// Its file, or its title where it has none.
        figure: String,
        /// Why.
        problem: String,
    },

    /// The file cannot be written.
    #[error(transparent)]
    Core(#[from] lopt_core::Error),
}

/// One or several panels with a common title, legend and caption.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Above everything.
    pub title: String,
    /// What is to be seen, below everything.
    pub caption: String,
    /// Row by row.
    pub panels: Vec<Panel>,
    /// Panels in a row.
    pub columns: usize,
}

impl Figure {
    /// The figure as SVG. Points that are not finite, or not positive on a logarithmic axis,
    /// are left out, and lines are broken there; what is outside of an axis' range is cut off.
    ///
    /// # Errors
    /// If no point can be shown, or an axis' range is empty.
    pub fn svg(&self) -> Result<String> {
        self.draw(|| format!("`{}`", self.title))
    }

    /// Writes [`Figure::svg`] to a file, atomically.
    ///
    /// # Errors
    /// As [`Figure::svg`], or if the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let svg = self.draw(|| path.display().to_string())?;
        Ok(file::write_atomically(path, svg.as_bytes())?)
    }

    fn draw(&self, name: impl FnOnce() -> String) -> Result<String> {
        layout::svg(self).map_err(|problem| Error::Plot {
            figure: name(),
            problem: problem.to_string(),
        })
    }
}

/// A pair of axes and what is drawn between them. If both axes have the same range it is
/// square, and a circle looks like one.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// Above it.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// From the lowest to the topmost.
    pub items: Vec<Item>,
}

/// What an axis shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// Its quantity and unit.
    pub label: String,
    /// Its ends; if `None`, those of the data and a margin.
    pub range: Option<(f64, f64)>,
    /// Whether equal ratios, not equal differences, are equally long.
    pub logarithmic: bool,
}

impl Axis {
    /// A linear axis over the data.
    pub fn linear(label: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            range: None,
            logarithmic: false,
        }
    }

    /// A logarithmic axis over the data.
    pub fn logarithmic(label: impl Into<String>) -> Self {
        Self {
            logarithmic: true,
            ..Self::linear(label)
        }
    }

    /// The same axis from `low` to `high`.
    pub fn within(self, low: f64, high: f64) -> Self {
        Self {
            range: Some((low, high)),
            ..self
        }
    }
}

/// A shape and its looks.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its entry in the legend; the same label has one entry for all panels.
    pub label: Option<String>,
    /// Its colour.
    pub color: Color,
    /// What it is.
    pub shape: Shape,
}

impl Item {
    /// An item that the legend does not show.
    pub fn new(color: Color, shape: Shape) -> Self {
        Self {
            label: None,
            color,
            shape,
        }
    }

    /// The same item with an entry in the legend.
    pub fn labelled(self, label: impl Into<String>) -> Self {
        Self {
            label: Some(label.into()),
            ..self
        }
    }
}

/// What to draw, in the units of the axes.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A line through the points.
    Line(Vec<(f64, f64)>),
    /// A dashed line through the points; neighbouring colours have other dashes.
    DashedLine(Vec<(f64, f64)>),
    /// A line with the colour's marker at each point, or at some where they are dense.
    MarkedLine(Vec<(f64, f64)>),
    /// A marker at each point.
    Points(Vec<(f64, f64)>, Marker),
    /// The translucent area between low and high, of (x, low, high). On a logarithmic axis a
    /// low end that is not positive is at the axis' end.
    Band(Vec<(f64, f64, f64)>),
    /// Cells of a grid, equally large on the axes.
    Cells {
        /// Outer edges: the first column begins at `x.0`, the last ends at `x.1`.
        x: (f64, f64),
        /// Outer edges: the first row begins at `y.0`, the last ends at `y.1`.
        y: (f64, f64),
        /// Cells in a row.
        columns: usize,
        /// Cells in a column.
        rows: usize,
        /// Which cells are filled, row by row.
        filled: Vec<bool>,
    },
}

/// What a point looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Marker {
    Circle,
    Cross,
    Triangle,
    Square,
}

/// Okabe and Ito's palette, told apart by the colour-blind too, and greys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Color {
    Black,
    Gray,
    LightGray,
    Blue,
    Vermillion,
    Green,
    Purple,
    Orange,
    Sky,
}

impl Color {
    /// The colour of series `index`: blue, vermillion, green, purple, orange, sky, and again.
    pub fn nth(index: usize) -> Self {
        const SERIES: [Color; 6] = [
            Color::Blue,
            Color::Vermillion,
            Color::Green,
            Color::Purple,
            Color::Orange,
            Color::Sky,
        ];
        SERIES[index % SERIES.len()]
    }
}
