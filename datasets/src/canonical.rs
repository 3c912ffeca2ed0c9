//! The published files: the number of images in each and, where known, the SHA-256 of its
//! unpacked content.

use crate::DatasetName;

/// SHA-256 of the unpacked files.
const SHA256: [(DatasetName, &str, &str); 10] = [
    (
        DatasetName::FashionMnist,
        "train-images-idx3-ubyte",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    (
        DatasetName::FashionMnist,
        "train-labels-idx1-ubyte",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    (
        DatasetName::FashionMnist,
        "t10k-images-idx3-ubyte",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    (
        DatasetName::FashionMnist,
        "t10k-labels-idx1-ubyte",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    (
        DatasetName::Mnist,
        "train-images-idx3-ubyte",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    (
        DatasetName::Mnist,
        "train-labels-idx1-ubyte",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    (
        DatasetName::Mnist,
        "t10k-images-idx3-ubyte",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    (
        DatasetName::Mnist,
        "t10k-labels-idx1-ubyte",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    (
        DatasetName::Cifar10,
        "data_batch_1.bin",
        "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    ),
    (
        DatasetName::Cifar10,
        "data_batch_2.bin",
        "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    ),
];

/// SHA-256 of the unpacked canonical file, if known.
pub(crate) fn sha256(dataset: DatasetName, name: &str) -> Option<&'static str> {
    let mut known = SHA256.into_iter();
    let found = known.find(|&(of, file, _)| of == dataset && file == name);
    found.map(|(_, _, sum)| sum)
}

/// Number of images or labels in a canonical file.
pub(crate) fn rows(name: &str) -> usize {
    if name.starts_with("train-") {
        60_000
    } else {
        10_000
    }
}
