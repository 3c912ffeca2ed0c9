//! Evaluates optimizers on tasks that they were not meta-trained on.
//!
//! [`evaluate`] trains every task of a suite with every contender and with the tuned baselines at
//! every learning rate of their grids, over the same seeds: all optimizers start from the same
//! networks and see the same batches. [`Summary`] compares them, [`write_reports`] writes JSON, CSV
//! and SVG.

mod baselines;
mod compare;
mod error;
mod estimate;
mod evaluate;
pub mod figures;
mod outcome;
mod report;
mod runs;
mod settings;
mod speed_up;
pub mod stats;
mod summary;
mod task_run;
mod train;

pub use baselines::{Baseline, untuned};
pub use compare::{Comparison, Score, adams, compare_with_adam};
pub use error::{Error, Result};
pub use estimate::{Estimate, estimate};
pub use evaluate::{Evaluation, Event, evaluate};
pub use outcome::{ContenderResult, Outcome, TaskReport, Tuned};
pub use report::write_reports;
pub use settings::{Contender, Settings, Tuning};
pub use speed_up::SpeedUp;
pub use summary::{GroupSummary, Summary, Versus};
pub use train::{Curve, FINAL_PERCENT, final_window, train, train_all};
