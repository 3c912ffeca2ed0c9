//! The figures of an evaluation.

use crate::{Baseline, ContenderResult, Outcome, TaskReport};
use lopt_plot::{Axis, Color, Figure, Item, Marker, Shape};

/// The smoothed training losses of a task: means over seeds as lines, lowest to highest as bands.
/// `None` if the task was skipped.
pub fn curves(task: &TaskReport) -> Option<Figure> {
    let Outcome::Done { tuned, results, .. } = &task.outcome else {
        return None;
    };
    let entry = &task.entry;
    let mut bands = vec![];
    let mut lines = vec![];
    let mut others = 0..;
    for result in results {
        let name = &result.name;
        let label = match tuned.iter().find(|t| t.baseline.name() == name) {
            Some(tuned) => format!("{name} (tuned, {:e})", tuned.learning_rate),
            None => name.clone(),
        };
        let color = match name == Baseline::Adam.name() {
            true => Color::Black,
            false => Color::nth(others.next().unwrap_or(0)),
        };
        let curve = || {
            result
                .curve
                .iter()
                .map(|&(step, ..)| step as f64)
                .zip(&result.curve)
        };
        let band = curve().map(|(step, point)| (step, point.2, point.3));
        let line = curve().map(|(step, point)| (step, point.1));
        bands.push(Item::new(color, Shape::Band(band.collect())));
        lines.push(Item::new(color, Shape::MarkedLine(line.collect())).labelled(label));
    }
    Some(Figure::single(
        format!("{}: {}", entry.group, entry.name),
        "Lines: means over the seeds. Bands: from the lowest to the highest seed. Each loss is the \
         mean of the last steps.",
        Axis::linear("inner step").within(0.0, entry.horizon as f64),
        Axis::linear("training loss"),
        bands.into_iter().chain(lines).collect(),
    ))
}

/// The final training losses over that of tuned Adam: a row for each task, a marker for each
/// optimizer. `None` if Adam was not run.
pub fn losses(tasks: &[TaskReport]) -> Option<Figure> {
    const MARKERS: [Marker; 4] = [
        Marker::Circle,
        Marker::Square,
        Marker::Triangle,
        Marker::Cross,
    ];
    let adam = Baseline::Adam.name();
    let done = tasks.iter().filter_map(|task| match &task.outcome {
        Outcome::Done { results, .. } => Some((task, results, task.outcome.result(adam)?)),
        Outcome::Skipped { .. } => None,
    });
    let done: Vec<_> = done.collect();
    let (_, results, _) = done.first()?;
    let others = results.iter().filter(|result| result.name != adam);
    let names = done.iter().map(|(task, ..)| task.entry.title()).collect();
    let axis = Axis::of_rows(names);
    let mut items = vec![];
    for (index, other) in others.enumerate() {
        let ratio = |(at, (task, _, adam)): (usize, &(&TaskReport, _, &ContenderResult))| {
            let other = task.outcome.result(&other.name)?;
            Some((other.final_loss() / adam.final_loss(), axis.row(at)))
        };
        let points = done.iter().enumerate().filter_map(ratio).collect();
        let shape = Shape::Points(points, MARKERS[index % MARKERS.len()]);
        items.push(Item::new(Color::nth(index), shape).labelled(&other.name));
    }
    let line = axis.line_at(1.0);
    items.push(Item::new(Color::Black, line).labelled(format!("{adam} (tuned)")));
    Some(Figure::single(
        "Final training losses",
        "Mean final training loss over that of tuned Adam; adamw and sgd are tuned, too.",
        Axis::logarithmic("final loss over tuned Adam's"),
        axis,
        items,
    ))
}
