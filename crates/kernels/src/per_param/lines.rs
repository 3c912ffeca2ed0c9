//! Traversal of a tensor in lines of contiguous elements.

use std::ops::Range;

use crate::parts::ranges;

/// A tensor's shape as the update sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Rank ≥ 2: factored over its two largest dimensions.
    Factored(Lines),
    /// Rank 0 and 1: the number of elements.
    Diagonal(usize),
}

/// A tensor of rank ≥ 2 as \[outer, x, middle, y, inner\], row-major, where x and y are the
/// two dimensions its second moment is factored over.
///
/// One factor has a value for each index without x, the other for each without y.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    outer: usize,
    x: usize,
    middle: usize,
    y: usize,
    inner: usize,
    /// Whether x is the largest dimension; row moments are then indexed without x.
    pub(super) x_is_largest: bool,
    /// The pairs (outer, x), as outer·[`Lines::x`] + x, that the lines belong to: all, or those of a part.
    first: usize,
    last: usize,
}

impl Shape {
    /// Creates the shape of a tensor with these dimensions. For rank ≥ 2, `factored` holds the
    /// indices of its second largest and largest dimension.
    pub fn new(dims: &[usize], factored: Option<(usize, usize)>) -> Self {
        let Some((d1, d0)) = factored else {
            return Shape::Diagonal(dims.iter().product());
        };
        let (x, y) = (d0.min(d1), d0.max(d1));
        let product = |dims: &[usize]| dims.iter().product();
        Shape::Factored(Lines {
            outer: product(&dims[..x]),
            x: dims[x],
            middle: product(&dims[x + 1..y]),
            y: dims[y],
            inner: product(&dims[y + 1..]),
            x_is_largest: x == d0,
            first: 0,
            last: product(&dims[..=x]),
        })
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        match self {
            Shape::Factored(lines) => lines.elements(),
            Shape::Diagonal(n) => *n,
        }
    }

    /// The number of row moments for each decay; 0 for rank < 2.
    pub fn rows(&self) -> usize {
        match self {
            Shape::Factored(lines) if lines.x_is_largest => lines.without_x(),
            Shape::Factored(lines) => lines.without_y(),
            Shape::Diagonal(_) => 0,
        }
    }

    /// The number of column moments for each decay; 0 for rank < 2.
    pub fn columns(&self) -> usize {
        match self {
            Shape::Factored(lines) if lines.x_is_largest => lines.without_y(),
            Shape::Factored(lines) => lines.without_x(),
            Shape::Diagonal(_) => 0,
        }
    }
}

/// A run of contiguous elements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// The index of its first element, from the start of the part.
    pub at: usize,
    /// The number of elements.
    pub len: usize,
    /// The index without x of its first element; it increases by 1 with each element.
    pub no_x: usize,
    /// The index without y of its first element; see [`Lines::no_y_is_fixed`].
    pub no_y: usize,
}

impl Lines {
    /// The number of elements, of the whole tensor or of the part.
    pub(super) fn elements(&self) -> usize {
        (self.last - self.first) * self.per_pair()
    }

    /// The number of elements of each pair (outer, x).
    fn per_pair(&self) -> usize {
        self.middle * self.y * self.inner
    }

    /// The parts of a large tensor. The elements of a part are contiguous, and count from its start.
    pub(super) fn parts(&self) -> Vec<Lines> {
        let part = |range: Range<usize>| Lines {
            first: range.start,
            last: range.end,
            ..self.clone()
        };
        ranges(self.outer * self.x).into_iter().map(part).collect()
    }

    /// The elements of the tensor that a part has.
    pub(super) fn range(&self) -> Range<usize> {
        self.first * self.per_pair()..self.last * self.per_pair()
    }

    pub(super) fn without_x(&self) -> usize {
        self.outer * self.middle * self.y * self.inner
    }

    pub(super) fn without_y(&self) -> usize {
        self.outer * self.x * self.middle * self.inner
    }

    /// Whether all elements of a line have the same index without y; otherwise it increases by 1
    /// with each element.
    #[inline(always)]
    pub(super) fn no_y_is_fixed(&self) -> bool {
        self.inner == 1
    }

    /// The shape of the row moments, \[outer, second largest dimension, inner\].
    pub(super) fn row_dims(&self) -> [usize; 3] {
        if self.x_is_largest {
            [self.outer * self.middle, self.y, self.inner]
        } else {
            [self.outer, self.x, self.middle * self.inner]
        }
    }

    /// The number of elements that each row moment averages.
    pub(super) fn per_row(&self) -> usize {
        self.x.max(self.y)
    }

    /// The number of elements that each column moment averages.
    pub(super) fn per_column(&self) -> usize {
        self.x.min(self.y)
    }

    #[inline(always)]
    pub(super) fn iter(&self) -> LineIter {
        LineIter {
            lines: self.clone(),
            outer: self.first / self.x.max(1),
            x: self.first % self.x.max(1),
            middle: 0,
            y: 0,
            at: 0,
            end: self.elements(),
        }
    }
}

/// Iterates over all lines in memory order.
pub(super) struct LineIter {
    lines: Lines,
    outer: usize,
    x: usize,
    middle: usize,
    y: usize,
    at: usize,
    end: usize,
}

impl Iterator for LineIter {
    type Item = Line;

    #[inline(always)]
    fn next(&mut self) -> Option<Line> {
        if self.at >= self.end {
            return None;
        }
        let Lines {
            x: xs,
            middle: middles,
            y: ys,
            inner,
            ..
        } = self.lines;
        let above = self.outer * middles + self.middle;
        let below = (self.outer * xs + self.x) * middles + self.middle;
        let (len, no_x, no_y);
        if inner == 1 {
            (len, no_x, no_y) = (ys, above * ys, below);
        } else {
            (len, no_x, no_y) = (inner, (above * ys + self.y) * inner, below * inner);
            self.y += 1;
        }
        if inner == 1 || self.y == ys {
            self.y = 0;
            self.middle += 1;
            if self.middle == middles {
                self.middle = 0;
                self.x += 1;
                if self.x == xs {
                    self.x = 0;
                    self.outer += 1;
                }
            }
        }
        let at = self.at;
        self.at += len;
        Some(Line {
            at,
            len,
            no_x,
            no_y,
        })
    }
}
