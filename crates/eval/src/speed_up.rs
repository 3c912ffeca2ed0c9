//! How much faster than tuned Adam an optimizer is.

use std::{collections::BTreeSet, ops::Range};

use serde::{Deserialize, Serialize};

use crate::{Result, stats::mean};

/// The number of steps that tuned Adam needs to reach the optimizer's final training loss, divided
/// by the number of steps of the optimizer.
///
/// If Adam's final loss is higher, only its steps after the horizon count, so that the ratio is
/// above 1 if and only if the optimizer's final loss is lower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpeedUp {
    /// The ratio; above 1 the optimizer is faster than Adam.
    pub ratio: f64,
    /// Whether Adam does not reach the loss in [`crate::Settings::adam_horizons`]; `ratio` is then
    /// that number, a lower bound.
    pub never: bool,
    /// The ratio for each choice of seeds that a bootstrap over the seeds can draw.
    pub resampled: Vec<(Vec<usize>, f64)>,
}

impl SpeedUp {
    /// The speed-up counts as at most this in [`SpeedUp::capped`].
    pub const CAP: f64 = 2.0;

    /// The ratio, at most [`SpeedUp::CAP`].
    pub fn capped(&self) -> f64 {
        self.ratio.min(Self::CAP)
    }

    /// Whether Adam does not reach the loss in [`SpeedUp::CAP`] horizons.
    pub fn beyond_cap(&self) -> bool {
        self.never || self.ratio > Self::CAP
    }

    /// The ratio for a sorted choice of seeds.
    pub(crate) fn of_seeds(&self, seeds: &[usize]) -> Option<f64> {
        let found = self.resampled.iter().find(|(choice, _)| choice == seeds);
        found.map(|(_, ratio)| *ratio)
    }
}

/// The mean over some seeds: when Adam reaches the final loss of each contender.
struct Search {
    seeds: Vec<usize>,
    targets: Vec<f64>,
    /// Adam's steps until then.
    reached: Vec<Option<usize>>,
}

impl Search {
    /// Searches these steps of Adam. `adam[seed]` holds the smoothed losses after each of them.
    fn look(&mut self, adam: &[Vec<f64>], steps: Range<usize>, horizon: usize) {
        let loss = |step: usize| mean(self.seeds.iter().map(|&seed| adam[seed][step]));
        let losses: Vec<f64> = (0..steps.len()).map(loss).collect();
        let last = losses.last().copied().unwrap_or(f64::INFINITY);
        for (target, reached) in self.targets.iter().zip(&mut self.reached) {
            let fair = steps.end > horizon || last <= *target;
            if reached.is_none() && fair {
                let found = losses.iter().position(|loss| loss <= target);
                *reached = found.map(|index| steps.start + index + 1);
            }
        }
    }
}

/// Tuned Adam's run, which can be continued.
pub trait Continued {
    /// Takes more steps for each seed: `result[seed]` holds the smoothed losses after each step.
    fn next(&mut self, steps: u64) -> Result<Vec<Vec<f64>>>;
}

/// The speed-up of each contender over Adam.
///
/// `final_losses[contender][seed]` are the contenders' after `horizon` steps, `adam[seed]` the
/// smoothed losses of Adam after each of as many steps. Adam is continued by quarters of the
/// horizon, until all of them are reached for all choices of seeds in `resamples` or it has taken
/// `horizons` horizons.
pub fn speed_ups(
    final_losses: &[&[f64]],
    adam: &[Vec<f64>],
    horizon: u64,
    horizons: u64,
    resamples: &[Vec<usize>],
    continued: &mut dyn Continued,
) -> Result<Vec<SpeedUp>> {
    let all: Vec<usize> = (0..adam.len()).collect();
    let mut choices: BTreeSet<&Vec<usize>> = resamples.iter().collect();
    choices.remove(&all);
    let mut searches: Vec<Search> = std::iter::once(&all)
        .chain(choices)
        .map(|seeds| {
            let target = |losses: &&[f64]| mean(seeds.iter().map(|&seed| losses[seed]));
            Search {
                seeds: seeds.clone(),
                targets: final_losses.iter().map(target).collect(),
                reached: vec![None; final_losses.len()],
            }
        })
        .collect();
    let mut done = horizon;
    for search in &mut searches {
        search.look(adam, 0..horizon as usize, horizon as usize);
    }
    let open = |searches: &[Search]| {
        let mut reached = searches.iter().flat_map(|search| &search.reached);
        reached.any(Option::is_none)
    };
    while done < horizon * horizons && open(&searches) {
        let steps = horizon.div_ceil(4).min(horizon * horizons - done);
        let losses = continued.next(steps)?;
        let range = done as usize..(done + steps) as usize;
        for search in &mut searches {
            search.look(&losses, range.clone(), horizon as usize);
        }
        done += steps;
    }
    let ratio = |reached: Option<usize>| {
        reached.map_or(horizons as f64, |steps| steps as f64 / horizon as f64)
    };
    let of_contender = |index: usize| SpeedUp {
        ratio: ratio(searches[0].reached[index]),
        never: searches[0].reached[index].is_none(),
        resampled: searches
            .iter()
            .map(|search| (search.seeds.clone(), ratio(search.reached[index])))
            .collect(),
    };
    Ok((0..final_losses.len()).map(of_contender).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adam whose loss after t steps is given for each seed.
    struct Formula<F> {
        loss: F,
        seeds: usize,
        taken: u64,
    }

    impl<F: Fn(usize, u64) -> f64> Continued for Formula<F> {
        fn next(&mut self, steps: u64) -> Result<Vec<Vec<f64>>> {
            let range = self.taken + 1..=self.taken + steps;
            self.taken += steps;
            let of_seed = |seed| range.clone().map(|t| (self.loss)(seed, t)).collect();
            Ok((0..self.seeds).map(of_seed).collect())
        }
    }

    /// The speed-ups over a horizon of 100 and at most 8 of them, and Adam's steps.
    fn run(
        losses: &[&[f64]],
        loss: impl Fn(usize, u64) -> f64,
        resamples: &[Vec<usize>],
    ) -> (Vec<SpeedUp>, u64) {
        let seeds = losses[0].len();
        let mut adam = Formula {
            loss,
            seeds,
            taken: 0,
        };
        let first = adam.next(100).unwrap();
        let found = speed_ups(losses, &first, 100, 8, resamples, &mut adam).unwrap();
        (found, adam.taken)
    }

    #[test]
    fn adam_is_continued_only_as_far_as_needed() {
        let decay = |_, t: u64| 1.0 / t as f64;
        let (found, taken) = run(&[&[0.02], &[0.01], &[1.0 / 130.0]], decay, &[]);
        let ratios: Vec<f64> = found.iter().map(|found| found.ratio).collect();
        assert_eq!(ratios, [0.5, 1.0, 1.3]);
        assert!(found.iter().all(|found| !found.never));
        // 1.25 horizons are not enough.
        assert_eq!(taken, 150);
        let (_, taken) = run(&[&[0.02], &[0.01]], decay, &[]);
        assert_eq!(taken, 100);
    }

    #[test]
    fn what_adam_never_reaches_is_a_lower_bound() {
        let decay = |_, t: u64| 1.0 / t as f64;
        let (found, taken) = run(&[&[1.0 / 250.0], &[0.0]], decay, &[]);
        assert_eq!((found[0].ratio, found[0].never), (2.5, false));
        assert_eq!((found[0].capped(), found[0].beyond_cap()), (2.0, true));
        assert_eq!((found[1].ratio, found[1].never), (8.0, true));
        assert_eq!(taken, 800);
    }

    /// A low loss in passing is no reason to call an optimizer slower that ends below Adam.
    #[test]
    fn a_lower_final_loss_is_a_speed_up_above_1() {
        let dips = |_, t: u64| if t == 30 { 0.0 } else { 1.0 / t as f64 };
        let (found, _) = run(&[&[1.0 / 120.0], &[0.0101]], dips, &[]);
        assert_eq!(found[0].ratio, 1.2);
        // Above Adam's: its first time counts.
        assert_eq!(found[1].ratio, 0.3);
    }

    #[test]
    fn every_choice_of_seeds_has_its_ratio() {
        // The second seed of Adam is half as fast.
        let adam = |seed: usize, t: u64| [1.0, 2.0][seed] / t as f64;
        let choices = [vec![0, 0], vec![0, 1], vec![1, 1], vec![0, 1]];
        let (found, taken) = run(&[&[0.01, 0.005]], adam, &choices);
        let of = |seeds: &[usize]| found[0].of_seeds(seeds);
        assert_eq!(of(&[0, 0]), Some(1.0));
        assert_eq!(of(&[1, 1]), Some(4.0));
        assert_eq!(of(&[0, 1]), Some(2.0));
        assert_eq!(found[0].ratio, 2.0);
        assert_eq!(found[0].resampled.len(), 3);
        assert_eq!(taken, 400);
    }
}
