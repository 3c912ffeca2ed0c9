//! Evolution strategies on whole unrolls.

use lopt_core::{LearnedOptimizer, Workers};
use serde::{Deserialize, Serialize};

use super::{
    Contribution, Estimator, OuterStep, Saved, Settings, Source,
    arithmetic::{UnrollLoss, full_es_gradient},
    config::{WithSettings, require_positive},
    driver::{advance_each, together},
    pair::{Pair, StepRecord, truncations},
    snapshot::NamedTensors,
};
use crate::{Horizon, Result};

/// Settings of [`FullEs`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FullEsConfig {
    /// Antithetic pairs, each with its own task and perturbation.
    pub tasks: u64,
    /// σ, the standard deviation of the perturbations.
    pub sigma: f64,
    /// Inner steps of each unroll.
    pub horizon: Horizon,
    /// The loss of an unroll; the mean by default.
    #[serde(default)]
    pub loss: UnrollLoss,
    /// If given, a pair's difference of losses is clipped to ± this value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// If given, a pair's difference of losses is replaced by its sign times this value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign: Option<f64>,
}

impl WithSettings for FullEsConfig {
    fn settings(&self) -> Settings {
        Settings {
            tasks: self.tasks,
            horizon: self.horizon,
            truncation: None,
            sigma: Some(self.sigma),
            sign: self.sign,
        }
    }

    fn new(settings: &Settings) -> Self {
        Self {
            tasks: settings.tasks,
            sigma: settings.sigma_or_default(),
            horizon: settings.horizon,
            loss: UnrollLoss::default(),
            clip: None,
            sign: settings.sign,
        }
    }

    fn check(&self) -> Result<()> {
        require_positive(self.clip, "clip")
    }
}

/// Evolution strategies on whole unrolls: ĝ = (L⁺ − L⁻)·ξ / (2σ²).
///
/// Each of `tasks` antithetic pairs draws ξ ~ N(0, σ²) (default σ 0.01), trains new networks
/// with θ + ξ and θ − ξ to the horizon and contributes the formula above, see
/// [`full_es_gradient`]. L is the mean, lowest or last loss of the unroll, [`UnrollLoss`].
/// Unbiased for the smoothed meta-loss, unless `clip` or `sign` is given; an estimate costs
/// whole unrolls, and nothing is kept between estimates.
///
/// ```
/// use std::sync::Arc;
///
/// use candle_core::Device;
/// use lopt_core::Workers;
/// use lopt_meta::{Alone, Driver, FullEs, FullEsConfig, GradientEstimator, Horizon, UnrollLoss};
/// use lopt_star::Star;
/// use lopt_tasks::{DataStore, MlpTask, suite::Suite};
///
/// let (task, _) = Suite::Quick.base();
/// let task = Arc::new(MlpTask::new(task, &mut DataStore::default(), &Device::Cpu)?);
/// let config = FullEsConfig {
///     tasks: 2,
///     sigma: 0.01,
///     horizon: Horizon::Constant { steps: 10 },
///     loss: UnrollLoss::Mean,
///     clip: None,
///     sign: None,
/// };
/// let (star, workers) = (Star::untrained(), Workers::new(None));
/// let estimator = FullEs(config);
/// let mut driver = Driver::new(estimator, 0, Arc::new(task), workers, &star, &Alone)?;
/// let estimate = driver.estimate(&star, 0, &Alone)?;
/// assert_eq!(estimate.gradient.len(), 202);
/// # Ok::<(), lopt_meta::Error>(())
/// ```
///
/// Source: Vicol, Metz & Sohl-Dickstein 2021, arXiv 2112.13835.
pub struct FullEs(pub FullEsConfig);

impl FullEs {
    /// A new pair with θ ± ξ, and ξ.
    fn begin(&self, at: &OuterStep) -> Result<(Pair, Vec<f32>)> {
        let xi = at.perturbation(self.0.sigma);
        // Each outer step is an episode: it has its own tasks, initial parameters and minibatches.
        let mut pair = Pair::start(at.index, at.outer_step, at.source, at.optimizer)?;
        pair.perturb(at.optimizer, &xi)?;
        Ok((pair, xi))
    }

    /// What a pair contributes after an unroll with these steps.
    fn contribution(&self, xi: Vec<f32>, records: &[StepRecord]) -> Contribution {
        let FullEsConfig {
            sigma,
            loss,
            clip,
            sign,
            ..
        } = self.0;
        let losses = [0, 1].map(|half| {
            let of_half = records.iter().map(|record| f64::from(record.losses[half]));
            loss.of(of_half)
        });
        let xi: Vec<f64> = xi.into_iter().map(f64::from).collect();
        Contribution {
            gradient: full_es_gradient(losses, &xi, sigma, clip, sign),
            meta_loss: (losses[0] + losses[1]) / 2.0,
            inner_steps: 2 * records.len() as u64,
        }
    }
}

impl Estimator for FullEs {
    const KEPT: Option<&'static str> = None;
    const IN_PAIRS: bool = true;
    type Unroll = ();
    type Counters = ();

    fn settings(&self) -> Settings {
        self.0.settings()
    }

    fn path(&self, source: &Source, optimizer: &dyn LearnedOptimizer) -> Result<String> {
        Pair::path(source, optimizer)
    }

    fn start(&self, _: u64, _: &Source, _: &dyn LearnedOptimizer) -> Result<()> {
        Ok(())
    }

    fn advance(&self, (): &mut (), at: &OuterStep) -> Result<Contribution> {
        let (mut pair, xi) = self.begin(at)?;
        let horizon = pair.episode.horizon;
        let records = pair.truncation(at.source, horizon as usize)?;
        Ok(self.contribution(xi, &records))
    }

    fn advance_all(
        &self,
        tasks: Vec<(&mut (), OuterStep)>,
        workers: Workers,
    ) -> Result<Vec<Contribution>> {
        let Some((source, all)) = together(&tasks) else {
            return advance_each(self, tasks, workers);
        };
        let begun = tasks.iter().map(|(_, at)| self.begin(at));
        let (mut pairs, perturbations): (Vec<_>, Vec<_>) =
            begun.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let lengths = pairs.iter().map(|pair| pair.episode.horizon as usize);
        let lengths: Vec<_> = lengths.collect();
        let mut pairs: Vec<_> = pairs.iter_mut().collect();
        let records = truncations(all, &mut pairs, source, &lengths)?;
        let tasks = perturbations.into_iter().zip(&records);
        Ok(tasks
            .map(|(xi, records)| self.contribution(xi, records))
            .collect())
    }

    fn save(&self, (): &()) -> Result<((), NamedTensors)> {
        Ok(((), vec![]))
    }

    fn restore(
        &self,
        _: u64,
        (): (),
        _: &mut Saved,
        _: &Source,
        _: &dyn LearnedOptimizer,
    ) -> Result<()> {
        Ok(())
    }
}
