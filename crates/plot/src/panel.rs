//! Draws a panel: title, axes, labels and items.

use crate::{
    Item, Panel, Shape,
    axis::{self, Scale, Tick},
    canvas::{Canvas, Drawn, GRID, INK},
    clip::{Frame, rectangle},
    item::View,
    text::{LABEL, LINE, height, widest, wrap},
};

const TITLE: f64 = 14.0;
const TICK: f64 = 12.0;
/// Distance between the title and the frame, in pixels.
const BELOW_TITLE: f64 = 6.0;

pub fn title_height(panel: &Panel, width: f64) -> f64 {
    height(&title(panel, width), TITLE)
}

fn title(panel: &Panel, width: f64) -> Vec<String> {
    wrap(&panel.title, width - 24.0, TITLE)
}

/// Draws the panel in `space`, of which the top `title_height` is reserved for the title.
pub fn draw(canvas: &mut Canvas, panel: &Panel, space: Frame, title_height: f64) -> Drawn {
    let points = shown(panel);
    // An axis without a range spans only the points within the range of the other axis.
    let within = |range: Option<(f64, f64)>, value: f64| {
        range.is_none_or(|(low, high)| (low..=high).contains(&value))
    };
    let of_x = points.iter().filter(|p| within(panel.y.range, p.1));
    let of_y = points.iter().filter(|p| within(panel.x.range, p.0));
    let x = Scale::new(&panel.x, of_x.map(|p| p.0))?;
    let y = Scale::new(&panel.y, of_y.map(|p| p.1))?;

    let x_label = wrap(&panel.x.label, 0.75 * space.width(), LABEL);
    let mut frame = Frame {
        left: space.left,
        top: space.top + title_height + BELOW_TITLE,
        right: space.right - 16.0,
        bottom: space.bottom - height(&x_label, LABEL) - TICK * LINE - 16.0,
    };
    let y_label = wrap(&panel.y.label, frame.height(), LABEL);
    let y_ticks = y.ticks(|ticks| apart(ticks, frame.height(), 10.0, |_| TICK));
    let y_width = widest(y_ticks.iter().map(|tick| &*tick.label), TICK);
    frame.left += height(&y_label, LABEL) + y_width + 16.0;
    if x.same_range(&y) {
        let side = frame.width().min(frame.height());
        let spare = (frame.width() - side) / 2.0;
        (frame.left, frame.right) = (frame.left + spare, frame.right - spare);
        frame.bottom = frame.top + side;
    }
    let wide = |tick: &Tick| widest([&*tick.label], TICK);
    let x_ticks = x.ticks(|ticks| apart(ticks, frame.width(), 8.0, wide));
    if let Some(last) = x_ticks.last() {
        let overhang = wide(last) / 2.0 - (1.0 - last.at) * frame.width();
        frame.right -= (overhang - 22.0).max(0.0);
    }

    let (middle, center) = frame.center();
    let title = title(panel, space.width());
    let title_top = frame.top - BELOW_TITLE - height(&title, TITLE);
    canvas.lines(&title, TITLE, (middle, title_top), 0.5)?;
    let x_label_top = frame.bottom + TICK * LINE + 10.0;
    canvas.lines(&x_label, LABEL, (middle, x_label_top), 0.5)?;
    let y_label_left = frame.left - y_width - 14.0 - height(&y_label, LABEL);
    canvas.upward_lines(&y_label, LABEL, (y_label_left, center))?;

    let view = View { x, y, frame };
    for tick in &x_ticks {
        let (x, bottom) = view.on_frame(tick.at, 0.0);
        canvas.line(&[(x, bottom), (x, frame.top)], &GRID, 1.0)?;
        canvas.line(&[(x, bottom), (x, bottom + 5.0)], &INK, 1.0)?;
        canvas.text(&tick.label, TICK, (x, bottom + 14.0), 0.5)?;
    }
    for tick in &y_ticks {
        let (left, y) = view.on_frame(0.0, tick.at);
        canvas.line(&[(left, y), (frame.right, y)], &GRID, 1.0)?;
        canvas.line(&[(left, y), (left - 5.0, y)], &INK, 1.0)?;
        canvas.text(&tick.label, TICK, (left - 8.0, y), 1.0)?;
    }
    for at in view.x.minor() {
        let (x, bottom) = view.on_frame(at, 0.0);
        canvas.line(&[(x, bottom), (x, bottom + 2.5)], &INK, 0.75)?;
    }
    for at in view.y.minor() {
        let (left, y) = view.on_frame(0.0, at);
        canvas.line(&[(left, y), (left - 2.5, y)], &INK, 0.75)?;
    }
    for item in &panel.items {
        view.draw(canvas, item)?;
    }
    let corners = rectangle((frame.left, frame.top), (frame.right, frame.bottom));
    canvas.line(&[&corners[..], &corners[..1]].concat(), &INK, 1.0)?;
    if points.is_empty() {
        canvas.text("no point to show", LABEL, (middle, center), 0.5)?;
    }
    Ok(())
}

/// All points that the axes of the panel can show, including the corners of cells.
pub fn shown(panel: &Panel) -> Vec<(f64, f64)> {
    let points = |item: &Item| match &item.shape {
        Shape::Line(points) | Shape::DashedLine(points) | Shape::MarkedLine(points) => {
            points.clone()
        }
        Shape::Points(points, _) => points.clone(),
        Shape::Band(points) => points
            .iter()
            .flat_map(|&(x, low, high)| [(x, low), (x, high)])
            .collect(),
        Shape::Cells { x, y, .. } => vec![(x.0, y.0), (x.1, y.1)],
    };
    let all = panel.items.iter().flat_map(points);
    all.filter(|&(x, y)| axis::shows(&panel.x, x) && axis::shows(&panel.y, y))
        .collect()
}

/// Whether there are `gap` pixels between the labels along an axis of `length` pixels.
fn apart(ticks: &[Tick], length: f64, gap: f64, size: impl Fn(&Tick) -> f64) -> bool {
    ticks.windows(2).all(|pair| {
        let distance = (pair[1].at - pair[0].at) * length;
        distance >= (size(&pair[0]) + size(&pair[1])) / 2.0 + gap
    })
}
