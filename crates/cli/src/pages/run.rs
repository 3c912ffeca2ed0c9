//! The page of a meta-training run.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use lopt_eval::{Comparison, FINAL_PERCENT, Score};
use lopt_experiments::{
    Table,
    curves::{self, Metrics},
};
use lopt_meta::RunConfig;
use lopt_page::{Block, Page, Section};
use lopt_plot::{Axis, Color, Figure, Item, Shape};

use super::table;

/// The page of the run in this directory, which may be in progress.
/// With a comparison comes the name of its task.
pub fn of_run(
    run_dir: &Path,
    metrics: &[Metrics],
    compared: Option<(&str, &Comparison)>,
) -> Result<Page> {
    let path = run_dir.join("config.toml");
    let text = fs::read_to_string(&path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    let config = RunConfig::load(&path, None, &[])?;
    let (kind, seed) = (config.optimizer.kind.name(), config.trainer.seed);
    let title = format!("Meta-training {kind}, seed {seed}");
    let complete = run_dir.join("theta.safetensors").exists();

    let done = metrics.last().map_or(0, |last| last.outer_step);
    let mut facts = vec![
        format!("run directory: {}", run_dir.display()),
        format!("tasks: {}", config.task),
        format!(
            "outer step {done} of {}{}",
            config.trainer.outer.steps,
            if complete { ", complete" } else { "" }
        ),
    ];
    if let Some((step, score)) = curves::best(metrics) {
        facts.push(format!(
            "best held-out score: outer step {step}, mean training loss {:.4}, final {:.4}",
            score.mean_loss, score.final_loss
        ));
    }
    let mut sections = vec![Section::new("Run").with(Block::List(facts))];
    sections.extend(compared.map(|(task, found)| comparison(task, found)));
    let mut plotted = Section::new("Curves");
    match (
        curves::losses(metrics, "Training losses"),
        curves::norms(metrics),
    ) {
        (Some(losses), Some(norms)) => plotted = plotted.figure(losses).figure(norms),
        _ => plotted = plotted.text("No outer step is finished yet."),
    }
    sections.push(plotted);
    let mut scores = Table::new(["outer step", "mean loss", "final loss"], 0);
    for (step, score) in metrics
        .iter()
        .filter_map(|m| Some((m.outer_step, m.held_out?)))
    {
        let losses = [score.mean_loss, score.final_loss].map(|loss| format!("{loss:.4}"));
        scores.row([step.to_string()].into_iter().chain(losses));
    }
    if !scores.rows.is_empty() {
        sections.push(
            Section::new("Held-out scores")
                .folded()
                .table(table(scores)),
        );
    }
    let configuration = Section::new("Configuration").folded();
    sections.push(configuration.with(Block::Verbatim(text)));
    Ok(Page {
        title,
        live: !complete,
        sections,
    })
}

/// The best θ beside Adam at each learning rate.
fn comparison(task: &str, found: &Comparison) -> Section {
    type Loss = fn(&Score) -> f64;
    let losses: [(&str, Loss, (f64, f64)); 2] = [
        ("mean", |score| score.mean_loss, found.adam_by_mean()),
        ("final", |score| score.final_loss, found.adam_by_final()),
    ];
    let header = [
        "training loss",
        "θ",
        "best Adam",
        "at learning rate",
        "θ over Adam",
    ];
    let mut best = Table::new(header, 1);
    let mut items = vec![];
    for (index, (name, loss, (rate, adam))) in losses.into_iter().enumerate() {
        let ours = loss(&found.learned);
        best.row([
            name.to_owned(),
            format!("{ours:.4}"),
            format!("{adam:.4}"),
            format!("{rate:e}"),
            format!("{:.3}", ours / adam),
        ]);
        let color = Color::nth(index);
        let line = found.adam.iter().map(|(rate, score)| (*rate, loss(score)));
        let ends = [found.adam.first(), found.adam.last()];
        let level = ends.iter().flatten().map(|(rate, _)| (*rate, ours));
        let (line, level) = (line.collect(), level.collect());
        items.push(Item::new(color, Shape::MarkedLine(line)).labelled(format!("Adam, {name}")));
        items.push(Item::new(color, Shape::DashedLine(level)).labelled(format!("θ, {name}")));
    }
    let figure = Figure::single(
        "Adam's learning rates",
        "Training losses of Adam at each learning rate, and of the best θ, which needs none.",
        Axis::logarithmic("learning rate of Adam"),
        Axis::linear("training loss"),
        items,
    );
    Section::new("Compared with Adam")
        .text(format!(
            "On {task}, with new seeds. Final: of the last {FINAL_PERCENT} % of the steps."
        ))
        .table(table(best))
        .figure(figure)
}
