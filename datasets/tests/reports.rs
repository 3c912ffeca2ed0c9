//! What `verify` reports about complete, partial and damaged folders.

use std::{fs, path::Path};

use lopt_datasets::{
    DatasetName, Finding, ImageShape, Malformed, Report, Split, cifar, files, idx,
};

fn idx_files(n: usize) -> (Vec<u8>, Vec<u8>) {
    let shape = ImageShape {
        height: 28,
        width: 28,
        channels: 1,
    };
    let (pixels, labels) = (vec![0; n * shape.features()], vec![0; n]);
    let split = Split {
        shape,
        pixels,
        labels,
    };
    idx::write(&split).unwrap()
}

fn write_idx(data_dir: &Path, train: usize, test: usize) {
    let folder = data_dir.join("mnist");
    fs::create_dir_all(&folder).unwrap();
    let (train, test) = (idx_files(train), idx_files(test));
    let contents = [train.0, train.1, test.0, test.1];
    for (name, content) in files::IDX_FILES.iter().zip(contents) {
        fs::write(folder.join(name), content).unwrap();
    }
}

fn verify(data_dir: &Path) -> Report {
    lopt_datasets::verify(DatasetName::Mnist, data_dir).unwrap()
}

#[test]
fn an_empty_folder_is_sound_but_not_loadable() {
    let folder = tempfile::tempdir().unwrap();
    for dataset in DatasetName::ALL {
        let report = lopt_datasets::verify(dataset, folder.path()).unwrap();
        assert!(report.is_missing() && report.is_sound());
        assert!(!report.is_loadable() && !report.is_complete());
    }
}

#[test]
fn fewer_images_are_partial() {
    let folder = tempfile::tempdir().unwrap();
    write_idx(folder.path(), 20, 10);
    let report = verify(folder.path());
    let (rows, of) = (20, 60_000);
    assert_eq!(report.files[1].finding, Finding::Partial { rows, of });
    let path = report.files[1].path.as_ref().unwrap();
    assert!(path.ends_with("mnist/train-labels-idx1-ubyte"));
    assert!(report.is_sound() && report.is_loadable() && !report.is_complete());
}

#[test]
fn different_content_is_found_by_its_checksum() {
    let folder = tempfile::tempdir().unwrap();
    write_idx(folder.path(), 20, 10_000);
    let report = verify(folder.path());
    let Finding::Different { expected, found } = &report.files[3].finding else {
        panic!("{report:?}");
    };
    assert!(expected.starts_with("ff7bcfd4") && found.len() == 64);
    assert!(report.is_loadable() && !report.is_sound());
}

#[test]
fn damage_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    write_idx(folder.path(), 20, 10);
    fs::write(folder.path().join("mnist/t10k-labels-idx1-ubyte"), b"").unwrap();
    let report = verify(folder.path());
    assert_eq!(report.files[3].finding, Finding::Broken(Malformed::Empty));
    assert!(!report.is_sound() && !report.is_loadable());
}

#[test]
fn mismatched_files_are_not_sound() {
    let folder = tempfile::tempdir().unwrap();
    write_idx(folder.path(), 20, 10);
    let labels = folder.path().join("mnist/train-labels-idx1-ubyte");
    fs::write(&labels, idx_files(19).1).unwrap();
    assert!(!verify(folder.path()).is_sound());
    fs::remove_file(labels).unwrap();
    let report = verify(folder.path());
    assert_eq!(report.files[1].finding, Finding::Missing);
    assert!(!report.is_sound() && !report.is_missing());
}

#[test]
fn cifar_may_have_fewer_batches() {
    let folder = tempfile::tempdir().unwrap();
    let cifar = folder.path().join("cifar10");
    fs::create_dir_all(&cifar).unwrap();
    let verify = || lopt_datasets::verify(DatasetName::Cifar10, folder.path()).unwrap();
    fs::write(cifar.join("data_batch_3.bin"), vec![0; 10_000 * cifar::ROW]).unwrap();
    assert!(!verify().is_sound(), "there is no test batch");
    fs::write(cifar.join("test_batch.bin"), vec![1; 2 * cifar::ROW]).unwrap();
    let report = verify();
    assert_eq!(report.files[2].finding, Finding::WellFormed);
    let (rows, of) = (2, 10_000);
    assert_eq!(report.files[5].finding, Finding::Partial { rows, of });
    assert!(report.is_sound() && report.is_loadable() && !report.is_complete());
}
