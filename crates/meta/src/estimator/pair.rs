//! Antithetic pairs of networks in training.

use std::{ops::Range, sync::Arc};

use candle_core::Device;
use lopt_core::{Error as CoreError, LearnedOptimizer, Optimizer, Params, State};
use lopt_tasks::{Feed, Loss, Network, STEPS_TOGETHER, Split, Task, Together};

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
    halves: Halves,
}

/// The halves of θ + ξ and θ − ξ.
enum Halves {
    Apart(Box<Apart>),
    /// The networks `first` and `first + 1` of those that are trained together.
    Together {
        all: Together,
        first: usize,
    },
}

struct Apart {
    networks: [Network; 2],
    feed: Feed,
}

/// A step that only resets the networks.
const MASKED: StepRecord = StepRecord {
    losses: [0.0; 2],
    done: false,
    masked: true,
};

impl Pair {
    /// The start of episode `episode`, at ξ = 0.
    pub fn start(
        index: u64,
        episode: u64,
        source: &Source,
        optimizer: &dyn LearnedOptimizer,
    ) -> Result<Self> {
        let (episode, params) = Episode::start(index, episode, source)?;
        let halves = match source.together() {
            Some((all, first)) => {
                let first = 2 * (index - first) as usize;
                let mut fleet = all.fleet();
                for network in [first, first + 1] {
                    fleet.start(network, &params)?;
                    fleet.set_theta(network, optimizer.theta().values())?;
                }
                Halves::Together {
                    all: all.clone(),
                    first,
                }
            }
            None => {
                let unperturbed = optimizer.with_values(optimizer.theta().values().to_vec())?;
                let optimizer: Arc<dyn LearnedOptimizer> = unperturbed.into();
                Halves::Apart(Box::new(Apart {
                    networks: networks(&episode, &params, [optimizer.clone(), optimizer])?,
                    feed: Feed::default(),
                }))
            }
        };
        Ok(Self { episode, halves })
    }

    /// How inner steps are taken.
    pub fn path(source: &Source, optimizer: &dyn LearnedOptimizer) -> Result<String> {
        if let Some((all, _)) = source.together() {
            return Ok(all.path());
        }
        Ok(match Self::start(0, 0, source, optimizer)?.halves {
            Halves::Apart(halves) => halves.networks[0].path(),
            Halves::Together { all, .. } => all.path(),
        })
    }

    /// Continues with θ ± ξ.
    pub fn perturb(&mut self, optimizer: &dyn LearnedOptimizer, xi: &[f32]) -> Result<()> {
        let theta = optimizer.theta().values();
        for (half, sign) in [1.0, -1.0].into_iter().enumerate() {
            let shifted = theta.iter().zip(xi).map(|(w, xi)| w + sign * xi);
            let shifted: Vec<f32> = shifted.collect();
            match &mut self.halves {
                Halves::Apart(halves) => halves.networks[half].set_theta(&shifted)?,
                Halves::Together { all, first } => {
                    all.fleet().set_theta(*first + half, &shifted)?;
                }
            }
        }
        Ok(())
    }

    /// Copies of φ and of the optimizer's state of one half.
    pub fn half(&self, half: usize) -> Result<(Params, State)> {
        Ok(match &self.halves {
            Halves::Apart(halves) => {
                let network = &halves.networks[half];
                (network.params()?, network.state()?)
            }
            Halves::Together { all, first } => {
                let fleet = all.fleet();
                (fleet.params(first + half)?, fleet.state(first + half)?)
            }
        })
    }

    /// Continues one half from the given parameters and state.
    pub fn restore(&mut self, half: usize, params: &Params, state: State) -> Result<()> {
        match &mut self.halves {
            Halves::Apart(halves) => halves.networks[half].restore(params, state)?,
            Halves::Together { all, first } => {
                all.fleet().restore(*first + half, params, &state)?;
            }
        }
        Ok(())
    }

    /// If the unroll is over, begins the next one, and returns its initial parameters.
    fn begin_next(&mut self, source: &Source) -> Result<Option<Params>> {
        if !self.episode.is_over() {
            return Ok(None);
        }
        let next = self.episode.episode + 1;
        let (episode, params) = Episode::start(self.episode.index, next, source)?;
        self.episode = episode;
        Ok(Some(params))
    }

    /// One inner step of both halves, or the reset that follows the last one; the losses, which a GPU
    /// may still compute, are added to `losses`.
    ///
    /// A step whose gradient is not finite changes nothing: the network stays where it
    /// diverged. Its loss counts as it is, at the upper bound if it is not finite.
    fn step(&mut self, source: &Source, losses: &mut Vec<Loss>) -> Result<StepRecord> {
        let next = self.begin_next(source)?;
        let Halves::Apart(apart) = &mut self.halves else {
            let problem = "networks of a fleet take no steps of their own";
            return Err(CoreError::Mismatch(problem.to_owned()).into());
        };
        let Apart {
            networks: halves,
            feed,
        } = &mut **apart;
        if let Some(params) = next {
            let optimizers = halves.each_ref().map(|half| half.optimizer().clone());
            *halves = networks(&self.episode, &params, optimizers)?;
            return Ok(MASKED);
        }
        let mut rng = self.episode.batch_rng(source, 0);
        halves[0].draw(Split::Train, &mut rng, feed)?;
        for half in halves {
            losses.push(half.step_without_waiting(feed)?);
        }
        self.episode.inner_step += 1;
        Ok(StepRecord {
            done: self.episode.is_over(),
            masked: false,
            ..MASKED
        })
    }

    /// `length` inner steps. On a GPU, all of them are launched before the losses are read.
    pub fn truncation(&mut self, source: &Source, length: usize) -> Result<Vec<StepRecord>> {
        let (mut records, mut losses, mut tasks) = (vec![], vec![], vec![]);
        for _ in 0..length {
            records.push(self.step(source, &mut losses)?);
            tasks.push(self.episode.task.clone());
        }
        let losses = Loss::values(&losses)?;
        let unmasked = records.iter_mut().zip(tasks);
        let unmasked = unmasked.filter(|(record, _)| !record.masked);
        for ((record, task), losses) in unmasked.zip(losses.as_chunks::<2>().0) {
            record.losses = losses.map(|loss| task.normalize(loss));
        }
        Ok(records)
    }
}

fn networks(
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

/// [`Pair::truncation`] of all pairs that are trained together, in the order of their networks; each
/// has its own length. Many inner steps are launched before their losses are read.
///
/// A pair that has taken all of its steps goes on with any minibatch until the others have.
pub fn truncations(
    all: &Together,
    pairs: &mut [&mut Pair],
    source: &Source,
    lengths: &[usize],
) -> Result<Vec<Vec<StepRecord>>> {
    let steps = lengths.iter().copied().max().unwrap_or(0);
    let mut records = vec![vec![]; pairs.len()];
    for first in (0..steps).step_by(STEPS_TOGETHER) {
        let some = first..steps.min(first + STEPS_TOGETHER);
        let (rows, restarts) = minibatches(all, pairs, source, lengths, &some, &mut records)?;
        let mut fleet = all.fleet();
        fleet.begin(&rows)?;
        for restarts in &restarts {
            fleet.step()?;
            for (pair, params) in restarts {
                fleet.start(2 * pair, params)?;
                fleet.start(2 * pair + 1, params)?;
            }
        }
        let results = fleet.results()?;
        for (step, of_step) in some.zip(results.chunks_exact(2 * pairs.len())) {
            for (records, halves) in records.iter_mut().zip(of_step.as_chunks::<2>().0) {
                if let Some(record) = records.get_mut(step).filter(|record| !record.masked) {
                    record.losses = halves.map(|half| all.task().normalize(half.loss));
                }
            }
        }
    }
    Ok(records)
}

/// For each step, the pairs that restart after it, with their initial parameters on the CPU.
type Restarts = Vec<Vec<(usize, Params)>>;

/// Draws the minibatches of some steps of all pairs, and adds the steps to their records, without
/// losses.
fn minibatches(
    all: &Together,
    pairs: &mut [&mut Pair],
    source: &Source,
    lengths: &[usize],
    steps: &Range<usize>,
    records: &mut [Vec<StepRecord>],
) -> Result<(Vec<u32>, Restarts)> {
    let (task, count) = (all.task(), pairs.len());
    let batch = task.config().batch_size;
    let mut rows = vec![0; steps.len() * count * batch];
    let mut restarts = vec![vec![]; steps.len()];
    for (at, (pair, &length)) in pairs.iter_mut().zip(lengths).enumerate() {
        for (step, restarts) in steps.clone().zip(&mut restarts) {
            if step >= length {
                break;
            }
            if let Some(params) = pair.begin_next(source)? {
                // Reading from a GPU later would wait for all that was launched.
                let values = params.tensors().iter();
                let values = values.map(|p| Ok(p.to_device(&Device::Cpu)?));
                let values = params.with_tensors(values.collect::<Result<_>>()?)?;
                restarts.push((at, values));
                records[at].push(MASKED);
                continue;
            }
            let mut rng = pair.episode.batch_rng(source, 0);
            let drawn = task.draw_rows(Split::Train, &mut rng);
            let to = &mut rows[((step - steps.start) * count + at) * batch..][..batch];
            to.iter_mut().zip(drawn).for_each(|(to, row)| *to = row);
            pair.episode.inner_step += 1;
            records[at].push(StepRecord {
                done: pair.episode.is_over(),
                masked: false,
                ..MASKED
            });
        }
    }
    Ok((rows, restarts))
}
