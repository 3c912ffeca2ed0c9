//! The update of a large tensor in parts: runs of its lines, or of its elements if its rank is below 2.

use std::ops::Range;

use crate::{
    Gradient, Isa, Target,
    parts::{self, Run, map, split},
};

use super::{
    accumulate, apply, diagonal,
    formula::Formula,
    lines::Lines,
    scaled::Scaled,
    side::{Side, sum_squares},
    split_in_three,
    theta::Weights,
};

/// The sums of g² of each part, for rows and columns.
pub(super) type PartSums = Vec<(Side, Side)>;

/// The same as the update of a tensor of rank ≥ 2 in one piece, up to the rounding of sums.
#[allow(clippy::too_many_arguments)]
pub(super) fn update<const H: usize>(
    isa: Isa,
    run: Run,
    weights: &Weights<H>,
    formula: &Formula,
    bias: &[f32; H],
    lines: &Lines,
    target: Target,
    g: Gradient,
    momentum: &mut [f32],
    rms: &mut [f32],
    [row, col]: [&mut [f32]; 2],
    (rows, columns, sums): (&mut Side, &mut Side, &mut PartSums),
) {
    let parts = lines.parts();
    let ranges: Vec<_> = parts.iter().map(Lines::range).collect();
    let each = || {
        parts
            .iter()
            .zip(&ranges)
            .map(|(lines, range)| (lines, g.of(range.clone())))
    };

    sums.resize_with(parts.len(), Default::default);
    map(
        run,
        each().zip(&mut *sums),
        |((lines, g), (rows, columns))| {
            sum_squares(isa, lines, g, rows, columns);
        },
    );
    rows.reset(sums[0].0.len);
    columns.reset(sums[0].1.len);
    for (of_rows, of_columns) in &*sums {
        rows.add(of_rows);
        columns.add(of_columns);
    }
    rows.update_rows(isa, &weights.adafactor_decays, row, lines);
    columns.update_columns(isa, &weights.adafactor_decays, col, lines);

    let (seen_rows, seen_columns) = (&*rows, &*columns);
    let p = ranges.iter().map(|range| &target.p[range.clone()]);
    let slices = thirds_of_parts(momentum, &ranges)
        .zip(split(rms, &ranges))
        .zip(p);
    let squares = map(run, each().zip(slices), |((lines, g), ((m, v), p))| {
        accumulate::accumulate(isa, weights, lines, p, g, m, v, seen_rows, seen_columns)
    });

    let n = lines.elements();
    let squares = parts::total(squares);
    let scaled = Scaled::factored(
        weights,
        bias,
        &squares,
        n,
        rows.squares(),
        columns.squares(),
    );
    rows.fold(isa, row, &scaled.rows);
    columns.fold(isa, col, &scaled.columns);

    let (rows, columns) = (&*rows, &*columns);
    let momenta = apply::thirds(momentum);
    let moments = |index: usize| {
        let range = ranges[index].clone();
        (momenta.map(|m| &m[range.clone()]), &rms[range])
    };
    let mut formula = *formula;
    if formula.per_tensor() {
        let p = &*target.p;
        let heads = map(run, each().enumerate(), |(index, (lines, g))| {
            let (m, v) = moments(index);
            let p = &p[ranges[index].clone()];
            apply::heads(isa, weights, &scaled, lines, p, g, m, v, rows, columns)
        });
        formula = formula.with_means(parts::total(heads).map(|sum| sum / n as f64));
    }
    let targets = target.split(&ranges);
    map(
        run,
        each().zip(targets).enumerate(),
        |(index, ((lines, g), target))| {
            let (m, v) = moments(index);
            apply::step(
                isa, weights, &scaled, &formula, lines, target, g, m, v, rows, columns,
            );
        },
    );
}

/// The same as [`diagonal::update`] in one piece, up to the rounding of sums.
#[allow(clippy::too_many_arguments)]
pub(super) fn update_diagonal<const H: usize>(
    isa: Isa,
    run: Run,
    weights: &Weights<H>,
    formula: &Formula,
    bias: &[f32; H],
    target: Target,
    g: Gradient,
    momentum: &mut [f32],
    rms: &mut [f32],
    moments: &mut [f32],
) {
    let n = target.p.len();
    assert!(moments.len() == 3 * n);
    let ranges = parts::ranges(n);
    let p = ranges.iter().map(|range| (range, &target.p[range.clone()]));
    let slices = thirds_of_parts(momentum, &ranges)
        .zip(split(rms, &ranges))
        .zip(thirds_of_parts(moments, &ranges));
    let sums = map(run, p.zip(slices), |((range, p), ((m, v), d))| {
        diagonal::accumulate(isa, weights, p, g.of(range.clone()), m, v, d)
    });
    let (sums, of_moments) = sums.into_iter().unzip();
    let (sums, of_moments) = (parts::total(sums), parts::total(of_moments));
    let scaled = Scaled::diagonal(weights, bias, &sums, &of_moments, n);

    let [m, d] = [&*momentum, &*moments].map(apply::thirds);
    let rms = &*rms;
    let of_part = |range: &Range<usize>| {
        let [m, d] = [m, d].map(|all| all.map(|values| &values[range.clone()]));
        (g.of(range.clone()), m, &rms[range.clone()], d)
    };
    let mut formula = *formula;
    if formula.per_tensor() {
        let p = &*target.p;
        let heads = map(run, &ranges, |range| {
            let (g, m, v, d) = of_part(range);
            diagonal::heads(isa, weights, &scaled, &p[range.clone()], g, m, v, d)
        });
        formula = formula.with_means(parts::total(heads).map(|sum| sum / n as f64));
    }
    let targets = target.split(&ranges);
    map(run, ranges.iter().zip(targets), |(range, target)| {
        let (g, m, v, d) = of_part(range);
        diagonal::step(isa, weights, &scaled, &formula, target, g, m, v, d);
    });
}

/// The parts of three slices that lie one after another.
fn thirds_of_parts<'a>(
    all: &'a mut [f32],
    ranges: &[Range<usize>],
) -> impl Iterator<Item = [&'a mut [f32]; 3]> {
    let [a, b, c] = split_in_three(all).map(|third| split(third, ranges));
    a.into_iter().zip(b).zip(c).map(|((a, b), c)| [a, b, c])
}
