//! The subsets inside the program.

use std::path::PathBuf;

use crate::{CLASSES, DatasetName, Error, Result, Split, files::unpack, idx};

macro_rules! subset {
    ($name:literal) => {
        [
            include_bytes!(concat!(
                "../embedded/",
                $name,
                "/train-images-idx3-ubyte.gz"
            )) as &[u8],
            include_bytes!(concat!(
                "../embedded/",
                $name,
                "/train-labels-idx1-ubyte.gz"
            )),
            include_bytes!(concat!("../embedded/", $name, "/t10k-images-idx3-ubyte.gz")),
            include_bytes!(concat!("../embedded/", $name, "/t10k-labels-idx1-ubyte.gz")),
        ]
    };
}

/// (training, test).
pub(crate) fn load(dataset: DatasetName) -> Result<(Split, Split)> {
    let packed = match dataset {
        DatasetName::FashionMnist => subset!("fashion-mnist"),
        DatasetName::Mnist => subset!("mnist"),
        DatasetName::Cifar10 => return Err(Error::NotEmbedded(dataset.name())),
    };
    let broken = |problem| Error::Broken {
        path: PathBuf::from(format!("embedded {dataset}")),
        problem,
    };
    let mut unpacked = vec![];
    for file in packed {
        unpacked.push(unpack(file).map_err(broken)?);
    }
    let pair = |at: usize| idx::read(&unpacked[at], &unpacked[at + 1], CLASSES).map_err(broken);
    Ok((pair(0)?, pair(2)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsets_are_whole_and_balanced() {
        for (dataset, train, test) in [
            (DatasetName::FashionMnist, 10_000, 2_000),
            (DatasetName::Mnist, 8_000, 2_000),
        ] {
            let (of_train, of_test) = load(dataset).unwrap();
            assert_eq!((of_train.len(), of_test.len()), (train, test));
            for split in [of_train, of_test] {
                assert_eq!(split.pixels.len(), split.len() * 28 * 28);
                for class in 0..10 {
                    let count = split.labels.iter().filter(|&&label| label == class).count();
                    let share = count as f64 / split.len() as f64;
                    assert!(
                        (0.08..0.12).contains(&share),
                        "{dataset} class {class}: {share}"
                    );
                }
                // Not blank, not noise: a good part of the pixels is background.
                let dark = split.pixels.iter().filter(|&&pixel| pixel == 0).count();
                let share = dark as f64 / split.pixels.len() as f64;
                assert!((0.4..0.9).contains(&share), "{dataset}: {share}");
            }
        }
    }

    #[test]
    fn cifar_is_not_embedded() {
        let error = load(DatasetName::Cifar10).unwrap_err();
        assert!(
            error.is_missing() && error.to_string().contains("fetch cifar10"),
            "{error}"
        );
    }
}
