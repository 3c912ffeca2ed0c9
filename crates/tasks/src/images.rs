use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use lopt_datasets::{DatasetName, Source, Text};
use lopt_kernels::{Isa, gather, gather_pixels};

use crate::{Result, Split};

/// A labeled image data set at one image size.
pub struct Images {
    /// Elements per image: size·size·channels.
    pub features: usize,
    /// The number of classes.
    pub classes: usize,
    train: Labelled,
    test: Labelled,
}

struct Labelled {
    pixels: Pixels,
    /// \[n\]
    labels: Vec<u8>,
}

/// \[n, features\]
enum Pixels {
    /// At the original size, in a quarter of the memory.
    Bytes(Vec<u8>),
    /// Resized, in \[0, 1\].
    Floats(Vec<f32>),
}

impl Labelled {
    fn new(split: lopt_datasets::Split, size: usize) -> Result<Self> {
        let shape = split.shape;
        let pixels = if size == shape.height && size == shape.width {
            Pixels::Bytes(split.pixels)
        } else {
            Pixels::Floats(lopt_datasets::resize(&split, size)?)
        };
        let labels = split.labels;
        Ok(Self { pixels, labels })
    }
}

impl Images {
    fn split(&self, split: Split) -> &Labelled {
        match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }

    /// The labels \[n\] of all images.
    pub fn labels(&self, split: Split) -> &[u8] {
        &self.split(split).labels
    }

    /// Writes the images `rows`, with pixels in \[0, 1\], to `to` \[rows, features\].
    ///
    /// # Panics
    /// Panics if a row is out of range.
    pub fn gather(&self, split: Split, rows: &[u32], to: &mut Vec<f32>) {
        to.resize(rows.len() * self.features, 0.0);
        match &self.split(split).pixels {
            Pixels::Bytes(bytes) => gather_pixels(Isa::best(), bytes, self.features, rows, to),
            Pixels::Floats(floats) => gather(floats, self.features, rows, to),
        }
    }
}

/// Loads data sets, each at each size once, and shares them among tasks.
#[derive(Default)]
pub struct DataStore {
    data_dir: Option<PathBuf>,
    images: BTreeMap<(DatasetName, bool, usize), Arc<Images>>,
    text: Option<Arc<Text>>,
}

impl DataStore {
    /// A store that reads full data sets from `data_dir`, or by default from
    /// [`lopt_datasets::data_dir`].
    pub fn new(data_dir: Option<&Path>) -> Self {
        Self {
            data_dir: data_dir.map(Path::to_owned),
            images: BTreeMap::new(),
            text: None,
        }
    }

    /// The data set with images reduced to size×size pixels by area averaging.
    ///
    /// # Errors
    /// Returns an error if the data are missing or damaged, or if `size` is 0 or larger than the
    /// images.
    pub fn images(
        &mut self,
        dataset: DatasetName,
        source: Source,
        size: usize,
    ) -> Result<Arc<Images>> {
        let key = (dataset, source == Source::Full, size);
        if let Some(images) = self.images.get(&key) {
            return Ok(images.clone());
        }
        let data = lopt_datasets::load(dataset, source, self.data_dir.as_deref())?;
        let images = Arc::new(Images {
            features: size * size * data.train.shape.channels,
            classes: data.classes,
            train: Labelled::new(data.train, size)?,
            test: Labelled::new(data.test, size)?,
        });
        self.images.insert(key, images.clone());
        Ok(images)
    }

    /// The embedded text.
    ///
    /// # Errors
    /// Returns an error if the text's checksum is wrong.
    pub fn text(&mut self) -> Result<Arc<Text>> {
        if let Some(text) = &self.text {
            return Ok(text.clone());
        }
        let text = Arc::new(lopt_datasets::text()?);
        self.text = Some(text.clone());
        Ok(text)
    }
}
