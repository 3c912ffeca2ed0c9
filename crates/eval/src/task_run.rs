use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Instant,
};

use lopt_core::Optimizer;
use lopt_tasks::{Task, suite};

use crate::{
    Baseline, ContenderResult, Error, Evaluation, Event, Outcome, Result,
    outcome::Tuned,
    runs::{Runner, Runs, Source},
    speed_up::{Continued, speed_ups},
    stats::{mean, seed_resamples},
    train::{Curve, TogetherTraining, Training, final_window, for_all, train, train_together},
};

/// Maximum number of points of a curve in a report.
const CURVE_POINTS: usize = 200;

/// The runs of one task.
pub struct TaskRun<'a> {
    pub evaluation: Evaluation<'a>,
    pub runs: &'a Runs,
    /// The contenders, then each tuned baseline at each learning rate.
    pub runners: &'a [Runner],
    pub observer: &'a (dyn Fn(Event) + Sync),
    pub entry: &'a suite::Entry,
    pub task: Arc<dyn Task>,
    pub examples: [usize; 2],
    /// The position of the task in the report, which chooses the bootstrap's resamples.
    pub index: u64,
}

/// All runs of a task.
struct Trained {
    /// Those of each optimizer and seed: `curves[optimizer][seed]`.
    curves: Vec<Vec<Curve>>,
    /// The optimizers and seeds whose runs are those of another evaluation.
    reused: BTreeSet<(usize, u64)>,
}

impl TaskRun<'_> {
    /// Runs every contender, then tunes every baseline.
    pub fn compare(&self) -> Result<Outcome> {
        let Evaluation {
            settings,
            contenders,
            ..
        } = self.evaluation;
        let Trained { curves, reused } = self.curves()?;
        let (of_contenders, mut grids) = curves.split_at(contenders.len());
        let named = contenders.iter().zip(of_contenders);
        let mut results: Vec<ContenderResult> = named
            .map(|(c, curves)| self.result(&c.name, curves))
            .collect();
        let mut tuned = vec![];
        for tuning in &settings.tuned {
            let start = curves.len() - grids.len();
            let (own, rest) = grids.split_at(tuning.grid.len());
            grids = rest;
            let (tuned_baseline, best) = self.tune(tuning.baseline, &tuning.grid, own)?;
            let optimizer = tuning.baseline.optimizer(tuned_baseline.learning_rate);
            // Of the best learning rate if possible, because the report is about it.
            let mut of_baseline = reused.range((start, 0)..(start + own.len(), 0));
            let is_best = |index: usize| tuning.grid[index - start] == tuned_baseline.learning_rate;
            let first = of_baseline.clone().next();
            if let Some(&(index, seed)) = of_baseline.find(|(index, _)| is_best(*index)).or(first) {
                self.repeat(tuning.baseline, index, seed, &curves[index][seed as usize])?;
            }
            if tuning.baseline == Baseline::Adam {
                self.set_speed_ups(&mut results[..contenders.len()], optimizer, best)?;
            }
            results.push(self.result(tuning.baseline.name(), best));
            tuned.push(tuned_baseline);
        }
        Ok(Outcome::Done {
            tuned,
            results,
            examples: self.examples,
        })
    }

    /// Checks that a run of a baseline from another evaluation can be repeated bit for bit.
    fn repeat(&self, baseline: Baseline, index: usize, seed: u64, curve: &Curve) -> Result<()> {
        let optimizer = &self.runners[index].optimizer;
        let horizon = self.entry.horizon;
        let stop = self.evaluation.stop;
        let together = train_together(&self.task, optimizer, horizon, false, &[seed], stop)?;
        let again = match together.and_then(|mut curves| curves.pop()) {
            Some(curve) => curve,
            None => train(&self.task, optimizer, horizon, &[], seed)?,
        };
        let bits = |curve: &Curve| -> Vec<u32> {
            let losses = curve.losses.iter();
            losses.map(|loss| loss.to_bits()).collect()
        };
        if bits(curve) != bits(&again) {
            return Err(Error::Settings(format!(
                "{}: the runs of {} to reuse are those of other data, another program or other \
                 vector instructions, because repeating one gives other losses; evaluate without \
                 them",
                self.entry.title(),
                baseline.name()
            )));
        }
        Ok(())
    }

    /// Chooses the learning rate with the lowest final loss, and its runs.
    fn tune<'c>(
        &self,
        baseline: Baseline,
        rates: &[f64],
        curves: &'c [Vec<Curve>],
    ) -> Result<(Tuned, &'c [Curve])> {
        let horizon = self.entry.horizon as usize;
        let final_loss =
            |curves: &Vec<Curve>| mean(curves.iter().map(|curve| curve.final_loss(horizon)));
        let losses = curves.iter().map(final_loss);
        let grid: Vec<(f64, f64)> = rates.iter().copied().zip(losses).collect();
        let best = (0..grid.len())
            .min_by(|&a, &b| grid[a].1.total_cmp(&grid[b].1))
            .ok_or_else(|| Error::Settings(format!("the grid of {} is empty", baseline.name())))?;
        let tuned = Tuned {
            baseline,
            learning_rate: grid[best].0,
            grid,
        };
        Ok((tuned, &curves[best]))
    }

    fn set_speed_ups(
        &self,
        results: &mut [ContenderResult],
        adam: Arc<dyn Optimizer>,
        curves: &[Curve],
    ) -> Result<()> {
        let settings = self.evaluation.settings;
        let (horizon, horizons) = (self.entry.horizon, settings.adam_horizons);
        let final_losses: Vec<&[f64]> = results.iter().map(|r| &*r.final_losses).collect();
        let smooth = curves
            .iter()
            .map(|curve| smooth(curve, 0..horizon as usize, horizon));
        let resamples = seed_resamples(self.index, settings.seeds);
        let mut longer = Longer {
            run: self,
            adam,
            trainings: None,
            counted: 0,
        };
        let found = speed_ups(
            &final_losses,
            &smooth.collect::<Vec<_>>(),
            horizon,
            horizons,
            &resamples,
            &mut longer,
        )?;
        // The steps that were not needed count as done.
        let all = horizon * settings.continuation();
        (self.observer)(Event::Steps(all - longer.counted));
        for (result, found) in results.iter_mut().zip(found) {
            result.speed_up = Some(found);
        }
        Ok(())
    }

    /// Trains each optimizer on each seed, or reads its runs.
    fn curves(&self) -> Result<Trained> {
        let Evaluation {
            settings,
            workers,
            stop,
            ..
        } = self.evaluation;
        let horizon = self.entry.horizon;
        let reused = Mutex::new(BTreeSet::new());
        let trained = self.train_together()?;
        let run = |(index, runner): &(usize, &Runner), seed| {
            if let Some(curve) = trained.get(&(*index, seed)) {
                return Ok(curve.clone());
            }
            if let Some((curve, source)) = self.find(runner, seed) {
                if source == Source::Other {
                    let mut reused = reused.lock().unwrap_or_else(PoisonError::into_inner);
                    reused.insert((*index, seed));
                }
                (self.observer)(Event::Kept(horizon));
                return Ok(curve);
            }
            let start = Instant::now();
            let curve = train(&self.task, &runner.optimizer, horizon, &[horizon], seed)?;
            self.runs
                .keep(self.entry, runner, seed, &curve, start.elapsed())?;
            (self.observer)(Event::Steps(horizon));
            Ok(curve)
        };
        let runners: Vec<_> = self.runners.iter().enumerate().collect();
        let curves = for_all(&runners, settings.seeds, workers, stop, run)?;
        let reused = reused.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Trained { curves, reused })
    }

    /// A finished run of an optimizer.
    fn find(&self, runner: &Runner, seed: u64) -> Option<(Curve, Source)> {
        let (mut curve, source) = self.runs.find(self.entry, runner, seed)?;
        curve.ceiling = self.task.normalize(f32::INFINITY);
        Some((curve, source))
    }

    /// The runs that are missing and that a GPU can make, those of all seeds together, by the index of
    /// the optimizer and the seed.
    fn train_together(&self) -> Result<BTreeMap<(usize, u64), Curve>> {
        let Evaluation { settings, stop, .. } = self.evaluation;
        let (entry, mut trained) = (self.entry, BTreeMap::new());
        let mlp = self.task.clone().mlp();
        if mlp.is_none_or(|mlp| mlp.device().is_cpu()) {
            return Ok(trained);
        }
        for (index, runner) in self.runners.iter().enumerate() {
            let mut seeds: Vec<u64> = (0..settings.seeds).collect();
            seeds.retain(|seed| self.find(runner, *seed).is_none());
            let (start, optimizer) = (Instant::now(), &runner.optimizer);
            let curves = train_together(&self.task, optimizer, entry.horizon, true, &seeds, stop)?;
            let took = start.elapsed();
            for (seed, curve) in seeds.into_iter().zip(curves.into_iter().flatten()) {
                self.runs.keep(entry, runner, seed, &curve, took)?;
                (self.observer)(Event::Steps(entry.horizon));
                trained.insert((index, seed), curve);
            }
        }
        Ok(trained)
    }

    fn result(&self, name: &str, curves: &[Curve]) -> ContenderResult {
        let horizon = self.entry.horizon as usize;
        let of_each = |f: &dyn Fn(&Curve) -> f64| curves.iter().map(f).collect::<Vec<f64>>();
        let accuracy = |curve: &Curve| {
            curve
                .tests
                .first()
                .copied()
                .flatten()
                .map_or(f64::NAN, |test| test.accuracy.into())
        };
        ContenderResult {
            name: name.to_owned(),
            final_losses: of_each(&|curve| curve.final_loss(horizon)),
            mean_losses: of_each(&|curve| curve.mean_loss(horizon)),
            test_accuracies: of_each(&accuracy),
            diverged: curves
                .iter()
                .filter(|curve| curve.diverged(horizon))
                .count() as u64,
            speed_up: None,
            curve: thin(curves, horizon),
        }
    }
}

/// Tuned Adam after its horizon. Its first steps are repeated, because tuning keeps no networks.
struct Longer<'a> {
    run: &'a TaskRun<'a>,
    adam: Arc<dyn Optimizer>,
    /// `None` before the first call.
    trainings: Option<Trainings>,
    /// The steps that were reported to [`TaskRun::observer`].
    counted: u64,
}

/// The trainings of all seeds.
enum Trainings {
    Apart(Vec<Training>),
    Together(TogetherTraining),
}

impl Longer<'_> {
    fn start(&self) -> Result<Trainings> {
        let TaskRun {
            task,
            entry,
            evaluation,
            ..
        } = self.run;
        let seeds: Vec<u64> = (0..evaluation.settings.seeds).collect();
        if let Some(together) = TogetherTraining::start(task, &self.adam, &seeds)? {
            return Ok(Trainings::Together(together));
        }
        let start = |seed| Training::start(task, &self.adam, entry.horizon, seed);
        let apart = seeds.into_iter().map(start);
        Ok(Trainings::Apart(apart.collect::<Result<_>>()?))
    }
}

impl Continued for Longer<'_> {
    fn next(&mut self, steps: u64) -> Result<Vec<Vec<f64>>> {
        let run = self.run;
        let Evaluation {
            settings,
            workers,
            stop,
            ..
        } = run.evaluation;
        let horizon = run.entry.horizon;
        let (mut trainings, missing) = match self.trainings.take() {
            Some(trainings) => (trainings, 0),
            None => (self.start()?, horizon),
        };
        let all = missing + steps;
        let last = |curve: &Curve| {
            let end = curve.losses.len();
            smooth(curve, end - steps as usize..end, horizon)
        };
        let losses = match &mut trainings {
            Trainings::Together(together) => {
                together.advance(all, stop)?;
                (run.observer)(Event::Steps(settings.seeds * all));
                together.curves.iter().map(last).collect()
            }
            Trainings::Apart(apart) => {
                let losses = workers.map(apart, |training| {
                    if stop.load(Ordering::Relaxed) {
                        return Err(Error::Stopped);
                    }
                    training.advance(all, &[])?;
                    (run.observer)(Event::Steps(all));
                    Ok(last(&training.curve))
                });
                losses.into_iter().collect::<Result<_>>()?
            }
        };
        self.trainings = Some(trainings);
        self.counted += settings.seeds * all;
        Ok(losses)
    }
}

/// The trailing means after each of these steps, counted from 0, over the final window.
fn smooth(curve: &Curve, steps: Range<usize>, horizon: u64) -> Vec<f64> {
    let window = final_window(horizon as usize);
    let after = steps.map(|step| curve.trailing_mean(step + 1, window));
    after.collect()
}

/// At most [`CURVE_POINTS`] points of the smoothed curves.
fn thin(curves: &[Curve], horizon: usize) -> Vec<(u64, f64, f64, f64)> {
    let window = final_window(horizon).min(50);
    let points = CURVE_POINTS.min(horizon);
    (1..=points)
        .map(|point| {
            let end = point * horizon / points;
            let losses: Vec<f64> = curves
                .iter()
                .map(|curve| curve.trailing_mean(end, window))
                .collect();
            let low = losses.iter().copied().fold(f64::INFINITY, f64::min);
            let high = losses.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            (end as u64, mean(losses.iter().copied()), low, high)
        })
        .collect()
}
