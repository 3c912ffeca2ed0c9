//! Reports as one HTML file that needs no network: figures to hover and toggle, tables to sort, light
//! and dark, for screens of any width and for paper.
//!
//! A [`Page`] is plain data. Its figures are those of [`lopt_plot`], drawn by [Chart.js], which the
//! file contains.
//!
//! ```
//! use lopt_page::{Page, Section, Table};
//! use lopt_plot::{Axis, Color, Figure, Item, Shape};
//!
//! let losses = vec![(1.0, 2.3), (10.0, 0.9), (100.0, 0.2)];
//! let figure = Figure::single(
//!     "Training",
//!     "The loss of one network.",
//!     Axis::logarithmic("inner steps"),
//!     Axis::linear("loss (nats)"),
//!     vec![Item::new(Color::Blue, Shape::MarkedLine(losses)).labelled("STAR")],
//! );
//! let table = Table {
//!     header: vec!["optimizer".to_owned(), "final loss".to_owned()],
//!     rows: vec![vec!["STAR".to_owned(), "0.2".to_owned()]],
//!     first_numeric: 1,
//! };
//! let page = Page {
//!     title: "One network".to_owned(),
//!     live: false,
//!     sections: vec![Section::new("Result").text("It learns.").table(table).figure(figure)],
//! };
//! assert!(page.html().starts_with("<!doctype html>"));
//! ```
//!
//! [Chart.js]: https://www.chartjs.org

mod figure;
mod html;

use std::path::Path;

use lopt_core::file;
use lopt_plot::Figure;

/// A report.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The title, at the top.
    pub title: String,
    /// Whether the page loads itself again every few seconds, if it comes from a server. What its
    /// reader toggled, sorted and opened stays so.
    pub live: bool,
    /// The contents, from top to bottom.
    pub sections: Vec<Section>,
}

impl Page {
    /// The page as HTML with all that it needs. If its figures have very many points, every second
    /// or third one and so on is left out, so that the page stays under 3 MB.
    pub fn html(&self) -> String {
        html::page(self)
    }

    /// Writes the result of [`Page::html`] to a file, atomically.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn save(&self, path: &Path) -> lopt_core::Result<()> {
        file::write_atomically(path, self.html().as_bytes())
    }
}

/// A part of a page under a heading.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// The heading.
    pub heading: String,
    /// Whether a click on the heading is needed to see the blocks.
    pub folded: bool,
    /// The contents, from top to bottom.
    pub blocks: Vec<Block>,
}

/// A part of a section.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// A list with a bullet for each text.
    List(Vec<String>),
    /// A text whose lines and spaces are kept.
    Verbatim(String),
    /// A table.
    Table(Table),
    /// A figure.
    Figure(Figure),
}

impl Section {
    /// An open section without blocks.
    pub fn new(heading: impl Into<String>) -> Self {
        Self {
            heading: heading.into(),
            folded: false,
            blocks: vec![],
        }
    }

    /// The same section, folded.
    pub fn folded(self) -> Self {
        Self {
            folded: true,
            ..self
        }
    }

    /// The same section with one more block.
    pub fn with(mut self, block: Block) -> Self {
        self.blocks.push(block);
        self
    }

    /// The same section with one more paragraph.
    pub fn text(self, text: impl Into<String>) -> Self {
        self.with(Block::Text(text.into()))
    }

    /// The same section with one more table.
    pub fn table(self, table: Table) -> Self {
        self.with(Block::Table(table))
    }

    /// The same section with one more figure.
    pub fn figure(self, figure: Figure) -> Self {
        self.with(Block::Figure(figure))
    }
}

/// A table of texts, which its reader can sort by any column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The names of the columns.
    pub header: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
    /// The columns from this index on are sorted by the first number in each cell.
    pub first_numeric: usize,
}
