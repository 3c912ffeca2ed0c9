use std::sync::{Arc, atomic::AtomicBool};

use lopt_adam::{Adam, GRID};
use lopt_core::{Optimizer, Workers};
use lopt_tasks::Task;

use crate::{Curve, Result, stats::mean, train::train_all};

/// Normalized training losses of one run, averaged over seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// The mean loss of all steps.
    pub mean_loss: f64,
    /// The mean loss of the last [`final_window`](crate::final_window) steps.
    pub final_loss: f64,
}

impl Score {
    /// The score of these runs over their first `horizon` steps.
    pub fn of(curves: &[Curve], horizon: usize) -> Self {
        Self {
            mean_loss: mean(curves.iter().map(|curve| curve.mean_loss(horizon))),
            final_loss: mean(curves.iter().map(|curve| curve.final_loss(horizon))),
        }
    }
}

/// The scores of an optimizer and of Adam at every learning rate of its grid, on one task.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The score of the optimizer.
    pub learned: Score,
    /// Each learning rate of Adam with its score.
    pub adam: Vec<(f64, Score)>,
}

impl Comparison {
    /// The learning rate with the lowest mean training loss, and that loss.
    pub fn adam_by_mean(&self) -> (f64, f64) {
        self.best(|score| score.mean_loss)
    }

    /// The learning rate with the lowest final training loss, and that loss.
    pub fn adam_by_final(&self) -> (f64, f64) {
        self.best(|score| score.final_loss)
    }

    fn best(&self, loss: fn(&Score) -> f64) -> (f64, f64) {
        let of_each = self.adam.iter().map(|(rate, score)| (*rate, loss(score)));
        let best = of_each.min_by(|a, b| a.1.total_cmp(&b.1));
        best.unwrap_or((f64::NAN, f64::NAN))
    }
}

/// An Adam optimizer for each of these learning rates.
pub fn adams(learning_rates: &[f64]) -> Vec<Arc<dyn Optimizer>> {
    let adam = |&learning_rate: &f64| Arc::new(Adam::new(learning_rate)) as _;
    learning_rates.iter().map(adam).collect()
}

/// Trains `task` for `horizon` steps with `optimizer` and with Adam at every learning rate of
/// [`GRID`], over the seeds 0, 1, … of [`crate::train()`], whose random streams meta-training does
/// not use.
///
/// # Errors
/// Returns an error if the task fails or `seeds` is 0, and [`crate::Error::Stopped`] once `stop` is
/// set.
pub fn compare_with_adam(
    task: &Arc<dyn Task>,
    optimizer: Arc<dyn Optimizer>,
    horizon: u64,
    seeds: u64,
    workers: Workers,
    stop: &AtomicBool,
) -> Result<Comparison> {
    let mut optimizers = vec![optimizer];
    optimizers.extend(adams(&GRID));
    let curves = train_all(task, &optimizers, horizon, seeds, workers, stop)?;
    let mut scores = curves
        .iter()
        .map(|of_seeds| Score::of(of_seeds, horizon as usize));
    Ok(Comparison {
        learned: scores.next().expect("curves of the first optimizer"),
        adam: GRID.iter().copied().zip(scores).collect(),
    })
}
