//! The stability of meta-trained optimizers in a real training run.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use candle_core::Device;
use lopt_core::LearnedOptimizer;
use lopt_meta::registry;
use lopt_plot::{Axis, Color, Figure, Item, Panel, Shape};
use lopt_stability::{
    Effort,
    training::{Point, Study},
};
use lopt_tasks::{
    DataStore, did_you_mean,
    suite::{Entry, Suite},
};

use crate::{Error, Result, Table};

/// The settings of a linearized training.
#[derive(Clone, Debug)]
pub struct Linearization {
    /// Files of θ of the optimizers to study.
    pub optimizers: Vec<PathBuf>,
    /// The suite that contains the task.
    pub suite: Suite,
    /// The name of the task in the suite.
    pub task: String,
    /// Numbers of inner steps after which to linearize, ascending. If empty: 1, 2, 5, 10, … up to
    /// the horizon of the task.
    pub steps: Vec<u64>,
    /// Maximum number of products with the Jacobian at each point.
    pub products: usize,
    /// Seed of the network and its minibatches.
    pub seed: u64,
}

/// The result for one optimizer.
#[derive(Clone, Debug)]
pub struct Linearized {
    /// The kind of the optimizer, with its file if several have this kind.
    pub name: String,
    /// The points of linearization.
    pub points: Vec<Point>,
    /// Whether a loss or gradient was not finite before the last point.
    pub ended_early: bool,
}

/// The results for all optimizers.
#[derive(Clone, Debug)]
pub struct Results {
    /// The result for each optimizer; fewer if the study was stopped.
    pub optimizers: Vec<Linearized>,
    /// The results plotted against inner steps.
    pub figure: Figure,
}

impl Linearization {
    /// Trains the task with each optimizer and linearizes the inner step on the way. `on_point` is
    /// called with the name of the optimizer after each point. Once `stop` is set, the results so
    /// far are returned.
    ///
    /// # Errors
    /// Returns an error if the suite has no such task, an optimizer or data cannot be loaded, or
    /// the steps do not ascend.
    pub fn run(
        &self,
        store: &mut DataStore,
        device: &Device,
        stop: &AtomicBool,
        on_point: &mut dyn FnMut(&str, &Point),
    ) -> Result<Results> {
        let entry = self.entry()?;
        let subjects = self.subjects()?;
        let task = entry.task.load(store, device)?.task;
        let steps = match self.steps.is_empty() {
            true => default_steps(entry.horizon),
            false => self.steps.clone(),
        };
        let last = steps.iter().max().copied();
        let effort = Effort {
            products: self.products,
            ..Effort::default()
        };
        let study = Study {
            seed: self.seed,
            steps,
            effort,
        };
        let mut all = vec![];
        for (name, subject) in subjects {
            let points = study.run(&task, &subject, &mut |point| {
                on_point(&name, point);
                !stop.load(Ordering::Relaxed)
            })?;
            let stopped = stop.load(Ordering::Relaxed);
            all.push(Linearized {
                ended_early: !stopped && points.last().map(|point| point.step) < last,
                name,
                points,
            });
            if stopped {
                break;
            }
        }
        Ok(Results {
            figure: self.figure(&entry, &task.name(), &all),
            optimizers: all,
        })
    }

    fn entry(&self) -> Result<Entry> {
        let entries = self.suite.entries();
        let names: Vec<&str> = entries.iter().map(|entry| &*entry.name).collect();
        let found = entries.iter().find(|entry| entry.name == self.task);
        found.cloned().ok_or_else(|| {
            Error::Settings(format!(
                "there is no task `{}` in the suite {}; its tasks are: {}{}",
                self.task,
                self.suite.name(),
                names.join(", "),
                did_you_mean(&self.task, names)
            ))
        })
    }

    /// The optimizers by name. Optimizers of the same kind are distinguished by their files.
    fn subjects(&self) -> Result<Vec<(String, Arc<dyn LearnedOptimizer>)>> {
        let mut subjects: Vec<(String, Arc<dyn LearnedOptimizer>)> = vec![];
        for file in &self.optimizers {
            let optimizer = registry::load(file)?;
            subjects.push((optimizer.kind().to_owned(), optimizer.into()));
        }
        let kinds: Vec<String> = subjects.iter().map(|(kind, _)| kind.clone()).collect();
        for ((name, _), file) in subjects.iter_mut().zip(&self.optimizers) {
            if kinds.iter().filter(|kind| *kind == name).count() > 1 {
                *name = format!("{name} {}", file.display());
            }
        }
        Ok(subjects)
    }

    fn figure(&self, entry: &Entry, task: &str, all: &[Linearized]) -> Figure {
        type Value = fn(&Point) -> f64;
        let panel = |title: &str, y: &str, value: Value| {
            let line = |(i, of): (usize, &Linearized)| {
                let points = of.points.iter().map(|p| (p.step as f64, value(p)));
                Item::new(Color::nth(i), Shape::MarkedLine(points.collect())).labelled(&*of.name)
            };
            Panel {
                title: title.to_owned(),
                x: Axis::logarithmic("inner step"),
                y: Axis::linear(y),
                items: all.iter().enumerate().map(line).collect(),
            }
        };
        let mut radius = panel("Spectral radius", "ρ(J)", |p| p.leading.radius());
        let last = all.iter().flat_map(|of| &of.points).map(|p| p.step).max();
        let unit = vec![(1.0, 1.0), (last.unwrap_or(1) as f64, 1.0)];
        radius
            .items
            .push(Item::new(Color::Gray, Shape::DashedLine(unit)).labelled("ρ = 1"));
        Figure {
            title: format!("Linearized training: {}, {}", entry.group, entry.name),
            caption: format!(
                "J = ∂(φ, accumulators)ₜ₊₁/∂(φ, accumulators)ₜ of the inner step on its minibatch, \
                 {task}; |largest eigenvalue| by Arnoldi's iteration with exact products Jᵀv in \
                 f64, at most {} of them; seed {}. Nominal share: ‖nominal term‖/(‖nominal term‖ + \
                 ‖blackbox term‖) of the step.",
                self.products, self.seed
            ),
            panels: vec![
                radius,
                panel("Training loss", "loss on the minibatch", |p| {
                    f64::from(p.loss)
                }),
                panel("Share of the nominal term", "nominal share", |p| {
                    p.nominal_share
                }),
            ],
            columns: 3,
        }
    }
}

impl Results {
    /// The results, rounded for reading.
    pub fn table(&self) -> Table {
        let header = [
            "optimizer",
            "step",
            "loss",
            "radius",
            "residual",
            "norm",
            "nominal share",
        ];
        let mut table = Table::new(header, 1);
        for (name, point) in self.points() {
            table.row([
                name.to_owned(),
                point.step.to_string(),
                format!("{:.4}", point.loss),
                format!("{:.5}", point.leading.radius()),
                format!("{:.1e}", point.leading.residual),
                format!("{:.2e}", point.update_norm),
                format!("{:.2}", point.nominal_share),
            ]);
        }
        table
    }

    /// The results in full precision.
    pub fn numbers(&self) -> Table {
        let header = [
            "optimizer",
            "step",
            "loss",
            "radius",
            "real",
            "imaginary",
            "residual",
            "products",
            "update_norm",
            "nominal_share",
        ];
        let mut table = Table::new(header, 1);
        for (name, point) in self.points() {
            let leading = &point.leading;
            let part = |value: Option<f64>| value.unwrap_or(f64::NAN).to_string();
            let largest = leading.values.first();
            table.row([
                name.to_owned(),
                point.step.to_string(),
                point.loss.to_string(),
                leading.radius().to_string(),
                part(largest.map(|value| value.re)),
                part(largest.map(|value| value.im)),
                leading.residual.to_string(),
                leading.products.to_string(),
                point.update_norm.to_string(),
                point.nominal_share.to_string(),
            ]);
        }
        table
    }

    fn points(&self) -> impl Iterator<Item = (&str, &Point)> {
        self.optimizers
            .iter()
            .flat_map(|of| of.points.iter().map(|point| (&*of.name, point)))
    }
}

/// 1, 2, 5, 10, 20, 50, … below the horizon, and the horizon itself.
fn default_steps(horizon: u64) -> Vec<u64> {
    let decades = (0..)
        .map(|i| 10_u64.pow(i))
        .take_while(|&ten| ten < horizon);
    let mut steps: Vec<u64> = decades
        .flat_map(|ten| [1, 2, 5].map(|digit| digit * ten))
        .filter(|&step| step < horizon)
        .collect();
    steps.push(horizon);
    steps
}
