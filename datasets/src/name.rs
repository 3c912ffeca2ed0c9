//! Names of the data sets and of their sources.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatasetName {
    /// Zalando's articles: 60,000 training and 10,000 test images, 28×28, gray, 10 classes.
    FashionMnist,
    /// Handwritten digits: 60,000 training and 10,000 test images, 28×28, gray, 10 classes.
    Mnist,
    /// Photographs: 50,000 training and 10,000 test images, 32×32, color, 10 classes.
    Cifar10,
}

impl DatasetName {
    /// All data sets.
    pub const ALL: [DatasetName; 3] = [
        DatasetName::FashionMnist,
        DatasetName::Mnist,
        DatasetName::Cifar10,
    ];

    /// The name in configurations and of the folder.
    pub fn name(self) -> &'static str {
        match self {
            DatasetName::FashionMnist => "fashion-mnist",
            DatasetName::Mnist => "mnist",
            DatasetName::Cifar10 => "cifar10",
        }
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DatasetName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|name| name.name() == text);
        found.ok_or_else(|| Error::UnknownName {
            kind: "data set",
            name: text.to_owned(),
            choices: Self::ALL.map(Self::name).join(", "),
        })
    }
}

/// Where a data set is loaded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The subset embedded in the binary.
    Embedded,
    /// The full data set, from a folder.
    Full,
}

impl Source {
    /// The name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Source::Embedded => "embedded",
            Source::Full => "full",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in DatasetName::ALL {
            assert_eq!(name.to_string().parse::<DatasetName>().unwrap(), name);
        }
    }

    #[test]
    fn unknown_names_list_the_choices() {
        let error = "imagenet".parse::<DatasetName>().unwrap_err().to_string();
        assert_eq!(
            error,
            "no data set is called `imagenet`; choose from: fashion-mnist, mnist, cifar10"
        );
    }
}
