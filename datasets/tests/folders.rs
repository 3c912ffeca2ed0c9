//! Loading from folders: raw and gzipped canonical files, and every way they can be wrong.

use std::{fs, io::Write, path::Path};

use flate2::{Compression, write::GzEncoder};
use lopt_datasets::{DatasetName, ImageShape, Source, Split, cifar, files, idx, load};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn split(n: usize) -> Split {
    Split {
        shape: ImageShape {
            height: 28,
            width: 28,
            channels: 1,
        },
        pixels: (0..n * 784).map(|i| (i % 256) as u8).collect(),
        labels: (0..n).map(|i| (i % 10) as u8).collect(),
    }
}

/// (images, labels)
fn idx_files(n: usize) -> (Vec<u8>, Vec<u8>) {
    idx::write(&split(n)).unwrap()
}

/// Writes a small MNIST, raw or gzipped.
fn write_mnist(data_dir: &Path, gzipped: bool) {
    let folder = data_dir.join("mnist");
    fs::create_dir_all(&folder).unwrap();
    let (train, test) = (idx_files(20), idx_files(10));
    for (name, bytes) in files::IDX_FILES
        .iter()
        .zip([train.0, train.1, test.0, test.1])
    {
        if gzipped {
            fs::write(folder.join(format!("{name}.gz")), gzip(&bytes)).unwrap();
        } else {
            fs::write(folder.join(name), bytes).unwrap();
        }
    }
}

fn error(dataset: DatasetName, data_dir: &Path) -> lopt_datasets::Error {
    load(dataset, Source::Full, Some(data_dir)).unwrap_err()
}

#[test]
fn raw_and_gzipped_files_load_the_same_data() {
    for gzipped in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        write_mnist(folder.path(), gzipped);
        let data = load(DatasetName::Mnist, Source::Full, Some(folder.path())).unwrap();
        assert_eq!((data.train, data.test), (split(20), split(10)));
    }
}

#[test]
fn cifar_loads_any_number_of_batches() {
    let folder = tempfile::tempdir().unwrap();
    let cifar = folder.path().join("cifar10");
    fs::create_dir_all(&cifar).unwrap();
    let row = |label: u8| [vec![label], vec![label; cifar::ROW - 1]].concat();
    assert!(error(DatasetName::Cifar10, folder.path()).is_missing());
    fs::write(
        cifar.join("data_batch_2.bin.gz"),
        gzip(&[row(1), row(2)].concat()),
    )
    .unwrap();
    let message = error(DatasetName::Cifar10, folder.path());
    assert!(
        message.is_missing() && message.to_string().contains("test_batch.bin"),
        "{message}"
    );
    fs::write(cifar.join("test_batch.bin"), row(3)).unwrap();
    fs::write(cifar.join("data_batch_5.bin"), row(4)).unwrap();
    let data = load(DatasetName::Cifar10, Source::Full, Some(folder.path())).unwrap();
    assert_eq!(
        (data.train.labels, data.test.labels),
        (vec![1, 2, 4], vec![3])
    );
    fs::write(cifar.join("data_batch_1.bin"), &row(4)[1..]).unwrap();
    let message = error(DatasetName::Cifar10, folder.path());
    assert!(
        !message.is_missing() && message.to_string().contains("data_batch_1.bin"),
        "{message}"
    );
}

#[test]
fn missing_files_say_how_to_get_them() {
    let folder = tempfile::tempdir().unwrap();
    write_mnist(folder.path(), true);
    fs::remove_file(folder.path().join("mnist/train-labels-idx1-ubyte.gz")).unwrap();
    let message = error(DatasetName::Mnist, folder.path());
    assert!(message.is_missing());
    for words in [
        "train-labels-idx1-ubyte",
        "data fetch mnist",
        "LOPT_DATA_DIR",
        "a folder that contains mnist/train-labels-idx1-ubyte.gz",
    ] {
        assert!(message.to_string().contains(words), "{message}");
    }
}

#[test]
fn damaged_files_are_not_reported_as_missing() {
    let good = gzip(&idx_files(20).0);
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 4;
    for (bytes, words) in [
        (good[..good.len() / 2].to_vec(), "truncated"),
        (flipped, "corrupt"),
        ([&good[..], b"tail"].concat(), "4 bytes follow"),
        (b"<html>404</html>".to_vec(), "not a gzip file"),
        (vec![], "the file is empty"),
        (gzip(b""), "the file is empty"),
        (gzip(b"IDX"), "3 bytes are too few for an IDX header"),
        (
            gzip(&idx_files(19).0),
            "19 images, but the file of labels has 20",
        ),
        (gzip(&idx_files(20).1), "not an IDX file of this kind"),
    ] {
        let name = "train-images-idx3-ubyte.gz";
        let text = broken_mnist(name, &bytes);
        assert!(text.contains(words), "{words}: {text}");
        assert!(text.contains("data fetch mnist"), "{text}");
    }
}

#[test]
fn errors_name_the_file_at_fault() {
    let labels = "t10k-labels-idx1-ubyte.gz";
    let mut wrong = idx_files(10).1;
    wrong[8 + 3] = 10;
    let text = broken_mnist(labels, &gzip(&wrong));
    assert!(text.contains("row 3 has the label 10"), "{text}");

    let (mut images, _) = idx_files(10);
    images[4..16].copy_from_slice(&[0, 0, 0, 10, 0, 0, 0, 14, 0, 0, 0, 56]);
    let text = broken_mnist("t10k-images-idx3-ubyte.gz", &gzip(&images));
    let words = "its images are 14×56×1, those of the training set 28×28×1";
    assert!(text.contains(words), "{text}");
}

/// The error from loading a small MNIST whose `file` is `bytes`; asserts that it names the file.
fn broken_mnist(file: &str, bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    write_mnist(folder.path(), true);
    fs::write(folder.path().join("mnist").join(file), bytes).unwrap();
    let error = error(DatasetName::Mnist, folder.path());
    assert!(!error.is_missing(), "{error}");
    let text = error.to_string();
    assert!(text.contains(file), "{text}");
    text
}

#[test]
fn an_unreadable_file_is_not_missing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mnist/train-images-idx3-ubyte");
    fs::create_dir_all(&file).unwrap();
    let error = error(DatasetName::Mnist, folder.path());
    assert!(!error.is_missing(), "{error}");
    assert!(error.to_string().contains("cannot read"), "{error}");
}
