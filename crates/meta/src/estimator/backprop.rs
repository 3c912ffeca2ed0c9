//! Truncated backpropagation through the unroll.

use lopt_core::{LearnedOptimizer, Params, Purpose, State};
use lopt_tasks::{Split, check_hessian};
use serde::{Deserialize, Serialize};

use super::{
    Contribution, Estimator, OuterStep, Saved, Settings, Source,
    adjoint::{MetaLoss, MetaObjective, meta_gradient},
    config::WithSettings,
    snapshot::{NamedTensors, named},
    unroll::{Counters, Episode},
};
use crate::{Horizon, Result};

/// Settings of [`Backprop`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BackpropConfig {
    /// Networks, each with its own task.
    pub tasks: u64,
    /// Inner steps for one meta-gradient.
    pub truncation: usize,
    /// Inner steps after which the networks are reset.
    pub horizon: Horizon,
}

impl WithSettings for BackpropConfig {
    fn settings(&self) -> Settings {
        Settings {
            tasks: self.tasks,
            horizon: self.horizon,
            truncation: Some(self.truncation),
            sigma: None,
            sign: None,
        }
    }

    fn new(settings: &Settings) -> Self {
        Self {
            tasks: settings.tasks,
            truncation: settings.truncation_or_default(),
            horizon: settings.horizon,
        }
    }
}

/// Truncated backpropagation: ĝ = ∂L̄/∂θ with the mean L̄ of the losses of a truncation.
///
/// Each of `tasks` networks is trained with θ for `truncation` inner steps (default 50) and
/// contributes their exact gradient, see [`meta_gradient`]. It is biased towards the short
/// term, because the state at the start of the truncation counts as a constant; it is exact
/// if the truncation is the horizon. A gradient that overflowed counts as 0, with a warning.
///
/// A network is reset after `horizon` inner steps. At the start of a run, the i-th of N
/// networks counts as if i/N of its horizon were over, so that resets are spread in time.
///
/// # Errors
/// [`Driver::new`](super::Driver::new) returns an error if the Hessian of a task is wrong, see
/// [`check_hessian`].
///
/// ```
/// use std::sync::Arc;
///
/// use candle_core::Device;
/// use lopt_core::Workers;
/// use lopt_meta::{Alone, Backprop, BackpropConfig, Driver, GradientEstimator, Horizon};
/// use lopt_star::Star;
/// use lopt_tasks::{DataStore, MlpTask, suite::Suite};
///
/// let (task, _) = Suite::Quick.base();
/// let task = Arc::new(MlpTask::new(task, &mut DataStore::default(), &Device::Cpu)?);
/// let config = BackpropConfig {
///     tasks: 1,
///     truncation: 2,
///     horizon: Horizon::Constant { steps: 4 },
/// };
/// let (star, workers) = (Star::untrained(), Workers::new(None));
/// let estimator = Backprop(config);
/// let mut driver = Driver::new(estimator, 0, Arc::new(task), workers, &star, &Alone)?;
/// let estimate = driver.estimate(&star, 0, &Alone)?;
/// assert_eq!(estimate.gradient.len(), 202);
/// # Ok::<(), lopt_meta::Error>(())
/// ```
///
/// Source: Werbos 1990, "Backpropagation through time: what it does and how to do it".
pub struct Backprop(pub BackpropConfig);

/// A network between truncations.
pub struct Kept {
    episode: Episode,
    params: Params,
    state: State,
}

impl Kept {
    fn start(
        index: u64,
        episode: u64,
        source: &Source,
        optimizer: &dyn LearnedOptimizer,
    ) -> Result<Self> {
        let (episode, params) = Episode::start(index, episode, source)?;
        Ok(Self {
            state: optimizer.init(&params)?,
            episode,
            params,
        })
    }
}

impl Estimator for Backprop {
    const KEPT: Option<&'static str> = Some("network");
    type Unroll = Kept;
    type Counters = Counters<u64>;

    fn settings(&self) -> Settings {
        self.0.settings()
    }

    fn path(&self, _: &Source, _: &dyn LearnedOptimizer) -> Result<String> {
        Ok("candle autodiff, update in candle ops and its adjoint".to_owned())
    }

    fn start(&self, index: u64, source: &Source, optimizer: &dyn LearnedOptimizer) -> Result<Kept> {
        let mut network = Kept::start(index, 0, source, optimizer)?;
        let task = &*network.episode.task;
        let mut rng = source.streams.stream(Purpose::HessianCheck, index, 0, 0);
        let batch = task.batch(Split::Train, &mut rng)?;
        if !check_hessian(task, &network.params, &batch, &mut rng)? {
            let name = task.name();
            tracing::warn!("second derivatives of task `{name}` are not checked: no f64");
        }
        network.episode.stagger(self.0.tasks);
        Ok(network)
    }

    fn advance(&self, network: &mut Kept, at: &OuterStep) -> Result<Contribution> {
        let OuterStep {
            index,
            source,
            optimizer,
            ..
        } = *at;
        let mut gradient = vec![0.0; optimizer.theta().values().len()];
        let (mut sum, mut steps) = (0.0, 0);
        let mut left = self.0.truncation as u64;
        while left > 0 {
            if network.episode.is_over() {
                // The reset takes a step, as in the other estimators.
                *network = Kept::start(index, network.episode.episode + 1, source, optimizer)?;
                left -= 1;
                continue;
            }
            let episode = &network.episode;
            let count = left.min(episode.horizon - episode.inner_step);
            let batch = |t: usize| {
                let mut rng = episode.batch_rng(source, t as u64);
                Ok(episode.task.batch(Split::Train, &mut rng)?)
            };
            let of_part = meta_gradient(
                &*episode.task,
                optimizer,
                &network.params,
                &network.state,
                MetaObjective {
                    steps: count as usize,
                    loss: MetaLoss::Sum,
                    horizon: Some(episode.horizon),
                },
                &batch,
            )?;
            for (sum, part) in gradient.iter_mut().zip(&of_part.gradient) {
                *sum += part;
            }
            sum += of_part.meta_loss;
            network.params = of_part.params;
            network.state = of_part.state;
            network.episode.inner_step += count;
            steps += count;
            left -= count;
        }
        let steps_or_1 = steps.max(1) as f64;
        gradient.iter_mut().for_each(|g| *g /= steps_or_1);
        if gradient.iter().any(|g| !g.is_finite()) {
            tracing::warn!("the meta-gradient of a task overflowed and counts as 0");
            gradient.fill(0.0);
        }
        Ok(Contribution {
            gradient,
            meta_loss: sum / steps_or_1,
            inner_steps: steps,
        })
    }

    fn save(&self, network: &Kept) -> Result<(Self::Counters, NamedTensors)> {
        let tensors = named("", &network.params, &network.state);
        Ok((network.episode.counters(network.state.step), tensors))
    }

    fn restore(
        &self,
        index: u64,
        counters: Self::Counters,
        saved: &mut Saved,
        source: &Source,
        optimizer: &dyn LearnedOptimizer,
    ) -> Result<Kept> {
        let mut network = Kept::start(index, counters.episode, source, optimizer)?;
        network.episode.restore(&counters);
        let (template, state) = (&network.params, network.state);
        let step = counters.optimizer_steps;
        (network.params, network.state) = saved.network("", template, state, step)?;
        Ok(network)
    }
}
