//! What is in the SVG of a figure.

use lopt_plot::{Axis, Color, Error, Figure, Item, Marker, Panel, Shape};

const BLUE: &str = "#0072B2";
/// Units of the drawing in a pixel.
const UNITS: f64 = 4.0;

fn figure(x: Axis, y: Axis, items: Vec<Item>) -> Figure {
    Figure {
        title: "a title".to_owned(),
        caption: "a caption".to_owned(),
        panels: vec![Panel {
            title: "a panel".to_owned(),
            x,
            y,
            items,
        }],
        columns: 1,
    }
}

fn linear(items: Vec<Item>) -> Figure {
    figure(Axis::linear("x (steps)"), Axis::linear("y (nats)"), items)
}

fn blue(shape: Shape) -> Vec<Item> {
    vec![Item::new(Color::Blue, shape)]
}

/// Points of each element with this tag and color.
fn elements(svg: &str, tag: &str, color: &str) -> Vec<Vec<(f64, f64)>> {
    let number = |text: &str| text.parse().expect("a coordinate");
    let point = |text: &str| {
        let (x, y) = text.split_once(',').expect("a point");
        (number(x), number(y))
    };
    svg.lines()
        .filter(|line| line.starts_with(&format!("<{tag} ")) && line.contains(color))
        .map(|line| {
            let points = line.split("points=\"").nth(1).expect("points");
            let points = points.split('"').next().expect("points");
            points.split_whitespace().map(point).collect()
        })
        .collect()
}

/// Left, top, right and bottom of the only panel.
fn frame(svg: &str) -> [f64; 4] {
    let ink = elements(svg, "polyline", "#282828");
    let frame = ink.into_iter().find(|line| line.len() == 5);
    let corners = frame.expect("a frame");
    [corners[0].0, corners[0].1, corners[2].0, corners[2].1]
}

#[test]
fn texts_are_all_there_and_the_legend_has_each_label_once() {
    let line = vec![(0.0, 1.0), (1.0, 2.0)];
    let mut figure = linear(vec![
        Item::new(Color::Black, Shape::Line(line.clone())).labelled("plain"),
        Item::new(Color::Blue, Shape::DashedLine(line.clone())).labelled("broken"),
        Item::new(Color::Sky, Shape::MarkedLine(line.clone())).labelled("marked"),
        Item::new(Color::Green, Shape::Points(line, Marker::Square)).labelled("a < b & \"c\""),
        Item::new(Color::Green, Shape::Band(vec![(0.0, 1.0, 2.0)])).labelled("area"),
    ]);
    let words = ["Long", "captions", "are", "broken", "into", "lines:"];
    figure.caption = [words.join(" "), "é & <tag> ".repeat(40)].concat();
    figure.panels.push(figure.panels[0].clone());
    figure.columns = 2;
    let svg = figure.svg().unwrap();
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
    assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    let texts: Vec<&str> = svg.lines().filter(|line| !line.starts_with('<')).collect();
    let labels = [
        "plain",
        "broken",
        "marked",
        "area",
        "a &lt; b &amp; &quot;c&quot;",
    ];
    for once in labels.into_iter().chain(["a title"]) {
        let count = texts.iter().filter(|text| **text == once).count();
        assert_eq!(count, 1, "{once}");
    }
    for twice in ["a panel", "x (steps)", "y (nats)"] {
        let count = texts.iter().filter(|text| **text == twice).count();
        assert_eq!(count, 2, "{twice}");
    }
    let caption: Vec<&&str> = texts.iter().filter(|text| text.contains('é')).collect();
    assert!(caption.len() > 2 && caption[0].starts_with(&words.join(" ")));
    assert_eq!(svg.matches("&lt;tag&gt;").count(), 40);
    assert!(!svg.contains("& "));
}

#[test]
fn points_that_are_not_finite_break_a_line() {
    let points = [1.0, 2.0, f64::NAN, 3.0, f64::INFINITY, 4.0, 1.0, 5.0];
    let points = (0..).map(f64::from).zip(points).collect();
    let svg = linear(blue(Shape::Line(points))).svg().unwrap();
    let lengths: Vec<_> = elements(&svg, "polyline", BLUE)
        .iter()
        .map(Vec::len)
        .collect();
    // The one between two gaps is a dot.
    assert_eq!(lengths, [2, 2, 3]);
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}

#[test]
fn a_logarithmic_axis_leaves_out_what_is_not_positive() {
    let points = vec![
        (1.0, 0.0),
        (10.0, 0.1),
        (100.0, -3.0),
        (1e3, 1e-2),
        (0.0, 1.0),
    ];
    let band = vec![(10.0, 0.0, 0.1), (1e3, 1e-3, 1e-2)];
    let items = vec![
        Item::new(Color::Blue, Shape::Points(points, Marker::Square)),
        Item::new(Color::Green, Shape::Band(band)),
    ];
    let figure = figure(Axis::logarithmic("x"), Axis::logarithmic("y"), items);
    let svg = figure.svg().unwrap();
    assert_eq!(elements(&svg, "polygon", BLUE).len(), 2);
    // Its lower end is at the axis' where it is 0.
    let [.., bottom] = frame(&svg);
    let band = &elements(&svg, "polygon", "#009E73")[0];
    assert_eq!(band.iter().filter(|point| point.1 == bottom).count(), 1);
    for label in ["0.001", "0.01", "0.1", "10", "100", "1000"] {
        assert!(svg.contains(&format!("\n{label}\n")), "{label}");
    }
}

#[test]
fn nothing_is_drawn_outside_of_a_range() {
    let wild = || {
        vec![
            (-9.0, -9.0),
            (0.5, 0.6),
            (0.7, 1e9),
            (0.9, 0.3),
            (1e300, -5.0),
        ]
    };
    let shapes = [
        Shape::Line(wild()),
        Shape::DashedLine(wild()),
        Shape::Band(wild().iter().map(|&(x, y)| (x, y - 0.1, y + 0.1)).collect()),
        Shape::Cells {
            x: (-1.0, 3.0),
            y: (3.0, -1.0),
            columns: 4,
            rows: 4,
            filled: vec![true; 16],
        },
    ];
    for shape in shapes {
        let axis = || Axis::linear("quantity").within(0.0, 1.0);
        let svg = figure(axis(), axis(), blue(shape.clone())).svg().unwrap();
        let [left, top, right, bottom] = frame(&svg);
        assert!((right - left - (bottom - top)).abs() <= UNITS, "not square");
        let drawn = ["polyline", "polygon"].map(|tag| {
            [BLUE, "#5AA4CD"]
                .map(|color| elements(&svg, tag, color))
                .concat()
        });
        let drawn = drawn.concat().concat();
        assert!(drawn.len() > 2, "{shape:?}");
        for (x, y) in drawn {
            let inside = (left..=right).contains(&x) && (top..=bottom).contains(&y);
            assert!(inside, "{shape:?}: {x}, {y}");
        }
    }
}

#[test]
fn cells_of_a_run_are_one_rectangle() {
    let filled = [
        [true, true, false, true],
        [false; 4],
        [false, true, true, true],
    ];
    let svg = linear(blue(Shape::Cells {
        x: (0.0, 4.0),
        y: (0.0, 3.0),
        columns: 4,
        rows: 3,
        filled: filled.concat(),
    }))
    .svg()
    .unwrap();
    let polygons = elements(&svg, "polygon", "#5AA4CD");
    // Three rectangles, closed, with a way back after the second and the third.
    assert_eq!(polygons.iter().map(Vec::len).sum::<usize>(), 5 + 6 + 6);
    // Together as large as six cells; the axes have a margin of a twentieth on each side.
    let area: f64 = polygons[0]
        .windows(2)
        .map(|pair| (pair[0].0 * pair[1].1 - pair[1].0 * pair[0].1) / 2.0)
        .sum();
    let [left, top, right, bottom] = frame(&svg);
    let cell = (right - left) * (bottom - top) / 1.1f64.powi(2) / 12.0;
    assert!((area.abs() / cell - 6.0).abs() < 0.05, "{}", area / cell);
}

#[test]
fn dense_lines_have_few_markers_and_sparse_ones_all() {
    let markers = |points: i32| {
        let points = (0..points).map(|k| (f64::from(k), f64::from(k % 7)));
        let svg = linear(blue(Shape::MarkedLine(points.collect())));
        elements(&svg.svg().unwrap(), "polygon", BLUE).len()
    };
    assert_eq!(markers(20), 20);
    assert!((5..20).contains(&markers(2000)), "{}", markers(2000));
}

#[test]
fn a_figure_without_a_point_is_an_error() {
    let nothing = [
        vec![],
        blue(Shape::Line(vec![])),
        blue(Shape::Line(vec![(1.0, f64::NAN), (f64::INFINITY, 1.0)])),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("figure.svg");
    for items in nothing {
        let figure = linear(items);
        let error = figure.svg().unwrap_err().to_string();
        assert_eq!(error, "cannot draw `a title`: there is no point to show");
        let error = figure.save(&path).unwrap_err();
        assert!(matches!(&error, Error::Plot { .. }) && error.to_string().contains("figure.svg"));
        assert!(!path.exists());
    }
    let figure = Figure {
        panels: vec![],
        ..linear(vec![])
    };
    assert!(figure.svg().is_err());
}

#[test]
fn a_range_that_is_none_is_an_error() {
    let ends = [
        (1.0, 1.0),
        (2.0, 1.0),
        (f64::NAN, 1.0),
        (-f64::MAX, f64::MAX),
    ];
    let items = || blue(Shape::Line(vec![(0.0, 1.0), (1.0, 2.0)]));
    for (low, high) in ends {
        let x = Axis::linear("steps").within(low, high);
        let error = figure(x, Axis::linear("y"), items()).svg().unwrap_err();
        assert!(error.to_string().contains("range of `steps`"), "{error}");
    }
    let x = Axis::logarithmic("steps").within(0.0, 1.0);
    assert!(figure(x, Axis::linear("y"), items()).svg().is_err());
}

#[test]
fn files_hold_the_svg_and_the_same_data_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("figure.svg");
    let figure = linear(blue(Shape::MarkedLine(vec![(0.0, 1.0), (1.0, 2.0)])));
    figure.save(&path).unwrap();
    assert_eq!(
        std::fs::read_to_string(path).unwrap(),
        figure.svg().unwrap()
    );
    let missing = folder.path().join("missing/figure.svg");
    assert!(matches!(figure.save(&missing), Err(Error::Core(_))));
}

/// Rows are named from top to bottom, whatever their number, and the figure grows with them.
#[test]
fn rows_are_named_from_top_to_bottom() {
    let of = |count: usize| {
        let names = (0..count).map(|index| format!("row number {index}"));
        let axis = Axis::of_rows(names.collect());
        let points = (0..count).map(|index| (index as f64, axis.row(index)));
        let shape = Shape::Points(points.collect(), Marker::Circle);
        figure(Axis::linear("x"), axis, vec![Item::new(Color::Blue, shape)])
            .svg()
            .unwrap()
    };
    let svg = of(30);
    let tops: Vec<f64> = (0..30)
        .map(|index| {
            let before = svg
                .split(&format!("\nrow number {index}\n"))
                .next()
                .unwrap();
            let y = before.rsplit(" y=\"").next().unwrap();
            y.split('"').next().unwrap().parse().unwrap()
        })
        .collect();
    assert!(
        tops.windows(2).all(|pair| pair[0] + 15.0 < pair[1]),
        "{tops:?}"
    );
    let height = |svg: &str| {
        let after = svg.split(" height=\"").nth(1).unwrap();
        after.split('"').next().unwrap().parse::<f64>().unwrap()
    };
    assert!(height(&of(60)) > height(&svg) + 500.0);
}
