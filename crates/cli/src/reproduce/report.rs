//! What is told of a claim.

use std::{fmt, path::Path};

use anyhow::{Context, Result};
use comfy_table::Table;
use lopt_core::file;
use lopt_plot::Figure;

/// How a claim came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Held,
    Partly,
    DidNotHold,
}

impl Verdict {
    /// Of the parts of a claim.
    pub fn of(parts: &[bool]) -> Self {
        match (
            parts.iter().all(|&held| held),
            parts.iter().any(|&held| held),
        ) {
            (true, _) => Verdict::Held,
            (false, true) => Verdict::Partly,
            (false, false) => Verdict::DidNotHold,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Verdict::Held => "held",
            Verdict::Partly => "held partly",
            Verdict::DidNotHold => "did not hold",
        })
    }
}

/// A claim, its figure and its table.
pub struct Report {
    /// In the paper's sense.
    pub claim: String,
    /// What was asked of the numbers, each with its answer.
    pub criteria: Vec<(String, bool)>,
    pub table: Table,
    /// What the columns are.
    pub legend: String,
    pub figure: Figure,
}

impl Report {
    /// Prints the table and writes NAME.md and NAME.svg.
    pub fn publish(&self, name: &str, out: &Path) -> Result<()> {
        let answers: Vec<bool> = self.criteria.iter().map(|(_, held)| *held).collect();
        let mut text = format!(
            "## {name}: {}\n\n**{}**\n\n",
            self.claim,
            Verdict::of(&answers)
        );
        for (criterion, held) in &self.criteria {
            text += &format!("* {}: {criterion}\n", if *held { "yes" } else { "no" });
        }
        text += &format!("\n{}\n\n{}\n", self.table, self.legend);
        print!("{text}");
        std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
        file::write_atomically(&out.join(format!("{name}.md")), text.as_bytes())?;
        let figure = out.join(format!("{name}.svg"));
        self.figure.save(&figure)?;
        println!("figure: {}\n", figure.display());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_holds_if_all_its_parts_do() {
        assert_eq!(Verdict::of(&[true, true]), Verdict::Held);
        assert_eq!(Verdict::of(&[true, false]), Verdict::Partly);
        assert_eq!(Verdict::of(&[false, false]), Verdict::DidNotHold);
    }
}
