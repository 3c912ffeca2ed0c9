//! The IDX format of MNIST: the big-endian magic number 0x00000800 + rank, one `u32` per
//! dimension, then the bytes.

use crate::{ImageShape, Malformed, Split};

const LABELS: u32 = 0x0801;
const IMAGES: u32 = 0x0803;

/// A view of a file of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Images<'a> {
    /// Number of images, at least one.
    pub count: usize,
    /// Shape of each image.
    pub shape: ImageShape,
    /// \[count, height, width\], row-major.
    pub pixels: &'a [u8],
}

/// Reads a file of images and the file of their labels.
///
/// # Errors
/// Returns the errors of [`images`], [`labels`] and [`join`].
pub fn read(images: &[u8], labels: &[u8], classes: usize) -> Result<Split, Malformed> {
    join(self::images(images)?, self::labels(labels, classes)?)
}

/// Reads a file of images.
///
/// # Errors
/// Returns an error if the magic number or the length is wrong, or there are no images.
pub fn images(bytes: &[u8]) -> Result<Images<'_>, Malformed> {
    let ([count, height, width], pixels) = read_array(bytes, IMAGES)?;
    let shape = ImageShape {
        height,
        width,
        channels: 1,
    };
    Ok(Images {
        count,
        shape,
        pixels,
    })
}

/// Reads a file of labels.
///
/// # Errors
/// Returns an error if the magic number or the length is wrong, there are no labels, or one is
/// not below `classes`.
pub fn labels(bytes: &[u8], classes: usize) -> Result<&[u8], Malformed> {
    let ([_], labels) = read_array(bytes, LABELS)?;
    let wrong = labels
        .iter()
        .position(|&label| usize::from(label) >= classes);
    match wrong {
        Some(row) => Err(Malformed::Label {
            row,
            label: labels[row],
            classes,
        }),
        None => Ok(labels),
    }
}

/// Copies images and labels into a split.
///
/// # Errors
/// Returns an error if their numbers differ.
pub fn join(images: Images<'_>, labels: &[u8]) -> Result<Split, Malformed> {
    if images.count != labels.len() {
        return Err(Malformed::Counts {
            images: images.count,
            labels: labels.len(),
        });
    }
    Ok(Split {
        shape: images.shape,
        pixels: images.pixels.to_vec(),
        labels: labels.to_vec(),
    })
}

/// The dimensions of a file, none of them 0, and its data.
fn read_array<const RANK: usize>(
    bytes: &[u8],
    magic: u32,
) -> Result<([usize; RANK], &[u8]), Malformed> {
    if bytes.is_empty() {
        return Err(Malformed::Empty);
    }
    let (header, data) = bytes
        .split_at_checked(4 * (RANK + 1))
        .ok_or(Malformed::Header(bytes.len()))?;
    let word = |at: usize| {
        let bytes = [0, 1, 2, 3].map(|byte| header[4 * at + byte]);
        u32::from_be_bytes(bytes)
    };
    if word(0) != magic {
        return Err(Malformed::Magic {
            found: word(0),
            expected: magic,
        });
    }
    let dims: [usize; RANK] = std::array::from_fn(|i| word(i + 1) as usize);
    let expected = dims
        .iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim));
    if expected != Some(data.len()) {
        return Err(Malformed::Length {
            dims: dims.to_vec(),
            found: data.len(),
        });
    }
    match data.len() {
        0 => Err(Malformed::NoImage(dims.to_vec())),
        _ => Ok((dims, data)),
    }
}

/// Writes a split as two files, (images, labels); the inverse of [`read`].
///
/// # Errors
/// Returns an error if the images are not gray or a dimension does not fit into a `u32`.
pub fn write(split: &Split) -> Result<(Vec<u8>, Vec<u8>), Malformed> {
    let refused = Malformed::NotIdx {
        count: split.len(),
        shape: split.shape,
    };
    let dims = [split.len(), split.shape.height, split.shape.width].map(u32::try_from);
    let ([Ok(count), Ok(height), Ok(width)], 1) = (dims, split.shape.channels) else {
        return Err(refused);
    };
    let file = |header: &[u32], data: &[u8]| {
        let header = header.iter().flat_map(|word| word.to_be_bytes());
        header.chain(data.iter().copied()).collect()
    };
    Ok((
        file(&[IMAGES, count, height, width], &split.pixels),
        file(&[LABELS, count], &split.labels),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split() -> Split {
        let shape = ImageShape {
            height: 2,
            width: 3,
            channels: 1,
        };
        Split {
            shape,
            pixels: (0..24).collect(),
            labels: vec![0, 9, 4, 1],
        }
    }

    #[test]
    fn round_trip() {
        let (images, labels) = write(&split()).unwrap();
        assert_eq!(images[..8], [0, 0, 8, 3, 0, 0, 0, 4]);
        assert_eq!(labels[..8], [0, 0, 8, 1, 0, 0, 0, 4]);
        assert_eq!(read(&images, &labels, 10).unwrap(), split());
        assert_eq!(split().image(1), [6, 7, 8, 9, 10, 11]);
    }

    #[test]
    fn every_truncation_is_reported() {
        let (whole_images, whole_labels) = write(&split()).unwrap();
        assert_eq!(images(&[]), Err(Malformed::Empty));
        for length in 1..whole_images.len() {
            let error = images(&whole_images[..length]).unwrap_err();
            assert_eq!(matches!(error, Malformed::Header(_)), length < 16);
        }
        for length in 1..whole_labels.len() {
            let error = labels(&whole_labels[..length], 10).unwrap_err();
            assert_eq!(matches!(error, Malformed::Header(_)), length < 8);
        }
    }

    #[test]
    fn trailing_bytes_are_reported() {
        let longer = [&write(&split()).unwrap().0[..], &[0]].concat();
        let dims = vec![4, 2, 3];
        assert_eq!(images(&longer), Err(Malformed::Length { dims, found: 25 }));
    }

    #[test]
    fn swapped_files_are_reported() {
        let (images, labels) = write(&split()).unwrap();
        let (found, expected) = (LABELS, IMAGES);
        let longer = [&labels[..], &[0; 8]].concat();
        let error = read(&longer, &images, 10).unwrap_err();
        assert_eq!(error, Malformed::Magic { found, expected });
    }

    /// The product of the dimensions overflows 64 bits.
    #[test]
    fn a_false_header_allocates_nothing() {
        let mut many = write(&split()).unwrap().0;
        many[4..16].fill(0xff);
        let message = images(&many).unwrap_err().to_string();
        assert!(message.contains("4294967295"), "{message}");
    }

    #[test]
    fn a_file_without_images_is_reported() {
        let mut none = write(&split()).unwrap().0;
        none.truncate(16);
        none[4..8].fill(0);
        assert_eq!(images(&none), Err(Malformed::NoImage(vec![0, 2, 3])));
    }

    #[test]
    fn labels_are_checked_against_classes_and_images() {
        let (images, mut labels) = write(&split()).unwrap();
        let nine = read(&images, &labels, 9).unwrap_err().to_string();
        assert!(nine.contains("row 1 has the label 9"), "{nine}");
        labels[7] = 3;
        labels.pop();
        let error = read(&images, &labels, 10).unwrap_err();
        let (images, labels) = (4, 3);
        assert_eq!(error, Malformed::Counts { images, labels });
    }

    #[test]
    fn colour_images_are_not_written() {
        let mut colours = split();
        colours.shape.channels = 3;
        let message = write(&colours).unwrap_err().to_string();
        assert!(message.contains("4 images of 2×3×3"), "{message}");
    }
}
