//! The subsets embedded in the binary.

use std::path::PathBuf;

use crate::{CLASSES, DatasetName, Error, Malformed, Result, Split, gzip::unpack, idx};

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

/// Unpacks an embedded subset: (training, test).
pub(crate) fn load(dataset: DatasetName) -> Result<(Split, Split)> {
    let [train_images, train_labels, test_images, test_labels] = packed(dataset)?;
    let pair = |images, labels| -> Result<Split, Malformed> {
        idx::read(&unpack(images)?, &unpack(labels)?, CLASSES)
    };
    let broken = |problem| Error::Broken {
        dataset,
        path: PathBuf::from(format!("embedded {dataset}")),
        problem,
    };
    let train = pair(train_images, train_labels).map_err(broken)?;
    let test = pair(test_images, test_labels).map_err(broken)?;
    Ok((train, test))
}

/// The files, in the order of [`crate::files::IDX_FILES`].
fn packed(dataset: DatasetName) -> Result<[&'static [u8]; 4]> {
    match dataset {
        DatasetName::FashionMnist => Ok(subset!("fashion-mnist")),
        DatasetName::Mnist => Ok(subset!("mnist")),
        DatasetName::Cifar10 => Err(Error::NotEmbedded(dataset)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{files::IDX_FILES, sha256};

    /// SHA-256 of the unpacked files, in the order of `packed`.
    const SHA256: [(DatasetName, [&str; 4]); 2] = [
        (
            DatasetName::FashionMnist,
            [
                "ed2e37ed5a3a57d212141a69fe0a0de5a7126ffba14ac3f7e76f5f52cc04b1f0",
                "a69f2dad024ca220a8c4d85f621fdf929042d40c444abde2868903e9220ad517",
                "862035b0a96959b614c9574f4c2b0ae9584ca234813e8d6d7adb7838b12ca46b",
                "aa3f574d30afaf0d4d9da084a6f8541771e20693d6a97fae6e9a4953fca8f078",
            ],
        ),
        (
            DatasetName::Mnist,
            [
                "846c8aca6ea844ddfe649d5570ad874109d3c65202fc148112f7180da2f8b070",
                "e69745c3f417cbbc2c441244ed0364994ce39b5b3f0db4e03adbad0f7b9968a3",
                "f05e72784147e668d162cf0a56aed9c8500a13c829f366500c5bafdaca35462f",
                "dad93ffdcafb37e8b5e6be23e33c1248e8093419b7d60da6c1fef634904ae9fc",
            ],
        ),
    ];

    #[test]
    fn checksums_match_the_readme() {
        let readme = include_str!("../embedded/README.md");
        for (dataset, sums) in SHA256 {
            for ((file, sum), name) in packed(dataset).unwrap().iter().zip(sums).zip(IDX_FILES) {
                assert_eq!(sha256(&unpack(file).unwrap()), sum, "{dataset}/{name}");
                assert!(readme.contains(&format!("{sum}  {dataset}/{name}")));
            }
        }
    }

    #[test]
    fn subsets_are_complete_and_balanced() {
        for (dataset, counts) in [
            (DatasetName::FashionMnist, [10_000, 2_000]),
            (DatasetName::Mnist, [8_000, 2_000]),
        ] {
            let (train, test) = load(dataset).unwrap();
            for (split, count) in [train, test].iter().zip(counts) {
                assert_eq!(split.len(), count);
                assert_eq!(split.shape.to_string(), "28×28×1");
                assert_eq!(split.pixels.len(), count * 28 * 28);
                check_content(split);
            }
        }
    }

    /// Classes are balanced, also among the first images, and images are neither blank nor noise.
    fn check_content(split: &Split) {
        for labels in [&split.labels[..], &split.labels[..1000]] {
            for class in 0..10 {
                let count = labels.iter().filter(|&&label| label == class).count();
                let share = count as f64 / labels.len() as f64;
                assert!((0.08..0.12).contains(&share), "class {class}: {share}");
            }
        }
        let background = split.pixels.iter().filter(|&&pixel| pixel == 0).count();
        let share = background as f64 / split.pixels.len() as f64;
        assert!((0.4..0.9).contains(&share), "{share}");
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
