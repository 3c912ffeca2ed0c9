use std::fmt;

use comfy_table::{CellAlignment, presets};
use lopt_eval::stats::Interval;

use crate::Result;

/// A table of texts. It is displayed in Markdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The names of the columns.
    pub header: Vec<String>,
    /// The rows, each as long as the header.
    pub rows: Vec<Vec<String>>,
    /// The columns from this index on are aligned to the right.
    pub first_numeric: usize,
}

impl Table {
    /// A table without rows.
    pub fn new<T: Into<String>>(header: impl IntoIterator<Item = T>, first_numeric: usize) -> Self {
        Self {
            header: header.into_iter().map(Into::into).collect(),
            rows: vec![],
            first_numeric,
        }
    }

    /// Appends a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table as CSV.
    ///
    /// # Errors
    /// Returns an error if a row is not as long as the header.
    pub fn csv(&self) -> Result<Vec<u8>> {
        let mut writer = csv::Writer::from_writer(vec![]);
        writer.write_record(&self.header)?;
        for row in &self.rows {
            writer.write_record(row)?;
        }
        let bytes = writer.into_inner();
        Ok(bytes.map_err(|error| csv::Error::from(error.into_error()))?)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut table = comfy_table::Table::new();
        table
            .load_style(presets::ASCII_MARKDOWN)
            .set_header(&self.header)
            .add_rows(&self.rows);
        for column in table.column_iter_mut().skip(self.first_numeric) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        write!(f, "{table}")
    }
}

/// An estimate and its interval, if it has one, such as "1.23 [1.10, 1.36]".
pub fn interval(Interval { estimate, bounds }: Interval) -> String {
    match bounds {
        Some([low, high]) => format!("{estimate:.2} [{low:.2}, {high:.2}]"),
        None => format!("{estimate:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_csv_needs_it() {
        let mut table = Table::new(["name", "loss"], 1);
        table.row(["a, b".to_owned(), "0.5".to_owned()]);
        assert_eq!(table.csv().unwrap(), b"name,loss\n\"a, b\",0.5\n");
        assert!(table.to_string().contains("| a, b |  0.5 |"), "{table}");
        table.row(["alone".to_owned()]);
        assert!(table.csv().is_err());
    }
}
