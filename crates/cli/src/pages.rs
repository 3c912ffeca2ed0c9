//! The pages that commands end with.

mod evaluation;
mod run;

use std::path::Path;

use lopt_experiments::{Table, claims::Report};
use lopt_page::{Block, Page, Section};

pub use evaluation::of_evaluation;
pub use run::of_run;

/// The name of the file of a page.
const NAME: &str = "report.html";

/// Writes a page into a folder.
pub fn save(page: &Page, folder: &Path) -> anyhow::Result<()> {
    Ok(page.save(&folder.join(NAME))?)
}

/// Says where the page of a folder is.
pub fn announce(folder: &Path) {
    println!("page: {}", folder.join(NAME).display());
}

/// A table as pages show it. An empty cell among the names means the same as the one above, which
/// would be lost if the rows were sorted.
pub fn table(table: Table) -> lopt_page::Table {
    let Table {
        header,
        mut rows,
        first_numeric,
    } = table;
    let mut above: Vec<String> = vec![];
    for row in &mut rows {
        let names = row.iter_mut().take(first_numeric);
        for (name, above) in names.zip(&above).filter(|(name, _)| name.is_empty()) {
            name.clone_from(above);
        }
        above.clone_from(row);
    }
    lopt_page::Table {
        header,
        rows,
        first_numeric,
    }
}

/// The page of reproduced claims.
pub fn of_claims(reports: &[Report]) -> Page {
    let mut overview = Table::new(["claim", "statement", "verdict", "criteria met"], 3);
    for report in reports {
        let met = report.criteria.iter().filter(|c| c.met).count();
        overview.row([
            report.claim.name().to_owned(),
            report.claim.summary().to_owned(),
            report.verdict().to_string(),
            format!("{met} of {}", report.criteria.len()),
        ]);
    }
    let claims = reports.iter().map(|report| {
        let heading = format!("{}: {}", report.claim.name(), report.claim.summary());
        let criteria = report.criteria.iter().map(ToString::to_string);
        Section::new(heading)
            .text(format!("Verdict: {}", report.verdict()))
            .with(Block::List(criteria.collect()))
            .figure(report.figure.clone())
            .table(table(report.table.clone()))
            .text(report.legend.clone())
    });
    let overview = Section::new("Claims").table(table(overview));
    Page {
        title: "Claims of the STAR paper".to_owned(),
        live: false,
        sections: std::iter::once(overview).chain(claims).collect(),
    }
}
