//! Clips lines and polygons to a rectangle.

pub type Point = (f64, f64);

/// A rectangle in pixels; down is positive.
#[derive(Clone, Copy)]
pub struct Frame {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

impl Frame {
    pub fn width(&self) -> f64 {
        self.right - self.left
    }

    pub fn height(&self) -> f64 {
        self.bottom - self.top
    }

    pub fn center(&self) -> Point {
        (
            (self.left + self.right) / 2.0,
            (self.top + self.bottom) / 2.0,
        )
    }

    pub fn contains(&self, (x, y): Point) -> bool {
        self.half_planes()
            .iter()
            .all(|&((nx, ny), offset)| nx * x + ny * y >= offset - 1e-6)
    }

    /// Normals (inwards) and offsets of the sides.
    fn half_planes(&self) -> [(Point, f64); 4] {
        [
            ((1.0, 0.0), self.left),
            ((-1.0, 0.0), -self.right),
            ((0.0, 1.0), self.top),
            ((0.0, -1.0), -self.bottom),
        ]
    }

    /// The pieces of the line inside the rectangle.
    pub fn line(&self, points: &[Point]) -> Vec<Vec<Point>> {
        let mut pieces: Vec<Vec<Point>> = vec![];
        for pair in points.windows(2) {
            let Some((from, to)) = self.segment(pair[0], pair[1]) else {
                continue;
            };
            match pieces.last_mut() {
                Some(piece) if piece.last() == Some(&from) => piece.push(to),
                _ => pieces.push(vec![from, to]),
            }
        }
        pieces
    }

    /// The part of a segment inside the rectangle (Liang and Barsky's algorithm).
    fn segment(&self, from: Point, to: Point) -> Option<(Point, Point)> {
        let (mut start, mut end) = (0.0, 1.0);
        for ((nx, ny), offset) in self.half_planes() {
            let inside = nx * from.0 + ny * from.1 - offset;
            let slope = nx * (to.0 - from.0) + ny * (to.1 - from.1);
            if slope > 0.0 {
                start = f64::max(start, -inside / slope);
            } else if slope < 0.0 {
                end = f64::min(end, -inside / slope);
            } else if inside < 0.0 {
                return None;
            }
        }
        let at = |t: f64| match t {
            0.0 => from,
            1.0 => to,
            _ => between(from, to, t),
        };
        (start <= end).then(|| (at(start), at(end)))
    }

    /// The part of a polygon inside the rectangle (Sutherland and Hodgman's algorithm).
    pub fn polygon(&self, mut corners: Vec<Point>) -> Vec<Point> {
        for ((nx, ny), offset) in self.half_planes() {
            let inside = |(x, y): Point| nx * x + ny * y - offset;
            let mut kept = vec![];
            for (index, &from) in corners.iter().enumerate() {
                let to = corners[(index + 1) % corners.len()];
                let (here, there) = (inside(from), inside(to));
                if here >= 0.0 {
                    kept.push(from);
                }
                if (here >= 0.0) != (there >= 0.0) {
                    kept.push(between(from, to, here / (here - there)));
                }
            }
            corners = kept;
        }
        corners
    }
}

pub fn rectangle((left, top): Point, (right, bottom): Point) -> [Point; 4] {
    [(left, top), (right, top), (right, bottom), (left, bottom)]
}

fn between(from: Point, to: Point, t: f64) -> Point {
    (from.0 + t * (to.0 - from.0), from.1 + t * (to.1 - from.1))
}

/// The dashes of a line: pieces of length `dash`, separated by `gap`.
pub fn dashes(points: &[Point], dash: f64, gap: f64) -> Vec<Vec<Point>> {
    let mut pieces = vec![];
    let mut piece: Vec<Point> = points.first().copied().into_iter().collect();
    let (mut drawing, mut left) = (true, dash);
    for pair in points.windows(2) {
        let length = (pair[1].0 - pair[0].0).hypot(pair[1].1 - pair[0].1);
        let mut done = 0.0;
        while length - done > left {
            done += left;
            let end = between(pair[0], pair[1], done / length);
            if drawing {
                piece.push(end);
                pieces.push(std::mem::take(&mut piece));
            } else {
                piece = vec![end];
            }
            drawing = !drawing;
            left = if drawing { dash } else { gap };
        }
        left -= length - done;
        if drawing {
            piece.push(pair[1]);
        }
    }
    pieces.push(piece);
    pieces
}
