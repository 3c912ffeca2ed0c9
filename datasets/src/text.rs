//! English text for language models.

use crate::{Error, Result, gzip::unpack};

const PACKED: &[u8] = include_bytes!("../embedded/kjv/genesis-exodus.txt.gz");

/// The text is split into this many parts; the last is the test text.
const PARTS: usize = 10;

/// Plain English text, one verse per line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The first nine tenths.
    pub train: Vec<u8>,
    /// The last tenth.
    pub test: Vec<u8>,
}

/// The embedded text: Genesis and Exodus of the King James Version (1611, public domain), in
/// ASCII.
///
/// # Errors
/// Returns an error if the embedded bytes are corrupt.
pub fn text() -> Result<Text> {
    let mut train = unpack(PACKED).map_err(Error::BrokenText)?;
    let test = train.split_off(train.len() - train.len() / PARTS);
    Ok(Text { train, test })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sha256;

    const SHA256: &str = "3faae4bdcd163d415b11d75992ab625db87570a8fc93632209a0cae3244b7f2a";

    #[test]
    fn the_text_is_the_one_described_in_the_readme() {
        let Text { train, test } = text().unwrap();
        assert_eq!(sha256(&[&train[..], &test].concat()), SHA256);
        assert!(train.starts_with(b"In the beginning God created the heaven and the earth.\n"));
        assert!(
            train
                .iter()
                .chain(&test)
                .all(|&b| b == b'\n' || (32..127).contains(&b))
        );
        assert_eq!(test.len(), (train.len() + test.len()) / 10);
    }
}
