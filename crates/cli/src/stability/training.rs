use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use anyhow::{Context, Result, bail};
use lopt_blackbox::Blackbox;
use lopt_core::Theta;
use lopt_plot::{Axis, Color, Figure, Item, Panel, Shape};
use lopt_stability::{
    Effort,
    training::{Point, Study, Subject},
};
use lopt_star::Star;
use lopt_tasks::suite::Entry;

use super::{Args, save};
use crate::{common::stop_flag, table::new_table};

/// Linearises the training of one task by each optimizer.
pub fn run(args: &Args) -> Result<bool> {
    let entry = entry(args)?;
    let mut subjects: Vec<(String, Subject)> = args
        .theta
        .iter()
        .map(|path| subject(path))
        .collect::<Result<_>>()?;
    name_apart(&mut subjects, &args.theta);
    let device = args.compute.device()?;
    let task = entry.task.load(&mut args.compute.store(), &device)?.task;
    let steps = match args.steps.is_empty() {
        true => default_steps(entry.horizon),
        false => args.steps.clone(),
    };
    let study = Study {
        seed: args.seed,
        steps,
        effort: Effort {
            products: args.products as usize,
            ..Effort::default()
        },
    };
    let stop = stop_flag()?;
    let mut csv = "optimizer,step,loss,radius,real,imaginary,residual,products,update_norm,\
                   nominal_share\n"
        .to_owned();
    let header = [
        "optimizer",
        "step",
        "loss",
        "spectral radius",
        "residual",
        "norm of the step",
        "nominal share",
    ];
    let mut table = new_table(&header, 1);
    let mut all = vec![];
    for (name, subject) in &subjects {
        let points = study.run(&task, subject, &mut |point| {
            eprintln!(
                "{name}: after {} steps, ρ = {:.5}",
                point.step,
                point.leading.radius()
            );
            !stop.load(Ordering::Relaxed)
        })?;
        for point in &points {
            let leading = &point.leading;
            let first = leading.values[0];
            csv += &format!(
                "{name},{},{},{},{},{},{},{},{},{}\n",
                point.step,
                point.loss,
                leading.radius(),
                first.re,
                first.im,
                leading.residual,
                leading.products,
                point.update_norm,
                point.nominal_share,
            );
            table.add_row([
                name.clone(),
                point.step.to_string(),
                format!("{:.4}", point.loss),
                format!("{:.5}", leading.radius()),
                format!("{:.1e}", leading.residual),
                format!("{:.2e}", point.update_norm),
                format!("{:.2}", point.nominal_share),
            ]);
        }
        let asked = study.steps.iter().max();
        if points.last().map(|point| point.step).as_ref() < asked && !stop.load(Ordering::Relaxed) {
            eprintln!("{name}: a loss or gradient was not finite; the run ends there");
        }
        all.push((name.as_str(), points));
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    let figure = figure(args, &entry, &task.name(), &all);
    save(&args.out, "training", &figure, &csv)?;
    println!("{table}");
    println!(
        "spectral radius: of the Jacobian of an inner step in parameters and accumulators, on the \
         step's minibatch;\nbelow 1 small differences die out, above 1 they grow. residual: of the \
         eigenvalue; {} products at most.\nnominal share: ‖nominal term‖ over ‖nominal term‖ + \
         ‖blackbox term‖.",
        args.products
    );
    let stopped = stop.load(Ordering::Relaxed);
    if stopped {
        println!("stopped: this is what was finished by then");
    }
    Ok(!stopped)
}

fn entry(args: &Args) -> Result<Entry> {
    let entries = args.suite.suite().entries();
    let known = || {
        let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
        names.join(", ")
    };
    match entries.iter().find(|entry| entry.name == args.task) {
        Some(entry) => Ok(entry.clone()),
        None => bail!(
            "there is no task `{}`; the suite has: {}",
            args.task,
            known()
        ),
    }
}

/// Kinds that are there twice get their files' names.
fn name_apart(subjects: &mut [(String, Subject)], files: &[PathBuf]) {
    let kinds: Vec<String> = subjects.iter().map(|(kind, _)| kind.clone()).collect();
    for ((name, _), file) in subjects.iter_mut().zip(files) {
        if kinds.iter().filter(|kind| *kind == name).count() > 1 {
            *name = format!("{name} {}", file.display());
        }
    }
}

/// Its kind and itself.
fn subject(path: &Path) -> Result<(String, Subject)> {
    let theta = Theta::load(path)?;
    let kind = theta.kind().to_owned();
    let subject = match kind.as_str() {
        lopt_star::KIND => Star::new(theta).map_err(Into::into).and_then(Subject::star),
        lopt_blackbox::KIND => Blackbox::new(theta)
            .map_err(Into::into)
            .map(|blackbox| Subject::blackbox(Arc::new(blackbox))),
        other => bail!(
            "{}: θ of `{other}`, not of star or blackbox",
            path.display()
        ),
    };
    let subject = subject.with_context(|| path.display().to_string())?;
    Ok((kind, subject))
}

/// 1, 2, 5, 10, 20, 50, … up to the horizon, and it.
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

fn figure(args: &Args, entry: &Entry, task: &str, all: &[(&str, Vec<Point>)]) -> Figure {
    type Value = fn(&Point) -> f64;
    let panel = |title: &str, y: &str, value: Value| {
        let line = |(i, (name, points)): (usize, &(&str, Vec<Point>))| {
            let points = points.iter().map(|p| (p.step as f64, value(p)));
            Item::new(Color::nth(i), Shape::MarkedLine(points.collect())).labelled(*name)
        };
        Panel {
            title: title.to_owned(),
            x: Axis::logarithmic("inner step"),
            y: Axis::linear(y),
            items: all.iter().enumerate().map(line).collect(),
        }
    };
    let mut radius = panel("Spectral radius", "ρ(J)", |p| p.leading.radius());
    let last = all.iter().flat_map(|(_, points)| points).map(|p| p.step);
    let unit = vec![(1.0, 1.0), (last.max().unwrap_or(1) as f64, 1.0)];
    radius
        .items
        .push(Item::new(Color::Gray, Shape::DashedLine(unit)).labelled("ρ = 1"));
    Figure {
        title: format!("Linearised training: {}, {}", entry.group, entry.name),
        caption: format!(
            "J = ∂(φ, accumulators)ₜ₊₁/∂(φ, accumulators)ₜ of the inner step on its minibatch, \
             {task}; |largest eigenvalue| by Arnoldi's iteration with exact products Jᵀv in f64, at \
             most {} of them; seed {}. Nominal share: ‖nominal term‖/(‖nominal term‖ + ‖blackbox \
             term‖) of the step.",
            args.products, args.seed
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
