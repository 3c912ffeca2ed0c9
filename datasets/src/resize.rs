use crate::{Error, ImageShape, Result, Split};

/// Downscales images to size×size by area averaging and divides by 255. Returns numbers in
/// \[0, 1\] of shape \[n, size, size, channels\].
///
/// Each output pixel is the mean over the square it covers; input pixels partly inside count in
/// proportion. With `size` equal to the size of the images, pixels are only divided by 255.
///
/// # Errors
/// Returns an error if `size` is 0 or larger than the images, or the images are not square.
pub fn resize(split: &Split, size: usize) -> Result<Vec<f32>> {
    let shape = split.shape;
    let from = shape.height;
    if shape.width != from {
        return Err(Error::NotSquare(shape));
    }
    if size == 0 || size > from {
        return Err(Error::ImageSize { size, from });
    }
    if size == from {
        return Ok(split
            .pixels
            .iter()
            .map(|&pixel| f32::from(pixel) / 255.0)
            .collect());
    }
    let weights = weights(from, size);
    let mut out = Vec::with_capacity(split.len() * size * size * shape.channels);
    for image in split.pixels.chunks_exact(shape.features()) {
        reduce(image, shape, &weights, &mut out);
    }
    Ok(out)
}

/// For each output pixel along one side, the input pixels it covers and their weights.
type Weights = Vec<Vec<(usize, f64)>>;

/// Appends one downscaled image to `out`. The weights are separable: rows first, then columns.
fn reduce(image: &[u8], shape: ImageShape, weights: &Weights, out: &mut Vec<f32>) {
    let channels = shape.channels;
    let line_len = shape.width * channels;
    let mut line = vec![0f64; line_len];
    for of_row in weights {
        line.fill(0.0);
        for &(y, weight) in of_row {
            let pixels = &image[y * line_len..(y + 1) * line_len];
            for (sum, &pixel) in line.iter_mut().zip(pixels) {
                *sum += weight * f64::from(pixel);
            }
        }
        for of_column in weights {
            for channel in 0..channels {
                let part = |&(x, weight): &(usize, f64)| weight * line[x * channels + channel];
                out.push((of_column.iter().map(part).sum::<f64>() / 255.0) as f32);
            }
        }
    }
}

/// The [`Weights`] that reduce `from` pixels to `to`.
fn weights(from: usize, to: usize) -> Weights {
    let scale = from as f64 / to as f64;
    let covered = |index: usize| {
        let (start, end) = (index as f64 * scale, (index + 1) as f64 * scale);
        let share = move |pixel: usize| {
            let overlap = end.min((pixel + 1) as f64) - start.max(pixel as f64);
            (pixel, overlap / scale)
        };
        // Drops overlaps that are only rounding error.
        (0..from)
            .map(share)
            .filter(|(_, weight)| *weight > 1e-9)
            .collect()
    };
    (0..to).map(covered).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(side: usize, channels: usize, n: usize) -> Split {
        let count = n * side * side * channels;
        Split {
            shape: ImageShape {
                height: side,
                width: side,
                channels,
            },
            pixels: (0..count).map(|i| (i * 7919 % 251) as u8).collect(),
            labels: vec![0; n],
        }
    }

    #[test]
    fn the_mean_of_each_channel_is_preserved() {
        for (side, channels) in [(28, 1), (32, 3)] {
            let split = split(side, channels, 2);
            let mean = |values: &[f64], channel: usize| {
                let of_channel: Vec<f64> = values
                    .iter()
                    .skip(channel)
                    .step_by(channels)
                    .copied()
                    .collect();
                of_channel.iter().sum::<f64>() / of_channel.len() as f64
            };
            let own: Vec<f64> = split.pixels.iter().map(|&p| f64::from(p) / 255.0).collect();
            for size in 1..=side {
                let out: Vec<f64> = resize(&split, size)
                    .unwrap()
                    .into_iter()
                    .map(f64::from)
                    .collect();
                assert_eq!(out.len(), 2 * size * size * channels);
                for channel in 0..channels {
                    let error = (mean(&out, channel) - mean(&own, channel)).abs();
                    assert!(error < 1e-6, "{size} {channel}: {error}");
                }
            }
        }
    }

    #[test]
    fn halving_averages_blocks_of_four() {
        let split = split(28, 1, 1);
        let out = resize(&split, 14).unwrap();
        let pixel = |y: usize, x: usize| f32::from(split.pixels[y * 28 + x]);
        for (y, x) in (0..14).flat_map(|y| (0..14).map(move |x| (y, x))) {
            let pair = |y: usize| pixel(y, 2 * x) + pixel(y, 2 * x + 1);
            let expected = (pair(2 * y) + pair(2 * y + 1)) / 4.0 / 255.0;
            assert!((out[y * 14 + x] - expected).abs() < 1e-6, "{y} {x}");
        }
    }

    #[test]
    fn the_same_size_is_only_divided_by_255() {
        let split = split(28, 1, 2);
        let expected: Vec<f32> = split.pixels.iter().map(|&p| f32::from(p) / 255.0).collect();
        assert_eq!(resize(&split, 28).unwrap(), expected);
    }

    #[test]
    fn a_constant_image_stays_constant() {
        let mut split = split(32, 3, 1);
        split.pixels.fill(200);
        for size in 1..=32 {
            let out = resize(&split, size).unwrap();
            let error = |value: &f32| (value - 200.0 / 255.0).abs();
            assert!(out.iter().all(|value| error(value) < 1e-6), "{size}");
        }
    }

    /// 28 → 8: an output pixel covers 3.5 input pixels.
    #[test]
    fn partly_covered_pixels_are_weighted() {
        let mut split = split(28, 1, 1);
        split.pixels.fill(0);
        split.pixels[3] = 255; // row 0, half in output 0, half in output 1
        let out = resize(&split, 8).unwrap();
        let expected = 0.5 / 3.5 / 3.5;
        assert!((out[0] - expected).abs() < 1e-6 && (out[1] - expected).abs() < 1e-6);
        assert_eq!(out[2], 0.0);
    }

    #[test]
    fn invalid_sizes_are_rejected() {
        let split = split(28, 1, 1);
        for size in [0, 29] {
            let error = resize(&split, size).unwrap_err().to_string();
            assert!(error.contains(&format!("image size {size}")), "{error}");
        }
    }

    #[test]
    fn oblong_images_are_rejected() {
        let mut split = split(28, 1, 1);
        (split.shape.height, split.shape.width) = (56, 14);
        let error = resize(&split, 8).unwrap_err().to_string();
        assert!(error.contains("56×14×1 are not square"), "{error}");
    }
}
