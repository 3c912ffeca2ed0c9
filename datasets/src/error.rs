use std::path::PathBuf;

use crate::{DatasetName, ImageShape, cifar};

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why data cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A full data set is not in its folder.
    #[error(
        "{dataset}: no {} (nor {file}.gz); run `cargo xtask data fetch {dataset}`, or name a \
         folder that holds {dataset}/{file}.gz by --data-dir or LOPT_DATA_DIR",
        folder.join(file).display()
    )]
    Missing {
        /// Which data set.
        dataset: DatasetName,
        /// Where it was looked for.
        folder: PathBuf,
        /// The first file that is missing.
        file: &'static str,
    },

    /// A data set that does not come with the program.
    #[error(
        "{0} does not come with the program: run `cargo xtask data fetch {0}` and ask for \
         source \"full\""
    )]
    NotEmbedded(DatasetName),

    /// A file is not what it should be.
    #[error(
        "{}: {problem}; take another copy: delete it and run `cargo xtask data fetch {dataset}`, \
         or name another folder by --data-dir or LOPT_DATA_DIR",
        path.display()
    )]
    Broken {
        /// Which data set.
        dataset: DatasetName,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: Malformed,
    },

    /// The text inside the program is not what it should be.
    #[error("the program's own text: {0}; build or install the program again")]
    BrokenText(Malformed),

    /// The system refused to read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },

    /// An image size that reduction cannot give.
    #[error(
        "image size {size}: images of {from}×{from} can be reduced to 1 to {from} pixels a side"
    )]
    ImageSize {
        /// As asked.
        size: usize,
        /// The images' own.
        from: usize,
    },

    /// Images that reduction does not take.
    #[error("images of {0} are not square, so they cannot be reduced to another size")]
    NotSquare(ImageShape),

    /// A word that names nothing.
    #[error("no {kind} is called `{name}`; choose from: {choices}")]
    UnknownName {
        /// What was to be named.
        kind: &'static str,
        /// As given.
        name: String,
        /// What there is.
        choices: String,
    },
}

impl Error {
    /// Whether the data are just not there, so that a suite may go on without them.
    pub fn is_missing(&self) -> bool {
        matches!(self, Error::Missing { .. } | Error::NotEmbedded(_))
    }
}

/// What is wrong with the content of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// No byte at all.
    #[error("the file is empty")]
    Empty,

    /// Something else under the name of a gzip file.
    #[error("not a gzip file, though its name ends in .gz")]
    NotGzip,

    /// The end of a gzip file is missing.
    #[error("the gzip file is cut short, as an interrupted copy or download is")]
    CutShort,

    /// Gzip's own checks failed.
    #[error("the gzip file is damaged ({0})")]
    Damaged(String),

    /// More than one gzip stream.
    #[error("{0} bytes follow the end of the gzip content")]
    Trailing(usize),

    /// Far more than any of the data sets.
    #[error("it unpacks to more than {0} bytes, so it is none of the data sets' files")]
    TooLarge(u64),

    /// A file that ends within its header.
    #[error("{0} bytes are less than an IDX header")]
    Header(usize),

    /// Another kind of file.
    #[error("not an IDX file of this kind: it starts with {found:#010x}, not {expected:#010x}")]
    Magic {
        /// The file's first four bytes.
        found: u32,
        /// What they should be.
        expected: u32,
    },

    /// A file shorter or longer than its header says.
    #[error("its header says {dims:?}, but {found} bytes follow it")]
    Length {
        /// The dimensions of the header.
        dims: Vec<usize>,
        /// Bytes after the header.
        found: usize,
    },

    /// A well-formed file of nothing.
    #[error("it holds no image: its header says {0:?}")]
    NoImage(Vec<usize>),

    /// Images and labels that do not belong together.
    #[error("{images} images, but the file of labels has {labels}")]
    Counts {
        /// How many images.
        images: usize,
        /// How many labels.
        labels: usize,
    },

    /// Training and test images of different sizes.
    #[error("its images are {found}, those of the training set {expected}")]
    Shape {
        /// This file's.
        found: ImageShape,
        /// The training set's.
        expected: ImageShape,
    },

    /// A label that no class has.
    #[error("row {row} has the label {label}, but there are {classes} classes")]
    Label {
        /// From 0.
        row: usize,
        /// As found.
        label: u8,
        /// How many there are.
        classes: usize,
    },

    /// A file of CIFAR-10 that ends within a row, or is none.
    #[error("{0} bytes are not a whole number of rows of {row} bytes", row = cifar::ROW)]
    Rows(usize),

    /// Images that the format cannot hold.
    #[error("{count} images of {shape} cannot be written as IDX")]
    NotIdx {
        /// How many.
        count: usize,
        /// Of each.
        shape: ImageShape,
    },
}
