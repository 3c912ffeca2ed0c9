//! Unpacking whole gzip files.

use std::io::{self, Read};

use flate2::bufread::GzDecoder;

use crate::Malformed;

/// The largest file, the archive of CIFAR-10, unpacks to 185 MB.
const LIMIT: u64 = 1 << 30;

/// Unpacks a gzip file and verifies its checksum.
///
/// # Errors
/// Returns an error if the bytes are not gzip, are truncated or corrupt, unpack to more than
/// 1 GiB, or are followed by other bytes.
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

/// The unpacked length according to the last four bytes, limited to what is possible.
fn promised_len(packed: &[u8]) -> usize {
    /// Deflate's largest compression ratio.
    const RATIO: usize = 1032;
    let stored = packed
        .last_chunk::<4>()
        .map_or(0, |b| u32::from_le_bytes(*b));
    (stored as usize)
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
    fn every_truncation_is_reported() {
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

    /// A flipped bit in padding, or in a distance within a run of equal bytes, changes nothing.
    #[test]
    fn a_flipped_bit_never_changes_the_content() {
        let content: Vec<u8> = (0..1000u32).map(|i| (i * i % 251) as u8).collect();
        let packed = pack(&content);
        let mut reported = 0;
        for bit in 0..8 * packed.len() {
            let mut flipped = packed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match unpack(&flipped) {
                Ok(unpacked) => assert_eq!(unpacked, content, "bit {bit}"),
                Err(_) => reported += 1,
            }
        }
        let bits = 8 * packed.len();
        assert!(reported > 7 * packed.len(), "{reported} of {bits}");
    }

    #[test]
    fn a_second_stream_is_reported() {
        let packed = pack(b"one");
        let two = [&packed[..], &packed[..]].concat();
        assert_eq!(unpack(&two), Err(Malformed::Trailing(packed.len())));
    }

    #[test]
    fn a_decompression_bomb_is_not_unpacked() {
        let packed = pack(&[0; 100_000]);
        assert_eq!(unpack_up_to(&packed, 1000), Err(Malformed::TooLarge(1000)));
        assert_eq!(unpack_up_to(&packed, 100_000).unwrap().len(), 100_000);
    }
}
