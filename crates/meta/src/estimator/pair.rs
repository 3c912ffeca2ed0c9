//! Antithetic pairs of networks in training.

use std::sync::Arc;

use lopt_core::{LearnedOptimizer, Optimizer, Params};
use lopt_tasks::{Feed, Network, Split};

use super::unroll::{Episode, Source};
use crate::Result;

/// One inner step of an antithetic pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepRecord {
    /// Normalized training losses on the minibatch before the update, of the halves
    /// trained with θ + ξ and θ − ξ; 0 in a masked step.
    pub losses: [f32; 2],
    /// The step ended the unroll: the next one belongs to another.
    pub done: bool,
    /// The step only reset the networks; its loss does not count.
    pub masked: bool,
}

/// An antithetic pair: two networks with the same task, initial parameters, minibatches and
/// resets, one trained with θ + ξ and one with θ − ξ.
pub struct Pair {
    pub episode: Episode,
    /// The halves of θ + ξ and θ − ξ.
    pub halves: [Network; 2],
    feed: Feed,
}

impl Pair {
    /// The start of episode `episode`, at ξ = 0.
    pub fn start(
        index: u64,
        episode: u64,
        source: &Source,
        optimizer: &dyn LearnedOptimizer,
    ) -> Result<Self> {
        let (episode, params) = Episode::start(index, episode, source)?;
        let unperturbed = optimizer.with_values(optimizer.theta().values().to_vec())?;
        let optimizer: Arc<dyn LearnedOptimizer> = unperturbed.into();
        Ok(Self {
            halves: halves(&episode, &params, [optimizer.clone(), optimizer])?,
            episode,
            feed: Feed::default(),
        })
    }

    /// Continues with θ ± ξ.
    pub fn perturb(&mut self, optimizer: &dyn LearnedOptimizer, xi: &[f32]) -> Result<()> {
        let theta = optimizer.theta().values();
        for (half, sign) in self.halves.iter_mut().zip([1.0, -1.0]) {
            let shifted = theta.iter().zip(xi).map(|(w, xi)| w + sign * xi);
            half.set_theta(&shifted.collect::<Vec<f32>>())?;
        }
        Ok(())
    }

    /// One inner step of both halves, or the reset that follows the last one.
    ///
    /// A step whose gradient is not finite changes nothing: the network stays where it
    /// diverged. Its loss counts as it is, at the upper bound if it is not finite.
    fn step(&mut self, source: &Source) -> Result<StepRecord> {
        if self.episode.is_over() {
            let optimizers = self.halves.each_ref().map(|half| half.optimizer().clone());
            let next = self.episode.episode + 1;
            let (episode, params) = Episode::start(self.episode.index, next, source)?;
            self.halves = halves(&episode, &params, optimizers)?;
            self.episode = episode;
            return Ok(StepRecord {
                losses: [0.0; 2],
                done: false,
                masked: true,
            });
        }
        let mut rng = self.episode.batch_rng(source, 0);
        self.halves[0].draw(Split::Train, &mut rng, &mut self.feed)?;
        let mut losses = [0.0; 2];
        for (half, loss) in self.halves.iter_mut().zip(&mut losses) {
            *loss = self.episode.task.normalize(half.step(&mut self.feed)?.loss);
        }
        self.episode.inner_step += 1;
        Ok(StepRecord {
            losses,
            done: self.episode.is_over(),
            masked: false,
        })
    }

    /// `length` inner steps.
    pub fn truncation(&mut self, source: &Source, length: usize) -> Result<Vec<StepRecord>> {
        (0..length).map(|_| self.step(source)).collect()
    }
}

fn halves(
    episode: &Episode,
    params: &Params,
    optimizers: [Arc<dyn Optimizer>; 2],
) -> Result<[Network; 2]> {
    let start = |optimizer| -> Result<Network> {
        let network = Network::start(episode.task.clone(), params.clone(), optimizer)?;
        Ok(network.with_horizon(episode.horizon))
    };
    let [plus, minus] = optimizers.map(start);
    Ok([plus?, minus?])
}
