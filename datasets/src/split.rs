//! Images and labels in memory.

use std::fmt;

use crate::{DatasetName, Source};

/// The size of each image of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageShape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// 1 for grey, 3 for colour.
    pub channels: usize,
}

impl ImageShape {
    /// Numbers per image.
    pub fn features(self) -> usize {
        self.height * self.width * self.channels
    }
}

impl fmt::Display for ImageShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{}×{}", self.height, self.width, self.channels)
    }
}

/// Images and their labels.
#[derive(Clone, PartialEq, Eq)]
pub struct Split {
    /// Of each image.
    pub shape: ImageShape,
    /// \[n, height, width, channels\], row-major.
    pub pixels: Vec<u8>,
    /// \[n\]
    pub labels: Vec<u8>,
}

impl fmt::Debug for Split {
    /// Without the pixels.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} images of {}", self.len(), self.shape)
    }
}

impl Split {
    /// How many images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The pixels of one image, \[height, width, channels\].
    ///
    /// # Panics
    /// If `index` is not below [`Split::len`], as indexing a slice does.
    pub fn image(&self, index: usize) -> &[u8] {
        let features = self.shape.features();
        &self.pixels[index * features..(index + 1) * features]
    }
}

/// A data set.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Which.
    pub name: DatasetName,
    /// Which copy.
    pub source: Source,
    /// How many classes.
    pub classes: usize,
    /// To train on.
    pub train: Split,
    /// To test on.
    pub test: Split,
}
