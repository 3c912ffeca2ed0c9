use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use lopt_core::{Purpose, Streams};
use lopt_datasets::{DatasetName, Source, Text};
use lopt_kernels::{Isa, gather, gather_pixels};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, Split, target::Sums};

/// The seed of [`Images::with_label_noise`].
const LABEL_NOISE_SEED: u64 = 40;

/// A labeled image data set at one image size.
#[derive(Clone)]
pub struct Images {
    /// Elements per image: size·size·channels.
    pub features: usize,
    /// The number of classes.
    pub classes: usize,
    /// The factor on pixels in \[0, 1\].
    scale: f32,
    train: Labelled,
    test: Labelled,
}

#[derive(Clone)]
struct Labelled {
    pixels: Arc<Pixels>,
    /// \[n\]
    labels: Vec<u8>,
}

/// The pixels of images, \[n, features\].
pub enum Pixels {
    /// 0 to 255 for 0 to 1: at the original size, in a quarter of the memory.
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
        Ok(Self {
            pixels: Arc::new(pixels),
            labels: split.labels,
        })
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

    /// Writes the images `rows`, with pixels in \[0, scale\], to `to` \[rows, features\].
    ///
    /// # Panics
    /// Panics if a row is out of range.
    pub fn gather(&self, split: Split, rows: &[u32], to: &mut Vec<f32>) {
        to.resize(rows.len() * self.features, 0.0);
        match &*self.split(split).pixels {
            Pixels::Bytes(bytes) => gather_pixels(Isa::best(), bytes, self.features, rows, to),
            Pixels::Floats(floats) => gather(floats, self.features, rows, to),
        }
        if self.scale != 1.0 {
            to.iter_mut().for_each(|pixel| *pixel *= self.scale);
        }
    }

    /// The pixels of all images, before they are multiplied by [`Images::scale`].
    pub fn pixels(&self, split: Split) -> &Pixels {
        &self.split(split).pixels
    }

    /// The factor on pixels in \[0, 1\].
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// The same images with all pixels multiplied by `factor`.
    pub fn scaled(&self, factor: f32) -> Self {
        Self {
            scale: self.scale * factor,
            ..self.clone()
        }
    }

    /// The same images, where each training label is replaced with probability `share` by one that
    /// is uniform over the classes. The same share always gives the same labels.
    pub fn with_label_noise(&self, share: f32) -> Self {
        let mut rng = Streams::new(LABEL_NOISE_SEED).stream(Purpose::TaskSample, 0, 0, 0);
        let mut noisy = self.clone();
        for label in &mut noisy.train.labels {
            let (draw, other) = (
                rng.random::<f32>(),
                rng.random_range(0..self.classes as u32),
            );
            if draw < share {
                *label = other as u8;
            }
        }
        noisy
    }

    /// The mean square of the training pixels' deviations from each pixel's mean.
    pub(crate) fn variance(&self) -> f32 {
        let mut sums = Sums::new(self.features);
        let mut pixels = vec![];
        for row in 0..self.train.labels.len() as u32 {
            self.gather(Split::Train, &[row], &mut pixels);
            sums.add(&pixels);
        }
        sums.variance()
    }
}

/// Loads data sets, each at each size once, and shares them among tasks.
#[derive(Default)]
pub struct DataStore {
    data_dir: Option<PathBuf>,
    images: BTreeMap<(DatasetName, bool, usize), Arc<Images>>,
    text: Option<Arc<Text>>,
    /// Of the full data sets that were loaded.
    checksums: BTreeMap<DatasetName, String>,
}

/// The SHA-256 of full data sets, which come from the user's disk; see
/// [`Dataset::sha256`](lopt_datasets::Dataset::sha256).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataChecksums(BTreeMap<DatasetName, String>);

impl DataChecksums {
    /// Whether there are none: only embedded data were used.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds those of data sets that are not among these yet.
    ///
    /// # Errors
    /// Returns [`Error::OtherData`] with the first data set whose checksum differs.
    pub fn add(&mut self, others: &Self) -> Result<()> {
        for (&dataset, found) in &others.0 {
            let expected = self.0.entry(dataset).or_insert_with(|| found.clone());
            if expected != found {
                let start = |digits: &String| digits.chars().take(8).collect();
                let (expected, found) = (start(expected), start(found));
                return Err(Error::OtherData {
                    dataset,
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }
}

impl DataStore {
    /// A store that reads full data sets from `data_dir`, or by default from
    /// [`lopt_datasets::data_dir`].
    pub fn new(data_dir: Option<&Path>) -> Self {
        Self {
            data_dir: data_dir.map(Path::to_owned),
            ..Self::default()
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
        if source == Source::Full {
            let digits = || data.sha256();
            self.checksums.entry(dataset).or_insert_with(digits);
        }
        let images = Arc::new(Images {
            features: size * size * data.train.shape.channels,
            classes: data.classes,
            scale: 1.0,
            train: Labelled::new(data.train, size)?,
            test: Labelled::new(data.test, size)?,
        });
        self.images.insert(key, images.clone());
        Ok(images)
    }

    /// The checksums of the given full data sets, leaving out those that are not installed.
    ///
    /// # Errors
    /// Returns an error if data are damaged.
    pub fn checksums(
        &mut self,
        datasets: impl IntoIterator<Item = DatasetName>,
    ) -> Result<DataChecksums> {
        let mut checksums = DataChecksums::default();
        for dataset in datasets {
            if !self.checksums.contains_key(&dataset) {
                match lopt_datasets::load(dataset, Source::Full, self.data_dir.as_deref()) {
                    Err(error) if error.is_missing() => continue,
                    data => self.checksums.insert(dataset, data?.sha256()),
                };
            }
            checksums
                .0
                .insert(dataset, self.checksums[&dataset].clone());
        }
        Ok(checksums)
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
