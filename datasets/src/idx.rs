//! The IDX format of MNIST: big-endian magic 0x00000800 + rank, one u32 per dimension,
//! then bytes.

use crate::{ImageShape, Split};

const LABELS: u32 = 0x0801;
const IMAGES: u32 = 0x0803;

/// Reads images and labels that belong together; errors say which of them is wrong.
///
/// # Errors
/// If a magic number, a length or a label is wrong, or the counts differ.
pub fn read(images: &[u8], labels: &[u8], classes: usize) -> Result<Split, String> {
    let (dims, pixels) = read_array(images, IMAGES).map_err(|e| format!("images: {e}"))?;
    let (counts, labels) = read_array(labels, LABELS).map_err(|e| format!("labels: {e}"))?;
    let (&[n, height, width], &[m]) = (dims.as_slice(), counts.as_slice()) else {
        return Err("not the expected number of dimensions".to_owned());
    };
    if n != m {
        return Err(format!("{n} images but {m} labels"));
    }
    if height == 0 || width == 0 {
        return Err(format!("images of {height}×{width} pixels"));
    }
    check_classes(labels, classes)?;
    Ok(Split {
        shape: ImageShape {
            height,
            width,
            channels: 1,
        },
        pixels: pixels.to_vec(),
        labels: labels.to_vec(),
    })
}

fn check_classes(labels: &[u8], classes: usize) -> Result<(), String> {
    match labels.iter().find(|&&label| usize::from(label) >= classes) {
        Some(label) => Err(format!("label {label}, but there are {classes} classes")),
        None => Ok(()),
    }
}

/// Whether a file of labels is well-formed.
///
/// # Errors
/// What is wrong with it.
pub fn check_labels(bytes: &[u8], classes: usize) -> Result<(), String> {
    check_classes(read_array(bytes, LABELS)?.1, classes)
}

/// Whether a file of images is well-formed.
///
/// # Errors
/// What is wrong with it.
pub fn check_images(bytes: &[u8]) -> Result<(), String> {
    read_array(bytes, IMAGES).map(|_| ())
}

/// Dimensions and bytes of one file.
fn read_array(bytes: &[u8], magic: u32) -> Result<(Vec<usize>, &[u8]), String> {
    let word = |index: usize| {
        let word = bytes.get(4 * index..4 * index + 4)?;
        word.try_into().ok().map(u32::from_be_bytes)
    };
    let found = word(0).ok_or("shorter than an IDX header")?;
    if found != magic {
        return Err(format!(
            "no IDX file of this kind: it starts with {found:#010x}, not {magic:#010x}"
        ));
    }
    let rank = (magic & 0xff) as usize;
    let dims: Option<Vec<usize>> = (1..=rank).map(|i| word(i).map(|w| w as usize)).collect();
    let dims = dims.ok_or("shorter than its IDX header")?;
    let data = &bytes[4 * (rank + 1)..];
    let expected = dims
        .iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim));
    if expected != Some(data.len()) {
        return Err(format!(
            "its header says {dims:?}, but {} bytes follow",
            data.len()
        ));
    }
    Ok((dims, data))
}

/// The files that [`read`] reads: (images, labels).
pub fn write(split: &Split) -> (Vec<u8>, Vec<u8>) {
    let word = |n: usize| (n as u32).to_be_bytes();
    let mut images = IMAGES.to_be_bytes().to_vec();
    for dim in [split.len(), split.shape.height, split.shape.width] {
        images.extend(word(dim));
    }
    images.extend(&split.pixels);
    let mut labels = LABELS.to_be_bytes().to_vec();
    labels.extend(word(split.len()));
    labels.extend(&split.labels);
    (images, labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split() -> Split {
        Split {
            shape: ImageShape {
                height: 2,
                width: 3,
                channels: 1,
            },
            pixels: (0..24).collect(),
            labels: vec![0, 9, 4, 1],
        }
    }

    #[test]
    fn round_trip() {
        let (images, labels) = write(&split());
        assert_eq!(read(&images, &labels, 10).unwrap(), split());
    }

    #[test]
    fn damage_is_told() {
        let (images, labels) = write(&split());
        let error = |images: &[u8], labels: &[u8]| read(images, labels, 10).unwrap_err();
        for length in 0..images.len() {
            error(&images[..length], &labels);
        }
        for length in 0..labels.len() {
            error(&images, &labels[..length]);
        }
        let longer = [&images[..], &[0]].concat();
        assert!(error(&longer, &labels).contains("25 bytes"));
        assert!(error(&labels, &images).contains("0x00000803"));
        let mut many = images.clone();
        many[4..16].fill(0xff);
        assert!(error(&many, &labels).contains("4294967295"));
        let mut bad_label = labels.clone();
        bad_label[8] = 10;
        assert!(error(&images, &bad_label).contains("label 10"));
        let mut fewer = Split {
            labels: vec![1, 2],
            ..split()
        };
        fewer.pixels.truncate(12);
        assert!(error(&images, &write(&fewer).1).contains("4 images but 2 labels"));
    }
}
