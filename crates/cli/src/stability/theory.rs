//! Figures of the noisy quadratic model.

use std::path::Path;

use anyhow::Result;
use lopt_core::{Purpose, Streams};
use lopt_plot::{Axis, Color, Figure, Item, Marker, Panel, Shape};
use lopt_stability::{
    Dynamics, LinearUpdate, Quadratic,
    conditions::{agg_mo_bound, cancelling_excess, nominal, robust},
    spectral_radius,
    studies::{
        Means, RandomLearned, agg_mo_radius, meta_gradient_growth, shrinking_nominal, stable_share,
    },
};
use nalgebra::{DMatrix, DVector, dmatrix};

use super::save;

pub fn run(out: &Path, seed: u64) -> Result<()> {
    type Draw = fn(u64) -> Result<(Figure, String)>;
    let figures: [(&str, Draw); 8] = [
        ("eigenvalues", eigenvalues),
        ("stable-region", stable_region),
        ("losses", losses),
        ("meta-gradients", meta_gradients),
        ("robust-bounds", robust_bounds),
        ("cancelling", cancelling),
        ("shrinking-nominal", shrinking),
        ("momentum", momentum),
    ];
    for (name, draw) in figures {
        let (figure, csv) = draw(seed)?;
        save(out, name, &figure, &csv)?;
        println!("{name}: {}", figure.title);
    }
    Ok(())
}

fn item(label: &str, color: Color, shape: Shape) -> Item {
    Item::new(color, shape).labelled(label)
}

/// A and the unit circle, without and with each of the means against instability.
fn eigenvalues(seed: u64) -> Result<(Figure, String)> {
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
    let mut csv = "means,nominal,decayed,preconditioned,real,imaginary\n".to_owned();
    let mut panels = vec![];
    for means in &all {
        let values = random.eigenvalues(means)?;
        for value in &values {
            csv += &format!(
                "{},{},{},{},{},{}\n",
                means.name.replace(',', " and"),
                means.nominal,
                means.decayed,
                means.preconditioned,
                value.re,
                value.im
            );
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
            "A = I − D(αI + cP)H, {N} dimensions: H with curvatures log-uniform in [{}, {}] in random \
             directions, P with independent entries N(0, {SCALE}²/n). Blackbox: α = 0, c = 1, D = I. \
             Nominal term: α = 0.5. Weight decay: c = 0.4. Preconditioner: D = H^(−1/2). ρ: the \
             largest absolute value. Seed {seed}.",
            CURVATURES.0, CURVATURES.1
        ),
        panels,
        columns: 3,
    };
    Ok((figure, csv))
}

/// Which eigenvalues of P are stable, whatever its eigenvectors.
fn stable_region(_: u64) -> Result<(Figure, String)> {
    const CURVATURES: (f64, f64) = (0.25, 1.0);
    const CELLS: usize = 96;
    const RANGE: (f64, f64) = (-2.0, 4.0);
    let center = |i: usize| RANGE.0 + (RANGE.1 - RANGE.0) * (i as f64 + 0.5) / CELLS as f64;
    let mut csv = "alpha,lambda_min,lambda_max,stable_share\n".to_owned();
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
                    csv += &format!("{alpha},{low},{high},{share}\n");
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
             bound is necessary; above the upper one the orientation decides, up to 2/λ_min(H) − α.",
            CURVATURES.0, CURVATURES.1
        ),
        panels,
        columns: 2,
    };
    Ok((figure, csv))
}

/// Expected losses inside and outside of the stable region.
fn losses(seed: u64) -> Result<(Figure, String)> {
    const STEPS: usize = 60;
    const ALPHA: f64 = 0.5;
    let hessian = dmatrix![1.0, 0.0; 0.0, 0.25];
    let model = Quadratic::new(hessian, DMatrix::identity(2, 2) * 0.01)?;
    let start = DVector::from_element(2, 1.0);
    let bounds = nominal(ALPHA, model.curvatures())?;
    // Eigenvalues of P along H's two directions.
    let cases = [
        ("inside", (0.2, 0.2)),
        ("inside, near λ_max's bound", (bounds.upper - 0.05, 0.2)),
        ("outside, λ_max too large", (bounds.upper + 0.1, 0.2)),
        ("outside, λ_min too small", (0.2, bounds.lower - 0.2)),
    ];
    let mut csv = "case,p_along_1,p_along_0.25,step,expected_loss,simulated_loss\n".to_owned();
    let (mut lines, mut dots) = (vec![], vec![]);
    for (i, (name, learned)) in cases.into_iter().enumerate() {
        let learned = DMatrix::from_diagonal(&DVector::from_row_slice(&[learned.0, learned.1]));
        let dynamics = Dynamics::new(&model, &LinearUpdate::new(ALPHA, learned.clone()))?;
        let expected = dynamics.expected_losses(&start, STEPS)?;
        let rng = &mut Streams::new(seed).stream(Purpose::Stability, 11, i as u64, 0);
        let run = dynamics.simulate(&start, STEPS, rng)?;
        for (t, (expected, simulated)) in expected.iter().zip(&run.losses).enumerate() {
            csv += &format!(
                "{},{},{},{t},{expected},{simulated}\n",
                name.replace(',', ""),
                learned[(0, 0)],
                learned[(1, 1)]
            );
        }
        let points = |losses: &[f64]| {
            losses
                .iter()
                .enumerate()
                .map(|(t, &l)| (t as f64, l))
                .collect()
        };
        lines.push(Item::new(Color::nth(i), Shape::Line(points(&expected))));
        let marker = [
            Marker::Circle,
            Marker::Square,
            Marker::Cross,
            Marker::Triangle,
        ][i];
        let shape = Shape::Points(points(&run.losses), marker);
        dots.push(item(name, Color::nth(i), shape));
    }
    lines.extend(dots);
    let figure = Figure {
        title: "Losses inside and outside of the stable region".to_owned(),
        caption: format!(
            "Lines: expected loss ½[E φᵀHφ + tr HΣ] of φ ← φ − (αI + P)∇ on the noisy quadratic \
             model. Marks: one simulated run, seed {seed}. H = diag(1, 0.25), Σ = 0.01·I, φ₀ = (1, 1), \
             α = {ALPHA}; P diagonal with eigenvalues inside or beyond the bounds {} ≤ λ(P) ≤ {} of \
             Theorem 1.",
            bounds.lower, bounds.upper
        ),
        panels: vec![Panel {
            title: String::new(),
            x: Axis::linear("step t"),
            y: Axis::logarithmic("loss"),
            items: lines,
        }],
        columns: 1,
    };
    Ok((figure, csv))
}

/// Mean and deviation of the meta-gradient against the length of the unroll.
fn meta_gradients(seed: u64) -> Result<(Figure, String)> {
    const SAMPLES: usize = 2000;
    const LENGTHS: [usize; 9] = [2, 3, 5, 10, 20, 50, 100, 150, 200];
    let model = Quadratic::new(dmatrix![1.0, 0.0; 0.0, 0.5], DMatrix::identity(2, 2) * 0.1)?;
    let inverse = dmatrix![1.0, 0.0; 0.0, 2.0];
    let start = DVector::from_element(2, 1.0);
    let mut csv = "radius,steps,mean_norm,deviation,deviation_95_half_width\n".to_owned();
    let (mut means, mut deviations) = (vec![], vec![]);
    for (i, radius) in [0.9, 1.0, 1.1].into_iter().enumerate() {
        // A = ρI.
        let update = LinearUpdate::new(0.0, &inverse * (1.0 - radius));
        let (mut mean, mut deviation) = (vec![], vec![]);
        for steps in LENGTHS {
            let rng =
                &mut Streams::new(seed).stream(Purpose::Stability, 12, i as u64, steps as u64);
            let found = meta_gradient_growth(&model, &update, &start, steps, SAMPLES, rng)?;
            csv += &format!(
                "{radius},{steps},{},{},{}\n",
                found.mean, found.deviation, found.deviation_error
            );
            mean.push((steps as f64, found.mean));
            deviation.push((steps as f64, found.deviation));
        }
        let label = format!("ρ(A) = {radius}");
        means.push(item(&label, Color::nth(i), Shape::MarkedLine(mean)));
        deviations.push(item(&label, Color::nth(i), Shape::MarkedLine(deviation)));
    }
    let panel = |title: &str, y: &str, items| Panel {
        title: title.to_owned(),
        x: Axis::logarithmic("length of the unroll T"),
        y: Axis::logarithmic(y),
        items,
    };
    let figure = Figure {
        title: "Meta-gradients explode where the dynamics are unstable".to_owned(),
        caption: format!(
            "L = (1/T)·Σ ℓ_t(φ_t) over t < T, differentiated in P; H = diag(1, 0.5), Σ = 0.1·I, φ₀ = \
             (1, 1), A = I − PH = ρI. Left: Frobenius norm of the expected gradient, exact. Right: \
             root of the summed variances of a single run's gradient, over {SAMPLES} runs, seed {seed} \
             (95 % intervals in the table)."
        ),
        panels: vec![
            panel("Mean", "‖E dL/dP‖", means),
            panel("Deviation of one run", "√Σ Var dL/dP", deviations),
        ],
        columns: 2,
    };
    Ok((figure, csv))
}

/// Bounds on P̃ against the largest error that they must hold for.
fn robust_bounds(_: u64) -> Result<(Figure, String)> {
    let mut csv = "alpha,largest_error,lower,upper\n".to_owned();
    let mut items = vec![];
    for (i, alpha) in [0.2, 0.5, 1.0].into_iter().enumerate() {
        let (mut lower, mut upper) = (vec![], vec![]);
        for step in 0..=60 {
            let error = 0.5 + 3.5 * f64::from(step) / 60.0;
            let bounds = robust(alpha, (0.1, 1.0), error)?;
            csv += &format!("{alpha},{error},{},{}\n", bounds.lower, bounds.upper);
            lower.push((error, bounds.lower));
            upper.push((error, bounds.upper));
        }
        let name = format!("α = {alpha}");
        items.push(item(&name, Color::nth(i), Shape::MarkedLine(upper)));
        items.push(Item::new(Color::nth(i), Shape::DashedLine(lower)));
    }
    let figure = Figure {
        title: "Robust bounds on the learned matrix".to_owned(),
        caption: "Bounds on the eigenvalues of a symmetric P̃ for A = I − (αI + ΔP̃)H with every Δ = diag(d), 0 \
                  < d ≤ d̄, that commutes with H; λ_max(H) = 1. Solid: λ_max(P̃) ≤ (2/λ_max(H) − α)/d̄. \
                  Dashed: λ_min(P̃) ≥ −α/d̄."
            .to_owned(),
        panels: vec![Panel {
            title: String::new(),
            x: Axis::linear("largest relative error d̄"),
            y: Axis::linear("bound on the eigenvalues of P̃"),
            items,
        }],
        columns: 1,
    };
    Ok((figure, csv))
}

/// What an error does where P cancels the nominal term.
fn cancelling(_: u64) -> Result<(Figure, String)> {
    let hessian = dmatrix![1.0, 0.0; 0.0, 0.25];
    let mut csv = "alpha,error,radius\n".to_owned();
    let mut items = vec![];
    for (i, alpha) in [0.0, 1.0, 3.0, 6.0].into_iter().enumerate() {
        let mut points = vec![];
        for step in -50..=50 {
            let error = f64::from(step) / 100.0;
            let excess = cancelling_excess(alpha, error, &hessian);
            // P* = I.
            let a = DMatrix::identity(2, 2) - excess - &hessian * (1.0 - error);
            let radius = spectral_radius(&a)?;
            csv += &format!("{alpha},{error},{radius}\n");
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
    let figure = Figure {
        title: "A learned term that cancels the nominal one is fragile".to_owned(),
        caption: "P = P* − αI with a relative error, (1 − ε)P: A = I − αεH − (1 − ε)P*H. The excess αεH grows \
                  with what is cancelled. P* = I, H = diag(1, 0.25)."
            .to_owned(),
        panels: vec![Panel {
            title: String::new(),
            x: Axis::linear("relative error ε").within(-0.5, 0.5),
            y: Axis::linear("ρ(A)"),
            items,
        }],
        columns: 1,
    };
    Ok((figure, csv))
}

/// A destabilising P while the nominal term shrinks.
fn shrinking(_: u64) -> Result<(Figure, String)> {
    const ALPHA: f64 = 0.5;
    let hessian = dmatrix![1.0, 0.0; 0.0, 0.25];
    let model = Quadratic::new(hessian, DMatrix::identity(2, 2) * 0.01)?;
    let learned = DMatrix::identity(2, 2) * -0.1;
    let start = DVector::from_element(2, 1.0);
    let mut csv = "factor,step,nominal,expected_loss\n".to_owned();
    let mut items = vec![];
    for (i, factor) in [1.0, 0.99, 0.97].into_iter().enumerate() {
        let losses = shrinking_nominal(&model, &learned, (ALPHA, factor), &start, 300)?;
        let mut points = vec![];
        for (t, loss) in losses.into_iter().enumerate() {
            let alpha = ALPHA * f64::powi(factor, t as i32);
            csv += &format!("{factor},{t},{alpha},{loss}\n");
            points.push((t as f64, loss));
        }
        let name = match factor {
            1.0 => format!("α = {ALPHA}"),
            factor => format!("α = {ALPHA}·{factor}ᵗ"),
        };
        items.push(item(&name, Color::nth(i), Shape::MarkedLine(points)));
    }
    let figure = Figure {
        title: "A nominal term may shrink only as far as P needs it".to_owned(),
        caption: format!(
            "Expected loss of φ ← φ − (αI + P)∇ with P = −0.1·I: unstable once α < 0.1, after 161 steps of \
             0.99ᵗ and 53 of 0.97ᵗ. H = diag(1, 0.25), Σ = 0.01·I, φ₀ = (1, 1), α = {ALPHA} at t = 0."
        ),
        panels: vec![Panel {
            title: String::new(),
            x: Axis::linear("step t"),
            y: Axis::logarithmic("expected loss"),
            items,
        }],
        columns: 1,
    };
    Ok((figure, csv))
}

/// Stable steps and decays of heavy ball and AggMo.
fn momentum(_: u64) -> Result<(Figure, String)> {
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
    let mut csv = "optimizer,step_curvature,decay,radius\n".to_owned();
    let mut panels = vec![];
    for (name, decays) in optimizers {
        let (mut fast, mut stable) = (vec![], vec![]);
        for row in 0..ROWS {
            let decay = center(DECAYS, row, ROWS);
            for column in 0..COLUMNS {
                let step = center(STEPS, column, COLUMNS);
                let radius = agg_mo_radius(step, &decays(decay))?;
                csv += &format!("{},{step},{decay},{radius}\n", name.replace(',', ""));
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
        caption: "uᵢ ← μᵢuᵢ + ∇, φ ← φ − (η/K)·Σ uᵢ on a curvature λ; ρ of the joint dynamics of φ and all uᵢ, \
                  from its eigenvalues at the center of each cell. Stable if and only if 0 < ηλ < 2K/Σ 1/(1 + μᵢ) \
                  and all |μᵢ| < 1; for heavy ball (K = 1) 0 < ηλ < 2(1 + μ)."
            .to_owned(),
        panels,
        columns: 2,
    };
    Ok((figure, csv))
}
