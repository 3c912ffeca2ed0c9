//! The optimizers that C1 to C5 compare.

use crate::{Lab, Result, Run, Variant};

/// Outer steps of each meta-training.
const OUTER_STEPS: u64 = 2000;

/// STAR with the multipliers and the time limit of the preset.
pub static STAR: Variant = Variant {
    name: "STAR",
    overrides: &[],
};

/// STAR as in the paper.
pub static PAPER_STAR: Variant = Variant {
    name: "STAR, paper's multipliers",
    overrides: &[
        "optimizer.star.time-limit=",
        "optimizer.star.multipliers.nominal-exp=1e-3",
        "optimizer.star.multipliers.blackbox-step=1e-3",
        "optimizer.star.multipliers.blackbox-exp=1e-3",
    ],
};

/// The blackbox optimizer.
pub static BLACKBOX: Variant = Variant {
    name: "blackbox",
    overrides: &["optimizer.kind=blackbox", "optimizer.last-layer-scale=1.0"],
};

/// A value for each of the compared optimizers.
#[derive(Clone, Debug)]
pub struct Compared<T> {
    pub star: T,
    pub paper_star: T,
    pub blackbox: T,
}

/// The compared optimizers.
pub fn variants() -> Compared<&'static Variant> {
    Compared {
        star: &STAR,
        paper_star: &PAPER_STAR,
        blackbox: &BLACKBOX,
    }
}

/// The meta-trainings of one of the compared optimizers.
pub fn runs_of(lab: &mut Lab, variant: &'static Variant) -> Result<Vec<Run>> {
    lab.runs(variant, OUTER_STEPS)
}

/// The meta-trainings of all compared optimizers.
pub fn runs(lab: &mut Lab) -> Result<Compared<Vec<Run>>> {
    variants().try_map(|variant| runs_of(lab, variant))
}

impl<T> Compared<T> {
    /// Applies `f` to each value, in the order of the fields.
    pub fn try_map<U>(self, mut f: impl FnMut(T) -> Result<U>) -> Result<Compared<U>> {
        Ok(Compared {
            star: f(self.star)?,
            paper_star: f(self.paper_star)?,
            blackbox: f(self.blackbox)?,
        })
    }

    /// Applies `f` to a reference to each value, in the order of the fields.
    pub fn map<'a, U>(&'a self, mut f: impl FnMut(&'a T) -> U) -> Compared<U> {
        Compared {
            star: f(&self.star),
            paper_star: f(&self.paper_star),
            blackbox: f(&self.blackbox),
        }
    }

    /// Each value with the name of its optimizer.
    pub fn named(&self) -> [(&'static str, &T); 3] {
        let [(star, of_star), (paper_star, of_paper_star)] = self.stars();
        [
            (star, of_star),
            (paper_star, of_paper_star),
            (BLACKBOX.name, &self.blackbox),
        ]
    }

    /// The values of both STARs, with their names.
    pub fn stars(&self) -> [(&'static str, &T); 2] {
        [(STAR.name, &self.star), (PAPER_STAR.name, &self.paper_star)]
    }
}
