//! Figures as SVG: panels of lines, points, bands and cells, with a legend and a caption.
//!
//! A [`Figure`] is plain data. The layout keeps legend, labels and data apart. Figures remain
//! readable in black and white: series of [`Shape::MarkedLine`] differ in their markers as well as
//! in their colors.
//!
//! ```
//! use lopt_plot::{Axis, Color, Figure, Item, Shape};
//!
//! let losses = vec![(1.0, 2.3), (10.0, 0.9), (100.0, 0.2)];
//! let figure = Figure::single(
//!     "Training",
//!     "The loss of one network.",
//!     Axis::logarithmic("inner steps"),
//!     Axis::linear("loss (nats)").within(0.0, 2.5),
//!     vec![Item::new(Color::Blue, Shape::MarkedLine(losses)).labelled("STAR")],
//! );
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

/// The result of drawing a figure.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error in drawing or saving a figure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The figure cannot be drawn: it has no point to show, or an axis has an empty range.
    #[error("cannot draw {figure}: {problem}")]
    Plot {
        /// The file of the figure, or its title if it is not saved to a file.
        figure: String,
        /// The reason.
        problem: String,
    },

    /// The file cannot be written.
    #[error(transparent)]
    Core(#[from] lopt_core::Error),
}

/// One or more panels that share a title, a legend and a caption.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// The title, at the top.
    pub title: String,
    /// A description of what the figure shows, at the bottom.
    pub caption: String,
    /// The panels, row by row.
    pub panels: Vec<Panel>,
    /// Panels per row.
    pub columns: usize,
}

impl Figure {
    /// A figure with one panel, which has no title of its own.
    pub fn single(
        title: impl Into<String>,
        caption: impl Into<String>,
        x: Axis,
        y: Axis,
        items: Vec<Item>,
    ) -> Self {
        Self {
            title: title.into(),
            caption: caption.into(),
            panels: vec![Panel {
                title: String::new(),
                x,
                y,
                items,
            }],
            columns: 1,
        }
    }

    /// Renders the figure as SVG. Points that are not finite, or not positive on a logarithmic
    /// axis, are left out, and lines are broken there. Data outside the range of an axis are
    /// clipped.
    ///
    /// # Errors
    /// Returns an error if there is no point to show or the range of an axis is empty.
    pub fn svg(&self) -> Result<String> {
        self.draw(|| format!("`{}`", self.title))
    }

    /// Writes the result of [`Figure::svg`] to a file, atomically.
    ///
    /// # Errors
    /// Returns an error if the figure cannot be drawn (see [`Figure::svg`]) or the file cannot be
    /// written.
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

/// A pair of axes and the items drawn between them. A panel whose axes have the same range is
/// square, so that circles look like circles.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// The title, above the panel; may be empty.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The items, in drawing order: later ones cover earlier ones.
    pub items: Vec<Item>,
}

/// The label, range and scale of an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// The quantity and its unit.
    pub label: String,
    /// Both ends. [default: the range of the data and a margin]
    pub range: Option<(f64, f64)>,
    /// Whether the scale is logarithmic.
    pub logarithmic: bool,
    /// Names of the values n, n − 1, …, 1, from top to bottom, in place of numbers.
    pub rows: Vec<String>,
}

impl Axis {
    /// A linear axis that spans the data.
    pub fn linear(label: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            range: None,
            logarithmic: false,
            rows: vec![],
        }
    }

    /// A logarithmic axis that spans the data.
    pub fn logarithmic(label: impl Into<String>) -> Self {
        Self {
            logarithmic: true,
            ..Self::linear(label)
        }
    }

    /// A vertical axis with a row for each name, from top to bottom. [`Axis::row`] is the position
    /// of a row.
    pub fn of_rows(names: Vec<String>) -> Self {
        let end = names.len() as f64 + 0.5;
        Self {
            rows: names,
            ..Self::linear("").within(0.5, end)
        }
    }

    /// The position of a row, counted from 0 at the top.
    pub fn row(&self, index: usize) -> f64 {
        self.rows.len() as f64 - index as f64
    }

    /// A dashed vertical line at x through all rows.
    pub fn line_at(&self, x: f64) -> Shape {
        Shape::DashedLine(vec![(x, 0.5), (x, self.rows.len() as f64 + 0.5)])
    }

    /// The same axis from `low` to `high`.
    pub fn within(self, low: f64, high: f64) -> Self {
        Self {
            range: Some((low, high)),
            ..self
        }
    }
}

/// A shape with its color and its legend entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The label in the legend, if any. Items with the same label share one entry.
    pub label: Option<String>,
    /// The color.
    pub color: Color,
    /// The shape.
    pub shape: Shape,
}

impl Item {
    /// An item without an entry in the legend.
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

/// A shape in the units of the axes.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A line through the points.
    Line(Vec<(f64, f64)>),
    /// A dashed line through the points. Neighboring colors have different dashes.
    DashedLine(Vec<(f64, f64)>),
    /// A line with the color's marker at each point, or at some points where they are dense.
    MarkedLine(Vec<(f64, f64)>),
    /// A marker at each point.
    Points(Vec<(f64, f64)>, Marker),
    /// The translucent area between low and high, from points (x, low, high). On a logarithmic
    /// axis a low end that is not positive is drawn at the end of the axis.
    Band(Vec<(f64, f64, f64)>),
    /// Cells of a grid of equal sizes.
    Cells {
        /// Outer edges: the first column starts at `x.0`, the last ends at `x.1`.
        x: (f64, f64),
        /// Outer edges: the first row starts at `y.0`, the last ends at `y.1`.
        y: (f64, f64),
        /// Cells per row.
        columns: usize,
        /// Cells per column.
        rows: usize,
        /// Whether each cell is filled, row by row.
        filled: Vec<bool>,
    },
}

/// The marker of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Marker {
    Circle,
    Cross,
    Triangle,
    Square,
}

/// The palette of Okabe and Ito, which is safe for color-blind readers, and grays.
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
    /// The color of series `index`: blue, vermillion, green, purple, orange, sky, then again from
    /// blue.
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
