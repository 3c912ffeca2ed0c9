//! The data of tasks whose networks are not plain MLPs on images.

use std::{fmt, sync::Arc};

use candle_core::{Device, Tensor};
use lopt_datasets::{DatasetName, Source, Text};
use serde::{Deserialize, Serialize};

use crate::{
    Batch, DataStore, Error, Images, Result, Split,
    error::at_most_largest,
    models::{Image, Input, Tokens},
    table::Table,
    target::Target,
};

/// Each byte is a token.
const BYTES: usize = 256;
/// Windows of the test text that [`Data::test_rows`] has.
const TEST_WINDOWS: usize = 200;

/// The data of a [`ModelTask`](crate::ModelTask).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "kind")]
pub enum DataConfig {
    /// Images to classify.
    Images {
        /// The data set.
        dataset: DatasetName,
        /// The embedded subset or the full set.
        source: Source,
        /// Images are reduced to size×size by area averaging.
        #[serde(alias = "image-size")]
        image_size: usize,
    },
    /// Images to reconstruct, with the mean squared error per pixel as the loss.
    Autoencoding {
        /// The data set.
        dataset: DatasetName,
        /// The embedded subset or the full set.
        source: Source,
        /// Images are reduced to size×size by area averaging.
        #[serde(alias = "image-size")]
        image_size: usize,
    },
    /// The text [`lopt_datasets::text()`], of which each byte is predicted from those before it.
    Text {
        /// Bytes of each window.
        length: usize,
    },
    /// The same text with a vocabulary of only the 62 characters that occur in it.
    Characters {
        /// Characters of each window.
        length: usize,
    },
    /// Synthetic rows of 16 normal features, whose standard deviations lie between 0.1 and 10, and
    /// the noisy output of a random network for each: 4,096 rows to train on and 1,024 to test on.
    Tabular {
        /// The seed of the network and of the rows.
        seed: u64,
        /// Number of classes, if rows are to be classified. Otherwise the target is a real number,
        /// with the squared error as the loss.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        classes: Option<usize>,
    },
}

/// The name in a few words: `mnist-8px` or `text of 32 bytes`.
impl fmt::Display for DataConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Images {
                dataset,
                image_size,
                ..
            } => write!(f, "{dataset}-{image_size}px"),
            Self::Autoencoding {
                dataset,
                image_size,
                ..
            } => write!(f, "autoencoding of {dataset}-{image_size}px"),
            Self::Text { length } => write!(f, "text of {length} bytes"),
            Self::Characters { length } => write!(f, "text of {length} characters"),
            Self::Tabular {
                seed,
                classes: None,
            } => write!(f, "regression table {seed}"),
            Self::Tabular {
                seed,
                classes: Some(classes),
            } => write!(f, "table {seed} of {classes} classes"),
        }
    }
}

/// The data of a [`DataConfig`].
pub(crate) enum Data {
    Images {
        images: Arc<Images>,
        side: usize,
    },
    Autoencoding {
        images: Arc<Images>,
        side: usize,
        variance: f32,
    },
    Text {
        text: Arc<Text>,
        tokens: Tokens,
    },
    Tabular(Table),
}

impl DataConfig {
    /// Loads or makes the data.
    pub(crate) fn load(&self, store: &mut DataStore) -> Result<Data> {
        match *self {
            Self::Images {
                dataset,
                source,
                image_size: side,
            } => {
                let images = store.images(dataset, source, side)?;
                Ok(Data::Images { images, side })
            }
            Self::Autoencoding {
                dataset,
                source,
                image_size: side,
            } => {
                let images = store.images(dataset, source, side)?;
                let variance = images.variance();
                Ok(Data::Autoencoding {
                    images,
                    side,
                    variance,
                })
            }
            Self::Text { length } => Data::text(store.text()?, BYTES, length),
            Self::Characters { length } => {
                let (text, vocabulary) = numbered(&*store.text()?);
                Data::text(Arc::new(text), vocabulary, length)
            }
            Self::Tabular { seed, classes } => {
                if let Some(classes @ 0..=1) = classes {
                    let problem = format!("`classes` is {classes}; it must be at least 2");
                    return Err(Error::Config(problem));
                }
                at_most_largest("classes", classes.unwrap_or_default())?;
                Ok(Data::Tabular(Table::new(seed, classes)))
            }
        }
    }

    /// The name of the data, and the unit of [`Data::examples`].
    pub(crate) fn name_and_unit(&self) -> (String, &'static str) {
        match self {
            Self::Images { dataset, .. } | Self::Autoencoding { dataset, .. } => {
                (dataset.to_string(), "images")
            }
            Self::Text { .. } | Self::Characters { .. } => ("text".to_owned(), "bytes"),
            Self::Tabular { .. } => ("table".to_owned(), "rows"),
        }
    }

    /// The data set, if the full one is read from the user's disk.
    pub(crate) fn full_dataset(&self) -> Option<DatasetName> {
        match *self {
            Self::Images {
                dataset, source, ..
            }
            | Self::Autoencoding {
                dataset, source, ..
            } => (source == Source::Full).then_some(dataset),
            Self::Text { .. } | Self::Characters { .. } | Self::Tabular { .. } => None,
        }
    }

    /// The data set and the image size, if the data are images.
    pub(crate) fn images(&self) -> Option<(DatasetName, usize)> {
        match *self {
            Self::Images {
                dataset,
                image_size,
                ..
            }
            | Self::Autoencoding {
                dataset,
                image_size,
                ..
            } => Some((dataset, image_size)),
            Self::Text { .. } | Self::Characters { .. } | Self::Tabular { .. } => None,
        }
    }
}

/// The text with its distinct bytes numbered from 0 in their order, and their number.
fn numbered(text: &Text) -> (Text, usize) {
    let mut occurs = [false; BYTES];
    for &byte in text.train.iter().chain(&text.test) {
        occurs[usize::from(byte)] = true;
    }
    let mut numbers = [0u8; BYTES];
    let mut vocabulary = 0;
    for byte in (0..BYTES).filter(|&byte| occurs[byte]) {
        numbers[byte] = vocabulary as u8;
        vocabulary += 1;
    }
    let number = |bytes: &[u8]| bytes.iter().map(|&b| numbers[usize::from(b)]).collect();
    let text = Text {
        train: number(&text.train),
        test: number(&text.test),
    };
    (text, vocabulary)
}

impl Data {
    fn text(text: Arc<Text>, vocabulary: usize, length: usize) -> Result<Self> {
        if length == 0 || length >= text.test.len() {
            return Err(Error::Config(format!(
                "`length` is {length}; windows of this text have 1 to {} bytes",
                text.test.len() - 1
            )));
        }
        let tokens = Tokens { vocabulary, length };
        Ok(Self::Text { text, tokens })
    }

    /// What a network reads.
    pub fn input(&self) -> Input {
        match *self {
            Self::Images { ref images, side }
            | Self::Autoencoding {
                ref images, side, ..
            } => {
                let channels = images.features / (side * side);
                Input::Image(Image { side, channels })
            }
            Self::Text { tokens, .. } => Input::Tokens(tokens),
            Self::Tabular(ref table) => Input::Features(table.features()),
        }
    }

    /// What a network predicts.
    pub fn target(&self) -> Target {
        match self {
            Self::Images { images, .. } => Target::Class(images.classes),
            Self::Autoencoding {
                images, variance, ..
            } => Target::Values {
                count: images.features,
                variance: *variance,
            },
            Self::Text { tokens, .. } => Target::Class(tokens.vocabulary),
            Self::Tabular(table) => table.target,
        }
    }

    /// The number of images, bytes of text or rows of a table.
    pub fn examples(&self, split: Split) -> usize {
        match self {
            Self::Images { images, .. } | Self::Autoencoding { images, .. } => {
                images.labels(split).len()
            }
            Self::Text { text, .. } => text_of(text, split).len(),
            Self::Tabular(table) => table.len(split),
        }
    }

    /// The number of rows that a batch is drawn from: examples, or windows of text.
    pub fn rows(&self, split: Split) -> u32 {
        let examples = self.examples(split);
        let n = match self {
            Self::Text { tokens, .. } => examples - tokens.length,
            _ => examples,
        };
        n as u32
    }

    /// All test rows, or 200 evenly spaced windows of the test text.
    pub fn test_rows(&self) -> Vec<u32> {
        let n = self.rows(Split::Test);
        match self {
            Self::Text { .. } => {
                let windows = (n as usize).min(TEST_WINDOWS);
                (0..windows)
                    .map(|i| (i * n as usize / windows) as u32)
                    .collect()
            }
            _ => (0..n).collect(),
        }
    }

    /// The inputs of these rows, and the targets of all predictions.
    pub fn batch(&self, split: Split, rows: &[u32], device: &Device) -> lopt_core::Result<Batch> {
        let matrix = |values: Vec<f32>| {
            let columns = values.len() / rows.len();
            Tensor::from_vec(values, (rows.len(), columns), &Device::Cpu)
        };
        let pixels = |images: &Images| {
            let mut pixels = vec![];
            images.gather(split, rows, &mut pixels);
            matrix(pixels)
        };
        let (inputs, targets) = match self {
            Self::Images { images, .. } => {
                let all = images.labels(split);
                let labels: Vec<u32> = rows.iter().map(|&row| all[row as usize].into()).collect();
                (pixels(images)?, Tensor::new(labels, &Device::Cpu)?)
            }
            Self::Autoencoding { images, .. } => {
                let pixels = pixels(images)?;
                (pixels.clone(), pixels)
            }
            Self::Text { text, tokens } => {
                let length = tokens.length;
                let bytes = text_of(text, split);
                let windows = |shift: usize| -> Vec<u32> {
                    let window = |&row: &u32| {
                        let start = row as usize + shift;
                        bytes[start..start + length].iter().map(|&b| u32::from(b))
                    };
                    rows.iter().flat_map(window).collect()
                };
                let inputs = Tensor::from_vec(windows(0), (rows.len(), length), &Device::Cpu)?;
                (inputs, Tensor::new(windows(1), &Device::Cpu)?)
            }
            Self::Tabular(table) => {
                let outputs = matrix(table.outputs(split, rows))?;
                let targets = match table.target {
                    Target::Class(_) => outputs.argmax(1)?,
                    Target::Values { .. } => outputs,
                };
                (matrix(table.inputs(split, rows))?, targets)
            }
        };
        Ok(vec![inputs.to_device(device)?, targets.to_device(device)?])
    }
}

fn text_of(text: &Text, split: Split) -> &[u8] {
    match split {
        Split::Train => &text.train,
        Split::Test => &text.test,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_numbered_in_order() {
        let text = Text {
            train: b"bad cab".to_vec(),
            test: b"ace".to_vec(),
        };
        let (numbers, vocabulary) = numbered(&text);
        // " abcde"
        assert_eq!(vocabulary, 6);
        assert_eq!(numbers.train, [2, 1, 4, 0, 3, 1, 2]);
        assert_eq!(numbers.test, [1, 3, 5]);
    }

    /// Windows of characters are windows of the text, and labels are the characters that follow.
    #[test]
    fn texts_differ_only_in_the_numbers_of_their_tokens() {
        let mut store = DataStore::default();
        let mut batch = |config: DataConfig| -> [Vec<u32>; 2] {
            let data = config.load(&mut store).unwrap();
            let batch = data.batch(Split::Train, &[5, 900], &Device::Cpu).unwrap();
            [0, 1].map(|i| batch[i].flatten_all().unwrap().to_vec1().unwrap())
        };
        let bytes = batch(DataConfig::Text { length: 40 });
        let numbers = batch(DataConfig::Characters { length: 40 });
        for (bytes, numbers) in bytes.iter().zip(&numbers) {
            assert!(numbers.iter().all(|&number| number < 62));
            for (i, j) in (0..80).flat_map(|i| (0..i).map(move |j| (i, j))) {
                assert_eq!(bytes[i].cmp(&bytes[j]), numbers[i].cmp(&numbers[j]));
            }
        }
        assert_eq!(bytes[0][1..40], bytes[1][..39]);
    }

    #[test]
    fn autoencoders_reconstruct_their_inputs() {
        let config = DataConfig::Autoencoding {
            dataset: DatasetName::Mnist,
            source: Source::Embedded,
            image_size: 8,
        };
        let data = config.load(&mut DataStore::default()).unwrap();
        let batch = data.batch(Split::Test, &[3, 1], &Device::Cpu).unwrap();
        let values = |i: usize| batch[i].to_vec2::<f32>().unwrap();
        assert_eq!(values(0), values(1));
        let Target::Values {
            count: 64,
            variance,
        } = data.target()
        else {
            panic!("{:?}", data.target());
        };
        // Of digits in [0, 1], mostly black.
        assert!((0.02..0.12).contains(&variance), "{variance}");
    }
}
