//! The binary version of CIFAR-10. Each row is a label byte followed by the red, green and blue
//! planes of a 32×32 image.

use crate::{CLASSES, ImageShape, Malformed, Split};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
/// Size in bytes of one image and its label.
pub const ROW: usize = 1 + 3 * PLANE;

/// An empty split with the shape of CIFAR-10 images.
pub fn empty() -> Split {
    let shape = ImageShape {
        height: SIDE,
        width: SIDE,
        channels: 3,
    };
    Split {
        shape,
        pixels: vec![],
        labels: vec![],
    }
}

/// The number of rows in a file.
///
/// # Errors
/// Returns an error if the file is empty, is not a whole number of rows, or has a label above 9.
pub fn rows(bytes: &[u8]) -> Result<usize, Malformed> {
    if bytes.is_empty() {
        return Err(Malformed::Empty);
    }
    if !bytes.len().is_multiple_of(ROW) {
        return Err(Malformed::Rows(bytes.len()));
    }
    let mut labels = bytes.iter().copied().step_by(ROW).enumerate();
    match labels.find(|&(_, label)| usize::from(label) >= CLASSES) {
        Some((row, label)) => Err(Malformed::Label {
            row,
            label,
            classes: CLASSES,
        }),
        None => Ok(bytes.len() / ROW),
    }
}

/// Appends the rows of one file to `split`, with the color channel last.
///
/// # Errors
/// Returns the errors of [`rows`] and then leaves `split` unchanged.
pub fn append(bytes: &[u8], split: &mut Split) -> Result<(), Malformed> {
    split.pixels.reserve(3 * PLANE * rows(bytes)?);
    for row in bytes.chunks_exact(ROW) {
        let (red, rest) = row[1..].split_at(PLANE);
        let (green, blue) = rest.split_at(PLANE);
        for ((&red, &green), &blue) in red.iter().zip(green).zip(blue) {
            split.pixels.extend_from_slice(&[red, green, blue]);
        }
        split.labels.push(row[0]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(label: u8) -> Vec<u8> {
        let plane = |offset: u8| (0..PLANE).map(move |at| (at % 50) as u8 + offset);
        let mut row = vec![label];
        row.extend(plane(0).chain(plane(100)).chain(plane(200)));
        row
    }

    #[test]
    fn planes_become_channels() {
        let mut split = empty();
        append(&row(7), &mut split).unwrap();
        append(&[row(2), row(9)].concat(), &mut split).unwrap();
        assert_eq!(split.labels, [7, 2, 9]);
        assert_eq!(split.pixels.len(), 3 * 3 * PLANE);
        assert_eq!(split.image(2)[..6], [0, 100, 200, 1, 101, 201]);
        // Row 1, column 2 of an image.
        assert_eq!(split.image(1)[34 * 3..35 * 3], [34, 134, 234]);
    }

    #[test]
    fn damaged_input_is_reported_and_leaves_the_split_unchanged() {
        let mut split = empty();
        append(&row(1), &mut split).unwrap();
        let before = split.clone();
        let mut error = |bytes: &[u8]| append(bytes, &mut split).unwrap_err();
        assert_eq!(error(&[]), Malformed::Empty);
        assert_eq!(error(&row(1)[1..]), Malformed::Rows(ROW - 1));
        let wrong = Malformed::Label {
            row: 1,
            label: 10,
            classes: 10,
        };
        assert_eq!(error(&[row(1), row(10)].concat()), wrong);
        assert_eq!(split, before);
    }
}
