//! Which dynamics are stable.

use lopt_core::{Purpose, Streams};
use lopt_plot::{Axis, Color, Figure, Item, Marker, Panel, Shape};
use lopt_stability::{
    conditions::{agg_mo_bound, cancelling_excess, nominal, robust},
    spectral_radius,
    studies::{Means, RandomLearned, agg_mo_radius, stable_share},
};
use nalgebra::{DMatrix, dmatrix};

use super::item;
use crate::{Result, Table};

/// Eigenvalues of A and the unit circle, with and without each stabilizing measure.
pub fn eigenvalues(seed: u64) -> Result<(Figure, Table)> {
    const N: usize = 40;
    const CURVATURES: (f64, f64) = (0.1, 1.5);
    const SCALE: f64 = 0.9;
    let means = |name, nominal, decayed, preconditioned| Means {
        name,
        nominal,
        decayed,
        preconditioned,
    };
    let all = [
        means("blackbox alone", 0.0, 1.0, false),
        means("nominal term", 0.5, 1.0, false),
        means("weight decay", 0.0, 0.4, false),
        means("preconditioner", 0.0, 1.0, true),
        means("nominal term, weight decay", 0.5, 0.4, false),
        means("all three", 0.5, 0.4, true),
    ];
    let rng = &mut Streams::new(seed).stream(Purpose::Stability, 10, 0, 0);
    let random = RandomLearned::new(N, CURVATURES, SCALE, rng)?;
    let circle = |i: u32| {
        let angle = std::f64::consts::TAU * f64::from(i) / 200.0;
        (angle.cos(), angle.sin())
    };
    let mut numbers = Table::new(
        [
            "means",
            "nominal",
            "decayed",
            "preconditioned",
            "real",
            "imaginary",
        ],
        0,
    );
    let mut panels = vec![];
    for means in &all {
        let values = random.eigenvalues(means)?;
        for value in &values {
            numbers.row([
                means.name.to_owned(),
                means.nominal.to_string(),
                means.decayed.to_string(),
                means.preconditioned.to_string(),
                value.re.to_string(),
                value.im.to_string(),
            ]);
        }
        let (inside, outside): (Vec<_>, Vec<_>) = values.iter().partition(|v| v.norm() <= 1.0);
        let points = |values: Vec<&nalgebra::Complex<f64>>| {
            values.into_iter().map(|v| (v.re, v.im)).collect()
        };
        panels.push(Panel {
            title: format!("{}: ρ = {:.2}", means.name, values[0].norm()),
            x: Axis::linear("real part").within(-1.7, 1.7),
            y: Axis::linear("imaginary part").within(-1.7, 1.7),
            items: vec![
                item(
                    "unit circle",
                    Color::Black,
                    Shape::Line((0..=200).map(circle).collect()),
                ),
                item(
                    "stable",
                    Color::Blue,
                    Shape::Points(points(inside), Marker::Circle),
                ),
                item(
                    "unstable",
                    Color::Vermillion,
                    Shape::Points(points(outside), Marker::Cross),
                ),
            ],
        });
    }
    let figure = Figure {
        title: "Eigenvalues of A with and without what keeps them in the unit circle".to_owned(),
        caption: format!(
            "A = I − D(αI + cP)H, {N} dimensions: H with curvatures log-uniform in [{}, {}] in \
             random directions, P with independent entries N(0, {SCALE}²/n). Blackbox: α = 0, c = \
             1, D = I. Nominal term: α = 0.5. Weight decay: c = 0.4. Preconditioner: D = \
             H^(−1/2). ρ: the largest absolute value. Seed {seed}.",
            CURVATURES.0, CURVATURES.1
        ),
        panels,
        columns: 3,
    };
    Ok((figure, numbers))
}

/// The eigenvalues of P that are stable for every choice, or for some choices, of its eigenvectors.
pub fn stable_region() -> Result<(Figure, Table)> {
    const CURVATURES: (f64, f64) = (0.25, 1.0);
    const CELLS: usize = 96;
    const RANGE: (f64, f64) = (-2.0, 4.0);
    let center = |i: usize| RANGE.0 + (RANGE.1 - RANGE.0) * (i as f64 + 0.5) / CELLS as f64;
    let mut numbers = Table::new(["alpha", "lambda_min", "lambda_max", "stable_share"], 0);
    let mut panels = vec![];
    for alpha in [0.0, 0.5, 1.0, 1.5] {
        let mut every = vec![];
        let mut some = vec![];
        for row in 0..CELLS {
            for column in 0..CELLS {
                let (low, high) = (center(column), center(row));
                // P and Hessian with H's axes in all orientations to each other.
                let share = match low <= high {
                    true => stable_share(alpha, CURVATURES, (low, high)),
                    false => 0.0,
                };
                if low <= high {
                    numbers.row([alpha, low, high, share].map(|x| x.to_string()));
                }
                every.push(share == 1.0);
                some.push(share > 0.0 && share < 1.0);
            }
        }
        let bounds = nominal(alpha, CURVATURES)?;
        let cells = |filled| Shape::Cells {
            x: RANGE,
            y: RANGE,
            columns: CELLS,
            rows: CELLS,
            filled,
        };
        let theorem = vec![
            (bounds.lower, bounds.lower),
            (bounds.lower, bounds.upper),
            (bounds.upper, bounds.upper),
            (bounds.lower, bounds.lower),
        ];
        panels.push(Panel {
            title: format!("α = {alpha}"),
            x: Axis::linear("λ_min(P)").within(RANGE.0, RANGE.1),
            y: Axis::linear("λ_max(P)").within(RANGE.0, RANGE.1),
            items: vec![
                item(
                    "stable for every orientation of P",
                    Color::Sky,
                    cells(every),
                ),
                item("for some orientations", Color::LightGray, cells(some)),
                item(
                    "Theorem 1 (sufficient)",
                    Color::Vermillion,
                    Shape::DashedLine(theorem),
                ),
                item(
                    "λ_min = λ_max",
                    Color::Black,
                    Shape::Line(vec![(RANGE.0, RANGE.0), (RANGE.1, RANGE.1)]),
                ),
            ],
        });
    }
    let figure = Figure {
        title: "A nominal term α shifts the stable region of the learned matrix P".to_owned(),
        caption: format!(
            "A = I − (αI + P)H with symmetric P, 2 dimensions, H = diag({}, {}); ρ(A) ≤ 1 over 90 \
             orientations of P. Theorem 1: λ_min(P) ≥ −α and λ_max(P) ≤ 2/λ_max(H) − α. The lower \
             bound is necessary; above the upper one the orientation decides, up to 2/λ_min(H) − \
             α.",
            CURVATURES.0, CURVATURES.1
        ),
        panels,
        columns: 2,
    };
    Ok((figure, numbers))
}

/// Bounds on the eigenvalues of P̃ against the largest error for which they must hold.
pub fn robust_bounds() -> Result<(Figure, Table)> {
    let mut numbers = Table::new(["alpha", "largest_error", "lower", "upper"], 0);
    let mut items = vec![];
    for (i, alpha) in [0.2, 0.5, 1.0].into_iter().enumerate() {
        let (mut lower, mut upper) = (vec![], vec![]);
        for step in 0..=60 {
            let error = 0.5 + 3.5 * f64::from(step) / 60.0;
            let bounds = robust(alpha, (0.1, 1.0), error)?;
            numbers.row([alpha, error, bounds.lower, bounds.upper].map(|x| x.to_string()));
            lower.push((error, bounds.lower));
            upper.push((error, bounds.upper));
        }
        let name = format!("α = {alpha}");
        items.push(item(&name, Color::nth(i), Shape::MarkedLine(upper)));
        items.push(Item::new(Color::nth(i), Shape::DashedLine(lower)));
    }
    let figure = Figure::single(
        "Robust bounds on the learned matrix",
        "Bounds on the eigenvalues of a symmetric P̃ for A = I − (αI + ΔP̃)H with every Δ = \
         diag(d), 0 < d ≤ d̄, that commutes with H; λ_max(H) = 1. Solid: λ_max(P̃) ≤ (2/λ_max(H) − \
         α)/d̄. Dashed: λ_min(P̃) ≥ −α/d̄.",
        Axis::linear("largest relative error d̄"),
        Axis::linear("bound on the eigenvalues of P̃"),
        items,
    );
    Ok((figure, numbers))
}

/// The spectral radius against the error of a P that cancels the nominal term.
pub fn cancelling() -> Result<(Figure, Table)> {
    let hessian = dmatrix![1.0, 0.0; 0.0, 0.25];
    let mut numbers = Table::new(["alpha", "error", "radius"], 0);
    let mut items = vec![];
    for (i, alpha) in [0.0, 1.0, 3.0, 6.0].into_iter().enumerate() {
        let mut points = vec![];
        for step in -50..=50 {
            let error = f64::from(step) / 100.0;
            let excess = cancelling_excess(alpha, error, &hessian);
            // P* = I.
            let a = DMatrix::identity(2, 2) - excess - &hessian * (1.0 - error);
            let radius = spectral_radius(&a)?;
            numbers.row([alpha, error, radius].map(|x| x.to_string()));
            points.push((error, radius));
        }
        let name = match alpha {
            0.0 => "nothing to cancel, α = 0".to_owned(),
            alpha => format!("cancels α = {alpha}"),
        };
        items.push(item(&name, Color::nth(i), Shape::MarkedLine(points)));
    }
    let edge = Shape::DashedLine(vec![(-0.5, 1.0), (0.5, 1.0)]);
    items.push(item("ρ = 1", Color::Gray, edge));
    let figure = Figure::single(
        "A learned term that cancels the nominal one is fragile",
        "P = P* − αI with a relative error, (1 − ε)P: A = I − αεH − (1 − ε)P*H. The excess αεH \
         grows with what is cancelled. P* = I, H = diag(1, 0.25).",
        Axis::linear("relative error ε").within(-0.5, 0.5),
        Axis::linear("ρ(A)"),
        items,
    );
    Ok((figure, numbers))
}

/// Stable step sizes and decays of heavy ball and AggMo.
pub fn momentum() -> Result<(Figure, Table)> {
    const STEPS: (f64, f64) = (0.0, 4.4);
    const DECAYS: (f64, f64) = (-0.995, 0.995);
    const COLUMNS: usize = 88;
    const ROWS: usize = 80;
    let center = |(low, high): (f64, f64), i: usize, count: usize| {
        low + (high - low) * (i as f64 + 0.5) / count as f64
    };
    type Decays = fn(f64) -> Vec<f64>;
    let optimizers: [(&str, Decays); 2] = [
        ("heavy ball: decay μ", |decay| vec![decay]),
        ("AggMo: decays 0, 0.9, μ", |decay| vec![0.0, 0.9, decay]),
    ];
    let mut numbers = Table::new(["optimizer", "step_curvature", "decay", "radius"], 0);
    let mut panels = vec![];
    for (name, decays) in optimizers {
        let (mut fast, mut stable) = (vec![], vec![]);
        for row in 0..ROWS {
            let decay = center(DECAYS, row, ROWS);
            for column in 0..COLUMNS {
                let step = center(STEPS, column, COLUMNS);
                let radius = agg_mo_radius(step, &decays(decay))?;
                numbers.row([
                    name.to_owned(),
                    step.to_string(),
                    decay.to_string(),
                    radius.to_string(),
                ]);
                fast.push(radius < 0.9);
                stable.push((0.9..1.0).contains(&radius));
            }
        }
        let cells = |filled| Shape::Cells {
            x: STEPS,
            y: DECAYS,
            columns: COLUMNS,
            rows: ROWS,
            filled,
        };
        let bound = |i: usize| {
            let decay = center(DECAYS, i, 200);
            (agg_mo_bound(&decays(decay)), decay)
        };
        panels.push(Panel {
            title: name.to_owned(),
            x: Axis::linear("step size × curvature ηλ").within(STEPS.0, STEPS.1),
            y: Axis::linear("decay μ").within(-1.0, 1.0),
            items: vec![
                item("ρ < 0.9", Color::Sky, cells(fast)),
                item("0.9 ≤ ρ < 1", Color::LightGray, cells(stable)),
                item(
                    "ηλ = 2K/Σ 1/(1 + μᵢ)",
                    Color::Vermillion,
                    Shape::DashedLine((0..200).map(bound).collect()),
                ),
            ],
        });
    }
    let figure = Figure {
        title: "Stable steps of heavy ball and AggMo".to_owned(),
        caption:
            "uᵢ ← μᵢuᵢ + ∇, φ ← φ − (η/K)·Σ uᵢ on a curvature λ; ρ of the joint dynamics of φ \
                  and all uᵢ, from its eigenvalues at the center of each cell. Stable if and only \
                  if 0 < ηλ < 2K/Σ 1/(1 + μᵢ) and all |μᵢ| < 1; for heavy ball (K = 1) 0 < \
                  ηλ < 2(1 + μ)."
                .to_owned(),
        panels,
        columns: 2,
    };
    Ok((figure, numbers))
}
