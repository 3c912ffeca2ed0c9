use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use lopt_datasets::{DatasetName, Source, Text};
use lopt_kernels::{Isa, gather, gather_pixels};

use crate::{Result, Split};

/// A data set at one image size, ready for batches.
pub struct Images {
    /// Numbers per image.
    pub features: usize,
    /// How many classes there are.
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
    /// As they are in the data set: a quarter of the memory.
    Bytes(Vec<u8>),
    /// Reduced, in \[0, 1\].
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

    /// The labels of all images.
    pub fn labels(&self, split: Split) -> &[u8] {
        &self.split(split).labels
    }

    /// Images in \[0, 1\]: `to` \[rows, features\].
    ///
    /// # Panics
    /// If there is no such row.
    pub fn gather(&self, split: Split, rows: &[u32], to: &mut Vec<f32>) {
        to.resize(rows.len() * self.features, 0.0);
        match &self.split(split).pixels {
            Pixels::Bytes(bytes) => gather_pixels(Isa::best(), bytes, self.features, rows, to),
            Pixels::Floats(floats) => gather(floats, self.features, rows, to),
        }
    }
}

/// Loads each data set at each size once.
#[derive(Default)]
pub struct DataStore {
    data_dir: Option<PathBuf>,
    images: BTreeMap<(DatasetName, bool, usize), Arc<Images>>,
    text: Option<Arc<Text>>,
}

impl DataStore {
    /// Full data sets come from `data_dir`, or from where [`lopt_datasets::data_dir`]
    /// says.
    pub fn new(data_dir: Option<&Path>) -> Self {
        Self {
            data_dir: data_dir.map(Path::to_owned),
            images: BTreeMap::new(),
            text: None,
        }
    }

    /// The data set at size×size pixels.
    ///
    /// # Errors
    /// If the data are missing or broken, or the size is not between 1 and the images'
    /// own.
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

    /// The text that comes with the program.
    ///
    /// # Errors
    /// If the program is damaged.
    pub fn text(&mut self) -> Result<Arc<Text>> {
        if let Some(text) = &self.text {
            return Ok(text.clone());
        }
        let text = Arc::new(lopt_datasets::text()?);
        self.text = Some(text.clone());
        Ok(text)
    }
}
