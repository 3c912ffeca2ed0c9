//! Unpacking whole gzip files.

use std::io::{self, Read};

use flate2::bufread::GzDecoder;

use crate::Malformed;

/// The largest file of the data sets is CIFAR-10's archive of 185 MB.
const LIMIT: u64 = 1 << 30;

/// Unpacks gzip, whose own checksum finds flipped bits.
///
/// # Errors
/// If the bytes are no gzip, are cut short or damaged, unpack to more than a gigabyte, or
/// something follows them.
pub fn unpack(packed: &[u8]) -> Result<Vec<u8>, Malformed> {
    unpack_up_to(packed, LIMIT)
}

fn unpack_up_to(packed: &[u8], limit: u64) -> Result<Vec<u8>, Malformed> {
    if packed.is_empty() {
        return Err(Malformed::Empty);
    }
    if !packed.starts_with(&[0x1f, 0x8b]) {
        return Err(Malformed::NotGzip);
    }
    let mut rest = packed;
    let mut bytes = Vec::with_capacity(promised_len(packed));
    GzDecoder::new(&mut rest)
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Malformed::CutShort,
            _ => Malformed::Damaged(error.to_string()),
        })?;
    if bytes.len() as u64 > limit {
        return Err(Malformed::TooLarge(limit));
    }
    match rest.len() {
        0 => Ok(bytes),
        trailing => Err(Malformed::Trailing(trailing)),
    }
}

/// The length that the last four bytes tell, as far as it can be true.
fn promised_len(packed: &[u8]) -> usize {
    /// No stream unpacks to more than this many times its size.
    const RATIO: usize = 1032;
    let told = packed
        .last_chunk::<4>()
        .map_or(0, |b| u32::from_le_bytes(*b));
    (told as usize)
        .min(packed.len().saturating_mul(RATIO))
        .min(LIMIT as usize)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn pack(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(vec![], Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn round_trip() {
        let bytes: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        assert_eq!(unpack(&pack(&bytes)).unwrap(), bytes);
        assert_eq!(unpack(&pack(&[])).unwrap(), []);
    }

    #[test]
    fn every_cut_is_told() {
        let packed = pack(b"the quick brown fox");
        assert_eq!(unpack(&[]), Err(Malformed::Empty));
        assert_eq!(unpack(&packed[..1]), Err(Malformed::NotGzip));
        for length in 2..packed.len() {
            assert_eq!(
                unpack(&packed[..length]),
                Err(Malformed::CutShort),
                "{length}"
            );
        }
    }

    /// A flip in padding, or in a distance within a run of equal bytes, changes nothing.
    #[test]
    fn a_flipped_bit_never_changes_the_content() {
        let content: Vec<u8> = (0..1000u32).map(|i| (i * i % 251) as u8).collect();
        let packed = pack(&content);
        let mut told = 0;
        for bit in 0..8 * packed.len() {
            let mut flipped = packed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match unpack(&flipped) {
                Ok(unpacked) => assert_eq!(unpacked, content, "bit {bit}"),
                Err(_) => told += 1,
            }
        }
        assert!(told > 7 * packed.len(), "{told} of {}", 8 * packed.len());
    }

    #[test]
    fn more_than_one_stream_is_told() {
        let packed = pack(b"one");
        let two = [&packed[..], &packed[..]].concat();
        assert_eq!(unpack(&two), Err(Malformed::Trailing(packed.len())));
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let packed = pack(&[0; 100_000]);
        assert_eq!(unpack_up_to(&packed, 1000), Err(Malformed::TooLarge(1000)));
        assert_eq!(unpack_up_to(&packed, 100_000).unwrap().len(), 100_000);
    }
}
