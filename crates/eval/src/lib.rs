//! Evaluates optimizers on tasks that they were not meta-trained on.
//!
//! [`evaluate`] trains every task of a suite with every contender and with Adam at every
//! learning rate of its grid, over the same seeds: all optimizers start from the same networks and
//! see the same batches. [`Summary`] compares them, [`write_reports`] writes JSON, CSV and SVG.

mod compare;
mod error;
mod evaluate;
mod plot;
mod report;
pub mod stats;
mod train;

pub use compare::{Comparison, Score, adams, compare_with_adam};
pub use error::{Error, Result};
pub use evaluate::{
    ADAM, Contender, ContenderResult, Event, Outcome, Settings, SpeedUp, TaskReport, evaluate,
};
pub use report::{GroupSummary, Summary, write_reports};
pub use train::{Curve, FINAL_FRACTION, final_window, train, train_all};
