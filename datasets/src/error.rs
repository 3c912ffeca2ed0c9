use std::path::PathBuf;

use crate::{DatasetName, ImageShape, cifar};

/// [`std::result::Result`] with [`Error`] as the default error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a data set could not be loaded: what failed, in which file, and how to fix it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of a full data set does not exist.
    #[error(
        "{dataset}: neither {} nor {file}.gz exists; get the data set from its publisher (in the \
         source tree of lopt, `cargo xtask data fetch {dataset}` does so) and set LOPT_DATA_DIR to a \
         folder that contains {dataset}/{file}.gz",
        folder.join(file).display()
    )]
    Missing {
        /// The data set.
        dataset: DatasetName,
        /// The folder that was searched.
        folder: PathBuf,
        /// The first file that is missing.
        file: &'static str,
    },

    /// The data set has no embedded subset.
    #[error(
        "{0} is not embedded: set its source to \"full\" (in the source tree of lopt, `cargo xtask data \
         fetch {0}` gets it)"
    )]
    NotEmbedded(DatasetName),

    /// A file of the data set is malformed.
    #[error(
        "{}: {problem}; replace the file (in the source tree of lopt, delete it and run `cargo xtask \
         data fetch {dataset}`), or set LOPT_DATA_DIR to another folder",
        path.display()
    )]
    Broken {
        /// The data set.
        dataset: DatasetName,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: Malformed,
    },

    /// The embedded text is malformed.
    #[error("the embedded text is malformed: {0}; build or install the program again")]
    BrokenText(Malformed),

    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },

    /// The requested image size is zero or larger than the images.
    #[error("image size {size}: choose 1 to {from}, the size of the {from}×{from} images")]
    ImageSize {
        /// The requested size.
        size: usize,
        /// The size of the images.
        from: usize,
    },

    /// The images are not square and cannot be resized.
    #[error("images of {0} are not square: only square images can be resized")]
    NotSquare(ImageShape),

    /// No data set has this name.
    #[error("no {kind} is called `{name}`; choose from: {choices}")]
    UnknownName {
        /// What the name refers to.
        kind: &'static str,
        /// The name.
        name: String,
        /// The known names.
        choices: String,
    },
}

impl Error {
    /// Returns `true` if the data set is only absent, so that a suite can continue without it.
    pub fn is_missing(&self) -> bool {
        matches!(self, Error::Missing { .. } | Error::NotEmbedded(_))
    }
}

/// What is wrong with the contents of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,

    /// The file does not start with the gzip magic number.
    #[error("not a gzip file, although its name ends in .gz")]
    NotGzip,

    /// The gzip stream ends too early.
    #[error("the gzip file is truncated, perhaps by an interrupted copy or download")]
    CutShort,

    /// The gzip stream or its checksum is invalid.
    #[error("the gzip file is corrupt ({0})")]
    Damaged(String),

    /// Bytes follow the gzip stream.
    #[error("{0} bytes follow the end of the gzip stream")]
    Trailing(usize),

    /// The content is larger than any file of the data sets.
    #[error("it unpacks to more than {0} bytes, more than any file of the data sets")]
    TooLarge(u64),

    /// The file ends within its header.
    #[error("{0} bytes are too few for an IDX header")]
    Header(usize),

    /// The file starts with another magic number.
    #[error("not an IDX file of this kind: it starts with {found:#010x}, not {expected:#010x}")]
    Magic {
        /// The file's first four bytes.
        found: u32,
        /// The expected magic number.
        expected: u32,
    },

    /// The file is shorter or longer than its header says.
    #[error("its header says {dims:?}, but {found} bytes follow it")]
    Length {
        /// The dimensions in the header.
        dims: Vec<usize>,
        /// The number of bytes after the header.
        found: usize,
    },

    /// The file is well-formed, but one of its dimensions is 0.
    #[error("it contains no images: its header says {0:?}")]
    NoImage(Vec<usize>),

    /// The numbers of images and labels differ.
    #[error("{images} images, but the file of labels has {labels}")]
    Counts {
        /// Number of images.
        images: usize,
        /// Number of labels.
        labels: usize,
    },

    /// Training and test images have different shapes.
    #[error("its images are {found}, those of the training set {expected}")]
    Shape {
        /// Shape of the test images.
        found: ImageShape,
        /// Shape of the training images.
        expected: ImageShape,
    },

    /// A label is not below the number of classes.
    #[error("row {row} has the label {label}, but there are {classes} classes")]
    Label {
        /// Index of the row, from 0.
        row: usize,
        /// The label.
        label: u8,
        /// Number of classes.
        classes: usize,
    },

    /// A CIFAR-10 file is not a whole number of rows.
    #[error("{0} bytes are not a whole number of rows of {row} bytes", row = cifar::ROW)]
    Rows(usize),

    /// The images cannot be written as IDX.
    #[error("{count} images of {shape} cannot be written as IDX, which takes only gray images")]
    NotIdx {
        /// Number of images.
        count: usize,
        /// Shape of each image.
        shape: ImageShape,
    },
}
