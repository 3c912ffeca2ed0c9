//! The binary version of CIFAR-10: rows of a label byte and three planes of 32×32.

use crate::{ImageShape, Split};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
/// Bytes of one image and its label.
pub const ROW: usize = 1 + 3 * PLANE;

/// An empty split of CIFAR's images.
pub fn empty() -> Split {
    Split {
        shape: ImageShape {
            height: SIDE,
            width: SIDE,
            channels: 3,
        },
        pixels: vec![],
        labels: vec![],
    }
}

/// Appends the rows of one file to `split`, colours last.
///
/// # Errors
/// If the file is empty, not a whole number of rows, or holds a label above 9.
pub fn append(bytes: &[u8], split: &mut Split) -> Result<(), String> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(ROW) {
        return Err(format!(
            "{} bytes are not a whole number of rows of {ROW} bytes",
            bytes.len()
        ));
    }
    for (index, row) in bytes.chunks_exact(ROW).enumerate() {
        let (label, planes) = (row[0], &row[1..]);
        if label > 9 {
            return Err(format!(
                "row {index} has the label {label}, but there are 10 classes"
            ));
        }
        split.labels.push(label);
        let pixels = (0..PLANE).flat_map(|at| (0..3).map(move |plane| planes[plane * PLANE + at]));
        split.pixels.extend(pixels);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_become_colours() {
        let mut row = vec![7u8];
        for plane in 0..3u8 {
            row.extend((0..PLANE).map(|at| (at % 50) as u8 + 100 * plane.min(2)));
        }
        let mut split = empty();
        append(&row, &mut split).unwrap();
        append(&row, &mut split).unwrap();
        assert_eq!(split.labels, [7, 7]);
        assert_eq!(split.pixels.len(), 2 * 3 * PLANE);
        assert_eq!(split.pixels[..6], [0, 100, 200, 1, 101, 201]);
    }

    #[test]
    fn damage_is_told() {
        let row = vec![1u8; ROW];
        let error = |bytes: &[u8]| append(bytes, &mut empty()).unwrap_err();
        assert!(error(&[]).contains("0 bytes"));
        assert!(error(&row[..ROW - 1]).contains("3072 bytes"));
        assert!(error(&vec![11u8; ROW]).contains("label 11"));
    }
}
