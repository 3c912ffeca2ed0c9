use std::sync::{Arc, atomic::AtomicBool};

use lopt_adam::{Adam, GRID};
use lopt_core::{Optimizer, Workers};
use lopt_tasks::Task;

use crate::{Curve, Result, train::train_all};

/// Training losses, averaged over seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Of all steps.
    pub mean_loss: f64,
    /// Of the last twentieth.
    pub final_loss: f64,
}

impl Score {
    /// Over the first `horizon` steps of these runs.
    pub fn of(curves: &[Curve], horizon: usize) -> Self {
        let mean = |loss: &dyn Fn(&Curve) -> f64| {
            curves.iter().map(loss).sum::<f64>() / curves.len() as f64
        };
        Self {
            mean_loss: mean(&|curve| curve.mean_loss(horizon)),
            final_loss: mean(&|curve| curve.final_loss(horizon)),
        }
    }
}

/// An optimizer beside Adam at every learning rate of its grid, on one task.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The optimizer's.
    pub learned: Score,
    /// Adam's learning rates and their scores.
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

/// Adam at each of these learning rates.
pub fn adams(learning_rates: &[f64]) -> Vec<Arc<dyn Optimizer>> {
    let adam = |&learning_rate: &f64| Arc::new(Adam::new(learning_rate)) as _;
    learning_rates.iter().map(adam).collect()
}

/// Trains `task` for `horizon` steps with `optimizer` and with Adam at every learning rate of
/// [`GRID`], over the seeds 0, 1, … of [`crate::train()`], which meta-training does not use.
///
/// # Errors
/// Those of the task; if there are 0 seeds; [`crate::Error::Stopped`] if `stop` is set.
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
    let score = |of_seeds: &Vec<Curve>| Score::of(of_seeds, horizon as usize);
    let scores: Vec<Score> = curves.iter().map(score).collect();
    Ok(Comparison {
        learned: scores[0],
        adam: GRID
            .iter()
            .copied()
            .zip(scores[1..].iter().copied())
            .collect(),
    })
}
