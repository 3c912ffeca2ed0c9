//! The claims of the STAR paper (arXiv 2209.11208).

mod ablations;
mod compared;
mod distribution;
mod horizon;
mod meta_training;
mod report;
mod spread;

use crate::{Lab, Result};

pub use report::{Criterion, Report, Verdict};

/// A claim of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// STAR meta-trains faster than the blackbox.
    C1,
    /// STAR is more stable across meta-training seeds.
    C2,
    /// STAR keeps descending up to 100 times its horizon; the blackbox diverges.
    C3,
    /// STAR generalizes to other tasks; the blackbox diverges or falls behind.
    C4,
    /// STAR is comparable to Adam with a tuned learning rate.
    C5,
    /// Every part of STAR helps, and so does weight decay between 0.1 and 0.5.
    C6,
}

impl Claim {
    /// All claims.
    pub const ALL: [Claim; 6] = [
        Claim::C1,
        Claim::C2,
        Claim::C3,
        Claim::C4,
        Claim::C5,
        Claim::C6,
    ];

    /// The name, as users type it.
    pub fn name(self) -> &'static str {
        match self {
            Claim::C1 => "C1",
            Claim::C2 => "C2",
            Claim::C3 => "C3",
            Claim::C4 => "C4",
            Claim::C5 => "C5",
            Claim::C6 => "C6",
        }
    }

    /// The claim in one sentence.
    pub fn summary(self) -> &'static str {
        match self {
            Claim::C1 => "STAR meta-trains faster than the blackbox",
            Claim::C2 => "STAR is more stable across meta-training seeds",
            Claim::C3 => "STAR keeps descending far beyond its horizon; the blackbox diverges",
            Claim::C4 => "STAR generalizes to other tasks; the blackbox diverges or falls behind",
            Claim::C5 => "STAR is comparable to Adam with a tuned learning rate, sometimes better",
            Claim::C6 => "every part of STAR helps, and a weight decay of 0.1 to 0.5",
        }
    }

    /// Checks that there are enough meta-training seeds.
    ///
    /// # Errors
    /// Returns [`Error::Settings`](crate::Error::Settings) if there is one seed and the claim compares
    /// seeds.
    pub fn check(self, seeds: u64) -> Result<()> {
        match (self, seeds) {
            (Claim::C2, 0 | 1) => Err(crate::Error::Settings(
                "C2 compares meta-training seeds and needs at least 2".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// Meta-trains and evaluates what the claim needs, and compares the numbers with it.
    ///
    /// # Errors
    /// Returns the errors of [`Claim::check`], an error if a meta-training or evaluation fails or the
    /// folder of the lab cannot be used, and [`Error::Stopped`](crate::Error::Stopped) once
    /// [`Lab::stop`] is set.
    pub fn reproduce(self, lab: &mut Lab) -> Result<Report> {
        self.check(lab.seeds)?;
        match self {
            Claim::C1 => meta_training::faster(lab),
            Claim::C2 => meta_training::more_stable(lab),
            Claim::C3 => horizon::keeps_descending(lab),
            Claim::C4 => distribution::generalises(lab),
            Claim::C5 => distribution::comparable_to_adam(lab),
            Claim::C6 => ablations::every_part_helps(lab),
        }
    }
}
