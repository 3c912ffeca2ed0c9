//! How a tensor is divided into tiles, the rectangles that a block of threads keeps in its memory.

use crate::layout::{LINE_THREADS, Side, TILE, Tensor};

/// The rows of a tile of a large tensor. Each tile has one partial sum for each column, so the
/// partial sums take this part of the tensor's memory.
const ROWS: usize = 16;
/// Tiles of a unit, and the units that a tensor should have before units get more tiles.
const UNIT_TILES: usize = 8;
const ENOUGH_UNITS: usize = 512;
/// The largest number of threads that share a line.
const LARGEST_SHARE: usize = 64;

/// How tiles divide a row of a tensor \[outer, x, middle, y, inner\].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// A tile has whole segments \[y, inner\].
    WholeSegments = 0,
    /// A tile has some of the y of one segment.
    WithinSegment = 1,
    /// A tile has a part of one y.
    WithinInner = 2,
}

/// The largest multiple of `unit` up to `limit`; four of them if possible, for aligned loads.
fn multiple(unit: usize, limit: usize) -> usize {
    let unit = if 4 * unit <= limit { 4 * unit } else { unit };
    limit / unit * unit
}

/// Returns a tensor of n elements without lines.
pub(crate) fn diagonal(n: usize) -> Tensor {
    let n = n as u32;
    divided(Tensor {
        elements: n,
        is_diagonal: 1,
        x: 1,
        columns: n,
        middle: 1,
        y: n,
        inner: 1,
        cut: Cut::WholeSegments as u32,
        span: n,
        span_tiles: n.div_ceil(TILE as u32),
        tile_rows: 1,
        tile_columns: TILE as u32,
        tiles: n.div_ceil(TILE as u32),
        ..Tensor::default()
    })
}

/// Returns a tensor with these dimensions whose second moments are factored over two of them, the
/// second largest and the largest.
pub(crate) fn factored(dims: &[usize], (second, largest): (usize, usize)) -> Tensor {
    let (first, last) = (largest.min(second), largest.max(second));
    let product = |dims: &[usize]| dims.iter().product::<usize>();
    let [outer, middle, inner] = [
        product(&dims[..first]),
        product(&dims[first + 1..last]),
        product(&dims[last + 1..]),
    ];
    let (x, y) = (dims[first], dims[last]);
    let (segment, columns) = (y * inner, middle * y * inner);
    let elements = outer * x * columns;
    if elements == 0 {
        return Tensor::default();
    }
    let limit = TILE / x.min(ROWS);
    let (cut, span, width) = if segment <= limit {
        (Cut::WholeSegments, columns, multiple(segment, limit))
    } else if inner <= limit {
        (Cut::WithinSegment, segment, multiple(inner, limit))
    } else {
        (Cut::WithinInner, inner, multiple(1, limit))
    };
    let width = width.min(span);
    let rows = x.min(TILE / width);
    let (along, span_tiles) = (x.div_ceil(rows), span.div_ceil(width));
    let y_parts = match cut {
        Cut::WholeSegments => 1,
        Cut::WithinSegment => span_tiles,
        Cut::WithinInner => y,
    };
    let x_is_largest = first == largest;
    let without_x = [outer * middle, y, inner];
    let without_y = [outer, x, middle * inner];
    divided(Tensor {
        sides: [
            side(without_x, x, along, x_is_largest),
            side(without_y, y, y_parts, !x_is_largest),
        ],
        elements: elements as u32,
        x: x as u32,
        columns: columns as u32,
        middle: middle as u32,
        y: y as u32,
        inner: inner as u32,
        cut: cut as u32,
        span: span as u32,
        span_tiles: span_tiles as u32,
        tile_rows: rows as u32,
        tile_columns: width as u32,
        tiles: (outer * along * (columns / span) * span_tiles) as u32,
        ..Tensor::default()
    })
}

/// Returns lines of these dimensions. Rows are grouped by their second dimension.
fn side([outer, count, inner]: [usize; 3], per_line: usize, parts: usize, is_row: bool) -> Side {
    let lines = outer * count * inner;
    let (groups, group_lines, group_inner) = match is_row {
        true => (outer * inner, count, inner),
        false => (1, lines, 1),
    };
    let block_lines = LINE_THREADS / parts.next_power_of_two().min(LARGEST_SHARE);
    Side {
        lines: lines as u32,
        part_count: parts as u32,
        per_line: per_line as u32,
        is_row: is_row.into(),
        group_lines: group_lines as u32,
        group_inner: group_inner as u32,
        groups: groups as u32,
        block_lines: block_lines as u32,
        group_blocks: group_lines.div_ceil(block_lines) as u32,
        ..Side::default()
    }
}

fn divided(tensor: Tensor) -> Tensor {
    let tiles = tensor.tiles as usize;
    let unit_tiles = (tiles / ENOUGH_UNITS).clamp(1, UNIT_TILES);
    Tensor {
        unit_tiles: unit_tiles as u32,
        units: tiles.div_ceil(unit_tiles) as u32,
        ..tensor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tiles of any tensor have room for its elements, and few are much smaller than they may
    /// be.
    #[test]
    fn tiles_hold_the_tensor() {
        let shapes: [(&[usize], (usize, usize)); 9] = [
            (&[1, 1], (0, 1)),
            (&[784, 128], (1, 0)),
            (&[10, 100_000], (0, 1)),
            (&[100_000, 10], (1, 0)),
            (&[4096, 4096], (0, 1)),
            (&[512, 256, 3, 3], (1, 0)),
            (&[3, 3, 256, 512], (2, 3)),
            (&[64, 3, 7, 7], (3, 0)),
            (&[40, 40, 40, 40], (2, 3)),
        ];
        for (dims, order) in shapes {
            let tensor = factored(dims, order);
            let n: usize = dims.iter().product();
            let of_tile = (tensor.tile_rows * tensor.tile_columns) as usize;
            let tiles = tensor.tiles as usize;
            assert!(of_tile <= TILE, "{dims:?}: {tensor:?}");
            assert!(tiles * of_tile >= n, "{dims:?}: {tensor:?}");
            assert!(tiles < 3 * n.div_ceil(TILE) + 3, "{dims:?}: {tensor:?}");
            assert!(tensor.units * tensor.unit_tiles >= tensor.tiles);
        }
    }

    /// Partial sums are a small part of the tensor's memory.
    #[test]
    fn partial_sums_are_few() {
        for dims in [[4096, 4096], [50_000, 768], [768, 50_000]] {
            let order = if dims[0] > dims[1] { (1, 0) } else { (0, 1) };
            let tensor = factored(&dims, order);
            let parts: usize = tensor
                .sides
                .iter()
                .map(|side| (side.lines * side.part_count) as usize)
                .sum();
            assert!(parts * 10 < dims[0] * dims[1], "{dims:?}: {parts}");
        }
    }

    /// Long lines are shared by many threads, and short ones have a thread each.
    #[test]
    fn blocks_of_lines_fit_their_parts() {
        let tensor = factored(&[50_000, 768], (1, 0));
        let [without_x, without_y] = tensor.sides;
        assert_eq!((without_x.is_row, without_x.block_lines), (1, 8));
        assert_eq!((without_y.part_count, without_y.block_lines), (3, 128));
    }
}
