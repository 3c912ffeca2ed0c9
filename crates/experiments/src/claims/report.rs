use std::fmt;

use lopt_plot::Figure;

use super::Claim;
use crate::Table;

/// Whether a claim was reproduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All criteria are met.
    Held,
    /// Some criteria are met.
    Partly,
    /// No criterion is met.
    DidNotHold,
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

/// A part of a claim that can be decided from numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Criterion {
    /// The statement, with the numbers.
    pub text: String,
    /// Whether it is true.
    pub met: bool,
}

impl Criterion {
    pub(crate) fn new(text: String, met: bool) -> Self {
        Self { text, met }
    }
}

/// Displayed as "yes: " or "no: " and the statement.
impl fmt::Display for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let answer = if self.met { "yes" } else { "no" };
        write!(f, "{answer}: {}", self.text)
    }
}

/// The reproduction of a claim. It is displayed in Markdown.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The claim.
    pub claim: Claim,
    /// The criteria that decide it.
    pub criteria: Vec<Criterion>,
    /// The numbers.
    pub table: Table,
    /// An explanation of the table.
    pub legend: String,
    /// The figure.
    pub figure: Figure,
}

impl Report {
    /// Whether all, some or none of the criteria are met.
    pub fn verdict(&self) -> Verdict {
        let met = self.criteria.iter().filter(|c| c.met).count();
        match met {
            _ if met == self.criteria.len() => Verdict::Held,
            0 => Verdict::DidNotHold,
            _ => Verdict::Partly,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (name, summary) = (self.claim.name(), self.claim.summary());
        writeln!(f, "## {name}: {summary}\n\n**{}**\n", self.verdict())?;
        for criterion in &self.criteria {
            writeln!(f, "* {criterion}")?;
        }
        writeln!(f, "\n{}\n\n{}", self.table, self.legend)
    }
}

#[cfg(test)]
mod tests {
    use lopt_plot::Axis;

    use super::*;

    #[test]
    fn a_claim_holds_if_all_its_criteria_are_met() {
        let of = |met: &[bool]| {
            let criteria = met.iter().map(|&met| Criterion::new(String::new(), met));
            let axis = Axis::linear("");
            let report = Report {
                claim: Claim::C1,
                criteria: criteria.collect(),
                table: Table::new(["a"], 0),
                legend: String::new(),
                figure: Figure::single("", "", axis.clone(), axis, vec![]),
            };
            report.verdict()
        };
        assert_eq!(of(&[true, true]), Verdict::Held);
        assert_eq!(of(&[true, false]), Verdict::Partly);
        assert_eq!(of(&[false, false]), Verdict::DidNotHold);
    }
}
