//! Persistent evolution strategies (Vicol et al. 2021, arXiv 2112.13835) with antithetic
//! pairs.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use candle_core::{DType, Device, Tensor};
use lopt_core::{
    Error as CoreError, LearnedOptimizer, Optimizer, Purpose, Streams, Workers, normal,
};
use lopt_tasks::{Network, TaskFamily};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Error, Estimate, GradientEstimator, Horizon, Result, Snapshot,
    unroll::{Source, StepRecord, Unroll},
};

/// How PES unrolls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PesConfig {
    /// Antithetic pairs, each with its own task and perturbation.
    pub tasks: u64,
    /// Inner steps for one meta-gradient.
    pub truncation: usize,
    /// σ, the standard deviation of the perturbations.
    pub sigma: f64,
    /// Inner steps until the networks start afresh.
    pub horizon: Horizon,
}

/// The meta-gradient of one pair and the perturbation it carries on.
///
/// ĝ = \[ L̄_before · ξ_acc + L̄_after · ξ_new \] / (2σ²), where L̄ are the sums of
/// (ℓ⁺ − ℓ⁻) before and after the unroll ended, divided by the number of unmasked steps,
/// and ξ_acc = `accumulated` + ξ_new. After an end the accumulator restarts from ξ_new.
/// Returns (ĝ, the new accumulator).
pub fn pes_gradient(
    records: &[StepRecord],
    accumulated: &[f64],
    fresh: &[f64],
    sigma: f64,
) -> (Vec<f64>, Vec<f64>) {
    let mut ended = false;
    let (mut before, mut after, mut unmasked) = (0.0, 0.0, 0u32);
    for record in records {
        // The step that ends an unroll counts to the new perturbation already, as in the
        // reference.
        ended |= record.done;
        if record.masked {
            continue;
        }
        unmasked += 1;
        let difference = f64::from(record.losses[0]) - f64::from(record.losses[1]);
        *(if ended { &mut after } else { &mut before }) += difference;
    }
    let factor = 1.0 / (2.0 * sigma * sigma * f64::from(unmasked.max(1)));
    let total: Vec<f64> = accumulated.iter().zip(fresh).map(|(a, b)| a + b).collect();
    let gradient = total
        .iter()
        .zip(fresh)
        .map(|(t, f)| factor * (before * t + after * f));
    (
        gradient.collect(),
        if ended { fresh.to_vec() } else { total },
    )
}

/// The estimator: `tasks` pairs of networks in the middle of their training.
pub struct Pes {
    config: PesConfig,
    streams: Streams,
    family: Arc<dyn TaskFamily>,
    workers: Workers,
    pairs: Vec<Pair>,
}

struct Pair {
    unroll: Unroll,
    /// The sum of the perturbations since the unroll started.
    accumulated: Vec<f64>,
}

impl Pes {
    /// Fresh networks; the i-th of N pairs counts as if i/N of its horizon were over, so
    /// that resets are spread in time.
    ///
    /// # Errors
    /// Those of the tasks.
    pub fn new(
        config: PesConfig,
        seed: u64,
        family: Arc<dyn TaskFamily>,
        workers: Workers,
        optimizer: &dyn LearnedOptimizer,
    ) -> Result<Self> {
        let mut pes = Self {
            config,
            streams: Streams::new(seed),
            family,
            workers,
            pairs: vec![],
        };
        let shared = shifted(optimizer, None)?;
        for index in 0..pes.config.tasks {
            let both = [shared.clone(), shared.clone()];
            let mut unroll = Unroll::start(index, 0, &pes.source(), both)?;
            let spread = u128::from(unroll.horizon) * u128::from(index);
            unroll.inner_step = (spread / u128::from(pes.config.tasks)) as u64;
            pes.pairs.push(Pair {
                unroll,
                accumulated: vec![0.0; optimizer.theta().values().len()],
            });
        }
        Ok(pes)
    }

    /// Starts the pairs as if these numbers of inner steps were over.
    pub fn with_inner_steps(mut self, inner_steps: &[u64]) -> Self {
        for (pair, &inner_step) in self.pairs.iter_mut().zip(inner_steps) {
            pair.unroll.inner_step = inner_step;
        }
        self
    }

    /// How inner steps are taken; see [`Network::path`].
    pub fn path(&self) -> String {
        let first = self.pairs.first();
        first.map_or_else(String::new, |pair| pair.unroll.halves[0].path())
    }

    fn source(&self) -> Source<'_> {
        Source {
            streams: self.streams,
            family: &*self.family,
            horizon: self.config.horizon,
        }
    }

    /// ξ ~ N(0, σ²) of one pair at one outer step.
    fn perturbation(&self, outer_step: u64, index: u64, n: usize) -> Vec<f32> {
        let mut rng = self
            .streams
            .stream(Purpose::Perturbation, outer_step, index, 0);
        (0..n)
            .map(|_| self.config.sigma as f32 * normal(&mut rng))
            .collect()
    }

    /// [`GradientEstimator::estimate`] with given perturbations, one for each pair.
    ///
    /// # Errors
    /// As [`GradientEstimator::estimate`].
    pub fn estimate_with(
        &mut self,
        optimizer: &dyn LearnedOptimizer,
        perturbations: &[Vec<f32>],
    ) -> Result<Estimate> {
        let source = Source {
            streams: self.streams,
            family: &*self.family,
            horizon: self.config.horizon,
        };
        let config = &self.config;
        let job =
            |(pair, fresh): (&mut Pair, &Vec<f32>)| pair.advance(config, &source, optimizer, fresh);
        let jobs = self.pairs.iter_mut().zip(perturbations);
        let results: Result<Vec<_>> = self.workers.map(jobs, job).into_iter().collect();
        Ok(average(&results?))
    }
}

/// The optimizer with θ + sign·ξ, or with θ itself.
fn shifted(
    optimizer: &dyn LearnedOptimizer,
    shift: Option<(f32, &[f32])>,
) -> Result<Arc<dyn Optimizer>> {
    let mut theta = optimizer.theta().values().to_vec();
    if let Some((sign, xi)) = shift {
        theta.iter_mut().zip(xi).for_each(|(w, xi)| *w += sign * xi);
    }
    let optimizer: Arc<dyn LearnedOptimizer> = optimizer.with_values(theta)?.into();
    Ok(optimizer)
}

impl Pair {
    fn advance(
        &mut self,
        config: &PesConfig,
        source: &Source,
        optimizer: &dyn LearnedOptimizer,
        fresh: &[f32],
    ) -> Result<(Vec<f64>, Vec<StepRecord>)> {
        let plus = shifted(optimizer, Some((1.0, fresh)))?;
        let minus = shifted(optimizer, Some((-1.0, fresh)))?;
        self.unroll.set_optimizers([plus, minus])?;
        let records = self.unroll.truncation(source, config.truncation)?;
        let fresh: Vec<f64> = fresh.iter().map(|&xi| f64::from(xi)).collect();
        let (gradient, accumulated) =
            pes_gradient(&records, &self.accumulated, &fresh, config.sigma);
        self.accumulated = accumulated;
        Ok((gradient, records))
    }
}

/// Means over the pairs, in their order.
fn average(results: &[(Vec<f64>, Vec<StepRecord>)]) -> Estimate {
    let n = results.first().map_or(0, |(gradient, _)| gradient.len());
    let mut gradient = vec![0.0; n];
    for (of_pair, _) in results {
        for (sum, g) in gradient.iter_mut().zip(of_pair) {
            *sum += g / results.len() as f64;
        }
    }
    let unmasked = |records: &[StepRecord]| records.iter().filter(|r| !r.masked).count();
    let mean_loss = |records: &[StepRecord]| {
        let losses: f64 = records.iter().flat_map(|r| r.losses).map(f64::from).sum();
        losses / (2 * unmasked(records).max(1)) as f64
    };
    let records = || results.iter().map(|(_, records)| records.as_slice());
    Estimate {
        gradient,
        meta_loss: records().map(mean_loss).sum::<f64>() / results.len() as f64,
        inner_steps: records().map(|records| 2 * unmasked(records) as u64).sum(),
    }
}

const HALVES: [&str; 2] = ["plus", "minus"];

impl GradientEstimator for Pes {
    fn estimate(&mut self, optimizer: &dyn LearnedOptimizer, outer_step: u64) -> Result<Estimate> {
        let n = optimizer.theta().values().len();
        let perturbations: Vec<_> = (0..self.config.tasks)
            .map(|index| self.perturbation(outer_step, index, n))
            .collect();
        self.estimate_with(optimizer, &perturbations)
    }

    fn snapshot(&self) -> Result<Snapshot> {
        let mut tensors = vec![];
        let mut counters = vec![];
        for (
            index,
            Pair {
                unroll,
                accumulated,
            },
        ) in self.pairs.iter().enumerate()
        {
            let mut steps = [0; 2];
            for ((half, side), step) in unroll.halves.iter().zip(HALVES).zip(&mut steps) {
                let (params, state) = (half.params()?, half.state()?);
                *step = state.step;
                let named = params
                    .iter()
                    .map(|(name, t)| (format!("params/{name}"), t.clone()));
                let named = named.chain(state.named_tensors(&params));
                tensors.extend(named.map(|(name, t)| (format!("pair{index}/{side}/{name}"), t)));
            }
            counters.push(json!({
                "episode": unroll.episode,
                "inner_step": unroll.inner_step,
                "horizon": unroll.horizon,
                "optimizer_steps": steps,
            }));
            let accumulated = Tensor::from_slice(accumulated, accumulated.len(), &Device::Cpu)?;
            tensors.push((format!("pair{index}/perturbation"), accumulated));
        }
        Ok(Snapshot {
            description: Value::Array(counters),
            tensors,
        })
    }

    fn restore(
        &mut self,
        description: &Value,
        tensors: &mut BTreeMap<String, Tensor>,
        optimizer: &dyn LearnedOptimizer,
        path: &Path,
    ) -> Result<()> {
        let counters: Vec<Counters> = Deserialize::deserialize(description)
            .map_err(|e| CoreError::file(path, format!("the unrolls' counters: {e}")))?;
        if counters.len() as u64 != self.config.tasks {
            let problem = format!(
                "holds {} unrolls, the configuration asks for {}",
                counters.len(),
                self.config.tasks
            );
            return Err(CoreError::file(path, problem).into());
        }
        let n = optimizer.theta().values().len();
        let shared = shifted(optimizer, None)?;
        let mut pairs = vec![];
        for (index, counters) in counters.iter().enumerate() {
            let both = [shared.clone(), shared.clone()];
            let mut unroll = Unroll::start(index as u64, counters.episode, &self.source(), both)?;
            unroll.inner_step = counters.inner_step;
            unroll.horizon = counters.horizon;
            let mut own = take_prefixed(tensors, &format!("pair{index}/"));
            let accumulated = own
                .remove("perturbation")
                .and_then(|t| t.to_vec1::<f64>().ok())
                .filter(|accumulated| accumulated.len() == n)
                .ok_or_else(|| damaged(path, &format!("pair{index}/perturbation")))?;
            for (side, half) in unroll.halves.iter_mut().enumerate() {
                let mut of_half = take_prefixed(&mut own, &format!("{}/", HALVES[side]));
                restore_half(half, counters.optimizer_steps[side], &mut of_half, path)?;
            }
            pairs.push(Pair {
                unroll,
                accumulated,
            });
        }
        self.pairs = pairs;
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Counters {
    episode: u64,
    inner_step: u64,
    horizon: u64,
    optimizer_steps: [u64; 2],
}

fn restore_half(
    half: &mut Network,
    step: u64,
    tensors: &mut BTreeMap<String, Tensor>,
    path: &Path,
) -> Result<()> {
    let mut params = take_prefixed(tensors, "params/");
    let mut restored = vec![];
    let template = half.params()?;
    for (name, template) in template.iter() {
        let tensor = params
            .remove(name)
            .filter(|t| t.shape() == template.shape() && t.dtype() == DType::F32)
            .ok_or_else(|| damaged(path, name))?;
        restored.push(tensor.to_device(template.device())?);
    }
    let restored = template.with_tensors(restored)?;
    let mut state = half.state()?;
    state.restore(step, &restored, tensors, path)?;
    Ok(half.restore(&restored, state)?)
}

fn take_prefixed(tensors: &mut BTreeMap<String, Tensor>, prefix: &str) -> BTreeMap<String, Tensor> {
    let mut taken = BTreeMap::new();
    tensors.retain(|name, tensor| match name.strip_prefix(prefix) {
        Some(rest) => {
            taken.insert(rest.to_owned(), tensor.clone());
            false
        }
        None => true,
    });
    taken
}

fn damaged(path: &Path, name: &str) -> Error {
    CoreError::file(
        path,
        format!("`{name}` is missing or does not fit the configuration"),
    )
    .into()
}
