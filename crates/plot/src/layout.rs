//! Stacks title, legend, panels and caption.

use crate::{
    Figure, Item,
    canvas::{Canvas, Drawn},
    clip::{Frame, Point},
    item, panel,
    text::{LABEL, LINE, height, widest, wrap},
};

const SINGLE: Point = (720.0, 480.0);
const ONE_OF_MANY: Point = (340.0, 310.0);
/// Height of a row of [`crate::Axis::of_rows`], and of the rest of its panel.
const ROW: (f64, f64) = (21.0, 70.0);
const MARGIN: f64 = 14.0;
const TITLE: f64 = 18.0;

/// The figure as SVG, or why it cannot be drawn.
pub fn svg(figure: &Figure) -> Drawn<String> {
    if figure
        .panels
        .iter()
        .all(|panel| panel::shown(panel).is_empty())
    {
        return Err("there is no point to show".into());
    }
    let columns = figure.columns.clamp(1, figure.panels.len());
    let rows = figure.panels.len().div_ceil(columns);
    let (panel_width, panel_height) = match (figure.panels.len(), columns) {
        (1, _) => SINGLE,
        (_, 1) => (SINGLE.0, ONE_OF_MANY.1),
        _ => ONE_OF_MANY,
    };
    let rows_height = |panel: &crate::Panel| panel.y.rows.len() as f64 * ROW.0 + ROW.1;
    let panel_height = figure
        .panels
        .iter()
        .map(rows_height)
        .fold(panel_height, f64::max);
    let legend = legend(figure);
    let longest = legend.iter().fold(0.0, |most, entry| entry.2.max(most));
    let inner = (columns as f64 * panel_width).max(longest);
    let panel_width = inner / columns as f64;
    let legend = rows_of(legend, inner);

    let title = wrap(&figure.title, inner, TITLE);
    let caption = wrap(&figure.caption, inner, LABEL);
    let legend_top = MARGIN + height(&title, TITLE) + 4.0;
    let panels_top = legend_top + legend.len() as f64 * LABEL * LINE + 6.0;
    let caption_top = panels_top + rows as f64 * panel_height + 6.0;
    let bottom = caption_top + height(&caption, LABEL) + MARGIN;
    let size = ((inner + 2.0 * MARGIN).ceil(), bottom.ceil());

    Canvas::svg(size, |canvas| {
        canvas.lines(&title, TITLE, (size.0 / 2.0, MARGIN), 0.5)?;
        for (row, entries) in legend.iter().enumerate() {
            let middle = legend_top + (row as f64 + 0.5) * LABEL * LINE;
            let wide: f64 = entries.iter().map(|(_, _, width)| width).sum();
            let mut left = (size.0 - wide) / 2.0;
            for (label, item, width) in entries {
                item::key(canvas, item, (left, middle))?;
                canvas.text(label, LABEL, (left + item::KEY + 8.0, middle), 0.0)?;
                left += width;
            }
        }
        let titles = figure.panels.iter();
        let titles = titles.map(|panel| panel::title_height(panel, panel_width));
        let title_height = titles.fold(0.0, f64::max);
        for (index, panel) in figure.panels.iter().enumerate() {
            let left = MARGIN + (index % columns) as f64 * panel_width;
            let top = panels_top + (index / columns) as f64 * panel_height;
            let space = Frame {
                left,
                top,
                right: left + panel_width,
                bottom: top + panel_height,
            };
            panel::draw(canvas, panel, space, title_height)?;
        }
        canvas.lines(&caption, LABEL, (MARGIN, caption_top), 0.0)
    })
}

/// A label, the first item with that label, and the width of the entry.
type Entry<'a> = (&'a str, &'a Item, f64);

fn legend(figure: &Figure) -> Vec<Entry<'_>> {
    let mut legend: Vec<Entry> = vec![];
    for item in figure.panels.iter().flat_map(|panel| &panel.items) {
        if let Some(label) = &item.label
            && !legend.iter().any(|(known, ..)| known == label)
        {
            let width = item::KEY + widest([&**label], LABEL) + 24.0;
            legend.push((label, item, width));
        }
    }
    legend
}

/// Breaks the entries into rows of at most `available` pixels.
fn rows_of(entries: Vec<Entry<'_>>, available: f64) -> Vec<Vec<Entry<'_>>> {
    let mut rows: Vec<Vec<Entry>> = vec![];
    let mut left = 0.0;
    for entry in entries {
        if entry.2 > left {
            rows.push(vec![]);
            left = available;
        }
        left -= entry.2;
        rows.last_mut().into_iter().for_each(|row| row.push(entry));
    }
    rows
}
