//! The update of a large tensor of rank ≥ 2 in parts, as runs of its lines.

use crate::{
    Gradient, Isa, Target,
    parts::{self, Run, map, split},
};

use super::{
    accumulate, apply,
    formula::Formula,
    lines::Lines,
    scaled::Scaled,
    side::{Side, sum_squares},
    split_in_three,
    theta::Weights,
};

/// The sums of g² of each part, for rows and columns.
pub(super) type PartSums = Vec<(Side, Side)>;

/// The same as the update in one piece up to the rounding of sums.
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
    let [m0, m1, m2] = split_in_three(momentum).map(|m| split(m, &ranges));
    let p = ranges.iter().map(|range| &target.p[range.clone()]);
    let slices = m0
        .into_iter()
        .zip(m1)
        .zip(m2)
        .zip(split(rms, &ranges))
        .zip(p);
    let squares = map(
        run,
        each().zip(slices),
        |((lines, g), ((((m0, m1), m2), v), p))| {
            let m = [m0, m1, m2];
            accumulate::accumulate(isa, weights, lines, p, g, m, v, seen_rows, seen_columns)
        },
    );

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
    let [m0, m1, m2] = apply::thirds(momentum);
    let moments = |index: usize| {
        let range = ranges[index].clone();
        let m = [&m0[range.clone()], &m1[range.clone()], &m2[range.clone()]];
        (m, &rms[range])
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
