use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use lopt_datasets::{DatasetName, Source};

use crate::Result;

/// A data set at one image size, ready for batches.
pub struct Images {
    /// Which.
    pub dataset: DatasetName,
    /// Numbers per image.
    pub features: usize,
    /// How many classes there are.
    pub classes: usize,
    /// \[n, features\], in \[0, 1\].
    pub train_pixels: Vec<f32>,
    /// \[n\]
    pub train_labels: Vec<u8>,
    /// \[n, features\], in \[0, 1\].
    pub test_pixels: Vec<f32>,
    /// \[n\]
    pub test_labels: Vec<u8>,
}

/// Loads each data set at each size once.
#[derive(Default)]
pub struct DataStore {
    data_dir: Option<PathBuf>,
    images: BTreeMap<(DatasetName, bool, usize), Arc<Images>>,
}

impl DataStore {
    /// Full data sets come from `data_dir`, or from where [`lopt_datasets::data_dir`]
    /// says.
    pub fn new(data_dir: Option<&Path>) -> Self {
        Self {
            data_dir: data_dir.map(Path::to_owned),
            images: BTreeMap::new(),
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
            dataset,
            features: size * size * data.train.shape.channels,
            classes: data.classes,
            train_pixels: lopt_datasets::resize(&data.train, size)?,
            train_labels: data.train.labels,
            test_pixels: lopt_datasets::resize(&data.test, size)?,
            test_labels: data.test.labels,
        });
        self.images.insert(key, images.clone());
        Ok(images)
    }
}
