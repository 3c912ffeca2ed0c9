//! The mean over the tasks of all ranks.

use crate::{Comm, Result, exact_sum::ExactSum};

use super::Estimate;

/// What one task contributes to an [`Estimate`], which is the mean over the tasks.
pub struct Contribution {
    /// Its meta-gradient.
    pub gradient: Vec<f64>,
    /// Its meta-loss.
    pub meta_loss: f64,
    /// Inner steps taken; these are summed.
    pub inner_steps: u64,
}

/// The means over all `tasks`, given those of this rank; `n` is the number of
/// meta-parameters. One sum over the ranks.
pub fn mean_over_ranks(
    own: &[Contribution],
    n: usize,
    tasks: u64,
    comm: &dyn Comm,
) -> Result<Estimate> {
    let mut sum = ExactSum::new(n + 2);
    for contribution in own {
        let gradient = contribution.gradient.iter().copied();
        let rest = [contribution.meta_loss, contribution.inner_steps as f64];
        sum.add(gradient.chain(rest));
    }
    let mut gradient = sum.over(comm)?;
    let inner_steps = gradient.pop().unwrap_or_default() as u64;
    let meta_loss = gradient.pop().unwrap_or_default() / tasks as f64;
    gradient.iter_mut().for_each(|g| *g /= tasks as f64);
    Ok(Estimate {
        gradient,
        meta_loss,
        inner_steps,
    })
}
