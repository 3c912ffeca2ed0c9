//! Figures as JSON, which `assets/page.js` reads.

use lopt_plot::{Axis, Color, Figure, Item, Marker, Panel, Shape};
use serde_json::{Value, json};

/// The most numbers in the figures of a page, of about eight bytes each.
const NUMBERS: usize = 240_000;

/// The figures of a page, with as many of their points as fit.
pub fn all(figures: &[&Figure]) -> Vec<Value> {
    let panels = figures.iter().flat_map(|figure| &figure.panels);
    let items = panels.flat_map(|panel| &panel.items);
    let numbers: usize = items.map(|item| numbers(&item.shape)).sum();
    let every = numbers.div_ceil(NUMBERS).max(1);
    figures.iter().map(|of| figure(of, every)).collect()
}

fn numbers(shape: &Shape) -> usize {
    match shape {
        Shape::Line(points) | Shape::DashedLine(points) | Shape::MarkedLine(points) => {
            2 * points.len()
        }
        Shape::Points(points, _) => 2 * points.len(),
        Shape::Band(points) => 3 * points.len(),
        Shape::Cells { .. } => 0,
    }
}

/// A figure with one of so `many` points of its lines.
fn figure(figure: &Figure, many: usize) -> Value {
    let mut labels: Vec<&str> = vec![];
    let items = figure.panels.iter().flat_map(|panel| &panel.items);
    let mut keys = vec![];
    for item in items {
        if let Some(label) = &item.label
            && !labels.contains(&&**label)
        {
            labels.push(label);
            let marker = marker(item);
            keys.push(json!({"label": label, "kind": kind(&item.shape),
                "color": name(item.color), "marker": marker}));
        }
    }
    let panels = figure.panels.iter();
    let panels = panels.map(|of| panel(of, &labels, many));
    json!({"title": figure.title, "columns": figure.columns, "keys": keys, "panels": panels.collect::<Vec<_>>()})
}

fn panel(panel: &Panel, labels: &[&str], many: usize) -> Value {
    // Most lines of a panel have the same horizontal positions.
    let mut xs: Vec<Vec<Value>> = vec![];
    let mut items = vec![];
    for item in &panel.items {
        let mut json = json!({"kind": kind(&item.shape), "color": name(item.color),
            "marker": marker(item), "group": group(item, panel, labels)});
        match &item.shape {
            Shape::Cells {
                x,
                y,
                columns,
                rows,
                filled,
            } => {
                json["x"] = json!(x);
                json["y"] = json!(y);
                json["grid"] = json!([columns, rows]);
                json["runs"] = runs(filled, *columns).into();
            }
            shape => {
                let [x, low, high] = coordinates(shape, panel, many);
                let index = xs.iter().position(|known| *known == x);
                json["x"] = index.unwrap_or(xs.len()).into();
                if index.is_none() {
                    xs.push(x);
                }
                json["y"] = high.into();
                if matches!(shape, Shape::Band(_)) {
                    json["low"] = low.into();
                }
            }
        }
        items.push(json);
    }
    json!({"title": panel.title, "x": axis(&panel.x), "y": axis(&panel.y), "xs": xs,
        "items": items})
}

fn axis(axis: &Axis) -> Value {
    json!({"label": axis.label, "range": axis.range, "log": axis.logarithmic, "rows": axis.rows})
}

/// The index of the item's label. A band without a label has that of the line in its color.
fn group(item: &Item, panel: &Panel, labels: &[&str]) -> Option<usize> {
    let of_color = || {
        let mut others = panel.items.iter();
        let same = others.find(|other| other.color == item.color && other.label.is_some());
        same.and_then(|other| other.label.as_ref())
    };
    let label = match (&item.label, &item.shape) {
        (Some(label), _) => label,
        (None, Shape::Band(_)) => of_color()?,
        (None, _) => return None,
    };
    labels.iter().position(|known| known == label)
}

/// The horizontal positions, low ends and high ends. A value that its axis cannot show is null.
fn coordinates(shape: &Shape, panel: &Panel, many: usize) -> [Vec<Value>; 3] {
    let points: Vec<(f64, f64, f64)> = match shape {
        Shape::Band(points) => {
            // On a logarithmic axis, a low end that is not positive is at the lowest one that is.
            let positive = points
                .iter()
                .flat_map(|p| [p.1, p.2])
                .filter(|&end| end > 0.0);
            let lowest = positive.fold(f64::INFINITY, f64::min);
            let low = |low: f64| match panel.y.logarithmic && low <= 0.0 {
                true => lowest,
                false => low,
            };
            let ends = points.iter().map(|p| (p.0, low(p.1), p.2));
            ends.collect()
        }
        Shape::Line(points)
        | Shape::DashedLine(points)
        | Shape::MarkedLine(points)
        | Shape::Points(points, _) => points.iter().map(|p| (p.0, p.1, p.1)).collect(),
        Shape::Cells { .. } => vec![],
    };
    let last = points.len().saturating_sub(1);
    let kept = points.iter().enumerate();
    let kept = kept.filter(|(index, _)| index % many == 0 || *index == last);
    let kept: Vec<_> = kept.map(|(_, point)| point).collect();
    let shown = |axis: &Axis, value: f64| match value > 0.0 || !axis.logarithmic {
        true => number(value),
        false => Value::Null,
    };
    [
        kept.iter().map(|p| shown(&panel.x, p.0)).collect(),
        kept.iter().map(|p| shown(&panel.y, p.1)).collect(),
        kept.iter().map(|p| shown(&panel.y, p.2)).collect(),
    ]
}

/// The value rounded to seven digits, or null if it is not finite.
fn number(value: f64) -> Value {
    match format!("{value:.6e}").parse::<f64>() {
        Ok(rounded) if rounded.fract() == 0.0 && rounded.abs() < 1e15 => json!(rounded as i64),
        Ok(rounded) => json!(rounded),
        Err(_) => Value::Null,
    }
}

/// Neighboring filled cells: row, first column, column after the last.
fn runs(filled: &[bool], columns: usize) -> Vec<Value> {
    let mut runs = vec![];
    for (row, cells) in filled.chunks(columns.max(1)).enumerate() {
        let mut start = 0;
        for run in cells.chunk_by(|a, b| a == b) {
            if run[0] {
                runs.push(json!([row, start, start + run.len()]));
            }
            start += run.len();
        }
    }
    runs
}

fn kind(shape: &Shape) -> &'static str {
    match shape {
        Shape::Line(_) => "line",
        Shape::DashedLine(_) => "dashed",
        Shape::MarkedLine(_) => "marked",
        Shape::Points(..) => "points",
        Shape::Band(_) => "band",
        Shape::Cells { .. } => "cells",
    }
}

/// The marker of points, or of lines in the item's color, by Chart.js's name.
fn marker(item: &Item) -> &'static str {
    let marker = match (&item.shape, item.color) {
        (Shape::Points(_, marker), _) => *marker,
        (_, Color::Vermillion | Color::Sky) => Marker::Square,
        (_, Color::Green | Color::Black | Color::LightGray) => Marker::Triangle,
        (_, Color::Purple | Color::Gray) => Marker::Cross,
        (_, Color::Blue | Color::Orange) => Marker::Circle,
    };
    match marker {
        Marker::Circle => "circle",
        Marker::Cross => "crossRot",
        Marker::Triangle => "triangle",
        Marker::Square => "rect",
    }
}

/// The name of the color in `assets/page.css`.
fn name(color: Color) -> &'static str {
    match color {
        Color::Black => "black",
        Color::Gray => "gray",
        Color::LightGray => "light-gray",
        Color::Blue => "blue",
        Color::Vermillion => "vermillion",
        Color::Green => "green",
        Color::Purple => "purple",
        Color::Orange => "orange",
        Color::Sky => "sky",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel_of(y: Axis, items: Vec<Item>) -> Value {
        let of = Figure::single("title", "caption", Axis::linear("x"), y, items);
        let json = figure(&of, 1);
        json["panels"][0].clone()
    }

    #[test]
    fn what_an_axis_cannot_show_is_null() {
        let points = vec![(0.0, 1.0 / 3.0), (1.0, f64::NAN), (2.0, -1.0), (3.0, 2.0)];
        let item = || vec![Item::new(Color::Blue, Shape::Line(points.clone()))];
        let linear = panel_of(Axis::linear("y"), item());
        assert_eq!(linear["items"][0]["y"], json!([0.3333333, null, -1, 2]));
        let logarithmic = panel_of(Axis::logarithmic("y"), item());
        assert_eq!(
            logarithmic["items"][0]["y"],
            json!([0.3333333, null, null, 2])
        );
        let band = vec![(0.0, -1.0, 0.5), (1.0, 0.25, 1.0)];
        let band = panel_of(
            Axis::logarithmic("y"),
            vec![Item::new(Color::Sky, Shape::Band(band))],
        );
        assert_eq!(band["items"][0]["low"], json!([0.25, 0.25]));
    }

    /// Positions are shared, and a band belongs to the line of its color.
    #[test]
    fn bands_are_toggled_with_their_lines() {
        let band = |color| Item::new(color, Shape::Band(vec![(1.0, 2.0, 3.0), (2.0, 3.0, 4.0)]));
        let line = |color| Item::new(color, Shape::MarkedLine(vec![(1.0, 2.5), (2.0, 3.5)]));
        let items = vec![
            band(Color::Sky),
            band(Color::Blue),
            band(Color::Gray),
            line(Color::Blue).labelled("blue"),
            line(Color::Sky).labelled("sky"),
        ];
        let panel = panel_of(Axis::linear("y"), items);
        assert_eq!(panel["xs"], json!([[1, 2]]));
        let groups = panel["items"].as_array().unwrap().iter();
        let groups: Vec<&Value> = groups.map(|item| &item["group"]).collect();
        let none = &Value::Null;
        assert_eq!(groups, [&json!(1), &json!(0), none, &json!(0), &json!(1)]);
    }

    #[test]
    fn cells_are_runs() {
        let filled = [true, true, false, false, false, true];
        assert_eq!(runs(&filled, 3), [json!([0, 0, 2]), json!([1, 2, 3])]);
    }

    /// The last point is kept, so that lines are as long as before.
    #[test]
    fn points_are_thinned() {
        let points = (0..10).map(|x| (f64::from(x), 0.0)).collect();
        let item = Item::new(Color::Blue, Shape::Line(points));
        let of = Figure::single("", "", Axis::linear(""), Axis::linear(""), vec![item]);
        assert_eq!(figure(&of, 4)["panels"][0]["xs"], json!([[0, 4, 8, 9]]));
    }
}
