//! Formats measurements and their targets as a table.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets};

/// One measurement.
pub struct Row {
    work: String,
    measured: f64,
    unit: &'static str,
    target: Target,
}

/// Target of a measurement.
#[derive(Clone, Copy)]
pub enum Target {
    None,
    AtLeast(f64),
    AtMost(f64),
}

impl Row {
    /// Creates a row without a target.
    pub fn new(work: impl Into<String>, measured: f64, unit: &'static str) -> Self {
        Self {
            work: work.into(),
            measured,
            unit,
            target: Target::None,
        }
    }

    pub fn target(self, target: Target) -> Self {
        Self { target, ..self }
    }
}

impl Target {
    fn verdict(self, measured: f64) -> &'static str {
        let reached = match self {
            Target::None => return "",
            Target::AtLeast(least) => measured >= least,
            Target::AtMost(most) => measured <= most,
        };
        if reached { "yes" } else { "no" }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::None => Ok(()),
            Target::AtLeast(least) => write!(f, "≥ {least}"),
            Target::AtMost(most) => write!(f, "≤ {most}"),
        }
    }
}

/// The table in Markdown.
pub fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_MARKDOWN)
        .set_header(["work", "measured", "unit", "target", "reached"]);
    for row in rows {
        table.add_row([
            row.work.clone(),
            rounded(row.measured),
            row.unit.to_owned(),
            row.target.to_string(),
            row.target.verdict(row.measured).to_owned(),
        ]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Formats with three significant digits, but at most three decimals.
fn rounded(x: f64) -> String {
    let digits = match x.abs() {
        x if x >= 100.0 => 0,
        x if x >= 10.0 => 1,
        x if x >= 1.0 => 2,
        _ => 3,
    };
    format!("{x:.digits$}")
}
