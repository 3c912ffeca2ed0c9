//! Images and labels in memory.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::{DatasetName, Source, verify::hexadecimal};

/// The shape of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageShape {
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
    /// 1 for gray, 3 for color.
    pub channels: usize,
}

impl ImageShape {
    /// Values per image: height · width · channels.
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
    /// Shape of each image.
    pub shape: ImageShape,
    /// Pixels, \[n, height, width, channels\], row-major.
    pub pixels: Vec<u8>,
    /// Class of each image, \[n\].
    pub labels: Vec<u8>,
}

impl fmt::Debug for Split {
    /// Writes the number and shape of the images, not the pixels.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} images of {}", self.len(), self.shape)
    }
}

impl Split {
    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Returns `true` if there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The pixels of one image, \[height, width, channels\].
    ///
    /// # Panics
    /// Panics if `index` is not below [`Split::len`].
    pub fn image(&self, index: usize) -> &[u8] {
        let features = self.shape.features();
        &self.pixels[index * features..(index + 1) * features]
    }
}

/// A loaded data set.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Name of the data set.
    pub name: DatasetName,
    /// Where it was loaded from.
    pub source: Source,
    /// Number of classes.
    pub classes: usize,
    /// Training set.
    pub train: Split,
    /// Test set.
    pub test: Split,
}

impl Dataset {
    /// The SHA-256 of all pixels and labels, in hexadecimal digits.
    pub fn sha256(&self) -> String {
        let mut digest = Sha256::new();
        for split in [&self.train, &self.test] {
            for bytes in [&split.pixels, &split.labels] {
                digest.update((bytes.len() as u64).to_le_bytes());
                digest.update(bytes);
            }
        }
        hexadecimal(&digest.finalize())
    }
}
