//! Losses and meta-gradients of stable and unstable runs.

use lopt_core::{Purpose, Streams};
use lopt_plot::{Axis, Color, Figure, Item, Marker, Panel, Shape};
use lopt_stability::{
    Dynamics, LinearUpdate, Quadratic,
    conditions::nominal,
    studies::{meta_gradient_growth, shrinking_nominal},
};
use nalgebra::{DMatrix, DVector, dmatrix};

use super::item;
use crate::{Result, Table};

/// Expected losses inside and outside of the stable region.
pub fn losses(seed: u64) -> Result<(Figure, Table)> {
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
    let mut numbers = Table::new(
        [
            "case",
            "p_along_1",
            "p_along_0.25",
            "step",
            "expected_loss",
            "simulated_loss",
        ],
        0,
    );
    let (mut lines, mut dots) = (vec![], vec![]);
    for (i, (name, learned)) in cases.into_iter().enumerate() {
        let learned = DMatrix::from_diagonal(&DVector::from_row_slice(&[learned.0, learned.1]));
        let dynamics = Dynamics::new(&model, &LinearUpdate::new(ALPHA, learned.clone()))?;
        let expected = dynamics.expected_losses(&start, STEPS)?;
        let rng = &mut Streams::new(seed).stream(Purpose::Stability, 11, i as u64, 0);
        let run = dynamics.simulate(&start, STEPS, rng)?;
        for (t, (expected, simulated)) in expected.iter().zip(&run.losses).enumerate() {
            numbers.row([
                name.to_owned(),
                learned[(0, 0)].to_string(),
                learned[(1, 1)].to_string(),
                t.to_string(),
                expected.to_string(),
                simulated.to_string(),
            ]);
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
    let figure = Figure::single(
        "Losses inside and outside of the stable region",
        format!(
            "Lines: expected loss ½[E φᵀHφ + tr HΣ] of φ ← φ − (αI + P)∇ on the noisy quadratic \
             model. Marks: one simulated run, seed {seed}. H = diag(1, 0.25), Σ = 0.01·I, φ₀ = \
             (1, 1), α = {ALPHA}; P diagonal with eigenvalues inside or beyond the bounds {} ≤ \
             λ(P) ≤ {} of Theorem 1.",
            bounds.lower, bounds.upper
        ),
        Axis::linear("step t"),
        Axis::logarithmic("loss"),
        lines,
    );
    Ok((figure, numbers))
}

/// Norm of the mean meta-gradient and its deviation against the length of the unroll.
pub fn meta_gradients(seed: u64) -> Result<(Figure, Table)> {
    const SAMPLES: usize = 2000;
    const LENGTHS: [usize; 9] = [2, 3, 5, 10, 20, 50, 100, 150, 200];
    let model = Quadratic::new(dmatrix![1.0, 0.0; 0.0, 0.5], DMatrix::identity(2, 2) * 0.1)?;
    let inverse = dmatrix![1.0, 0.0; 0.0, 2.0];
    let start = DVector::from_element(2, 1.0);
    let mut numbers = Table::new(
        [
            "radius",
            "steps",
            "mean_norm",
            "deviation",
            "deviation_95_half_width",
        ],
        0,
    );
    let (mut means, mut deviations) = (vec![], vec![]);
    for (i, radius) in [0.9, 1.0, 1.1].into_iter().enumerate() {
        // A = ρI.
        let update = LinearUpdate::new(0.0, &inverse * (1.0 - radius));
        let (mut mean, mut deviation) = (vec![], vec![]);
        for steps in LENGTHS {
            let rng =
                &mut Streams::new(seed).stream(Purpose::Stability, 12, i as u64, steps as u64);
            let found = meta_gradient_growth(&model, &update, &start, steps, SAMPLES, rng)?;
            numbers.row([
                radius.to_string(),
                steps.to_string(),
                found.mean.to_string(),
                found.deviation.to_string(),
                found.deviation_error.to_string(),
            ]);
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
            "L = (1/T)·Σ ℓ_t(φ_t) over t < T, differentiated in P; H = diag(1, 0.5), Σ = 0.1·I, \
             φ₀ = (1, 1), A = I − PH = ρI. Left: Frobenius norm of the expected gradient, \
             exact. Right: root of the summed variances of a single run's gradient, over {SAMPLES} runs, \
             seed {seed} (95 % intervals in the table)."
        ),
        panels: vec![
            panel("Mean", "‖E dL/dP‖", means),
            panel("Deviation of one run", "√Σ Var dL/dP", deviations),
        ],
        columns: 2,
    };
    Ok((figure, numbers))
}

/// Expected losses with a destabilizing P while the nominal term shrinks.
pub fn shrinking() -> Result<(Figure, Table)> {
    const ALPHA: f64 = 0.5;
    let hessian = dmatrix![1.0, 0.0; 0.0, 0.25];
    let model = Quadratic::new(hessian, DMatrix::identity(2, 2) * 0.01)?;
    let learned = DMatrix::identity(2, 2) * -0.1;
    let start = DVector::from_element(2, 1.0);
    let mut numbers = Table::new(["factor", "step", "nominal", "expected_loss"], 0);
    let mut items = vec![];
    for (i, factor) in [1.0, 0.99, 0.97].into_iter().enumerate() {
        let losses = shrinking_nominal(&model, &learned, (ALPHA, factor), &start, 300)?;
        let mut points = vec![];
        for (t, loss) in losses.into_iter().enumerate() {
            let alpha = ALPHA * f64::powi(factor, t as i32);
            numbers.row([
                factor.to_string(),
                t.to_string(),
                alpha.to_string(),
                loss.to_string(),
            ]);
            points.push((t as f64, loss));
        }
        let name = match factor {
            1.0 => format!("α = {ALPHA}"),
            factor => format!("α = {ALPHA}·{factor}ᵗ"),
        };
        items.push(item(&name, Color::nth(i), Shape::MarkedLine(points)));
    }
    let figure = Figure::single(
        "A nominal term may shrink only as far as P needs it",
        format!(
            "Expected loss of φ ← φ − (αI + P)∇ with P = −0.1·I: unstable once α < 0.1, after 161 \
             steps of 0.99ᵗ and 53 of 0.97ᵗ. H = diag(1, 0.25), Σ = 0.01·I, φ₀ = (1, 1), α = \
             {ALPHA} at t = 0."
        ),
        Axis::linear("step t"),
        Axis::logarithmic("expected loss"),
        items,
    );
    Ok((figure, numbers))
}
