//! Damages bytes the way that disks, copies and strangers do, and forges sealed files.

use lopt_core::{Purpose, Rng, Streams};
use rand::RngExt;
use serde_json::Value;

use crate::Sealed;

/// A stream of random damage.
pub struct Damage(Rng);

/// Positions below this are chosen as often as all others: headers are short.
const HEADER: usize = 64;

impl Damage {
    /// The damage with this seed.
    pub fn new(seed: u64) -> Self {
        Self(Streams::new(seed).stream(Purpose::Evaluation, 0, 0, 0))
    }

    fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n.max(1))
    }

    fn one_of<T: Copy, const N: usize>(&mut self, choices: [T; N]) -> T {
        choices[self.below(N)]
    }

    /// Returns `original` with one to three changes.
    pub fn bytes(&mut self, original: &[u8]) -> Vec<u8> {
        let mut bytes = original.to_vec();
        for _ in 0..=self.below(3) {
            self.change(&mut bytes);
        }
        bytes
    }

    /// A range of up to 16 bytes.
    fn range(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let within = self.one_of([HEADER, usize::MAX]).min(bytes.len());
        let start = self.below(within);
        start..(start + 1 + self.below(16)).min(bytes.len())
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let (range, other) = (self.range(bytes), self.range(bytes));
        let start = range.start;
        match self.below(9) {
            _ if bytes.is_empty() => {}
            0 | 1 => bytes[start] ^= 1 << self.below(8),
            2 => {
                let value = self.one_of([0, 0xff, b'9', b' ', b'[', b'{', b'"']);
                bytes[range].fill(value);
            }
            3 => drop(bytes.drain(range)),
            4 => {
                let value = self.below(256) as u8;
                let more = vec![value; 1 + self.below(16)];
                bytes.splice(start..start, more).for_each(drop);
            }
            5 => bytes.truncate(start),
            6 => {
                let copy = bytes[other].to_vec();
                bytes.splice(start..start, copy).for_each(drop);
            }
            7 => {
                let (mine, theirs) = (bytes[range.clone()].to_vec(), bytes[other.clone()].to_vec());
                let (first, second) = match range.start <= other.start {
                    true => ((range, theirs), (other, mine)),
                    false => ((other, mine), (range, theirs)),
                };
                if first.0.end <= second.0.start {
                    bytes.splice(second.0, second.1).for_each(drop);
                    bytes.splice(first.0, first.1).for_each(drop);
                }
            }
            _ => self.enlarge(bytes, start),
        }
    }

    /// Makes a length huge: the next decimal number, or what would be a binary one here.
    fn enlarge(&mut self, bytes: &mut Vec<u8>, start: usize) {
        let digit = bytes[start..].iter().position(u8::is_ascii_digit);
        if let Some(digit) = digit.filter(|_| self.below(2) == 0) {
            let start = start + digit;
            let number = bytes[start..].iter().take_while(|b| b.is_ascii_digit());
            let end = start + number.count();
            let huge = self.one_of([
                "-1",
                "65537",
                "4294967296",
                "9223372036854775807",
                "18446744073709551615",
                "1e400",
            ]);
            bytes.splice(start..end, huge.bytes()).for_each(drop);
            return;
        }
        let huge: u64 = self.one_of([u64::MAX, i64::MAX as u64, 1 << 40, u32::MAX.into(), 1 << 31]);
        let number = match self.below(4) {
            0 => huge.to_le_bytes().to_vec(),
            1 => huge.to_be_bytes().to_vec(),
            2 => (huge as u32).to_le_bytes().to_vec(),
            _ => (huge as u32).to_be_bytes().to_vec(),
        };
        for (byte, new) in bytes[start..].iter_mut().zip(number) {
            *byte = new;
        }
    }

    /// Returns a sealed file with other contents, and a checksum that matches them.
    pub fn forged(&mut self, original: &Sealed) -> Sealed {
        let mut forged = original.clone();
        for _ in 0..=self.below(2) {
            match self.below(3) {
                0 => {
                    let text = self.bytes(forged.description.as_bytes());
                    forged.description = String::from_utf8_lossy(&text).into_owned();
                }
                1 => {
                    if let Ok(mut value) = serde_json::from_str(&forged.description) {
                        self.json(&mut value);
                        forged.description = value.to_string();
                    }
                }
                _ => self.tensors(&mut forged),
            }
        }
        forged
    }

    /// Replaces, removes or repeats a value somewhere in `value`.
    fn json(&mut self, value: &mut Value) {
        let stop = self.below(4) == 0;
        match value {
            Value::Object(map) if !map.is_empty() && !stop => {
                let key = map.keys().nth(self.below(map.len())).cloned();
                let key = key.unwrap_or_default();
                if self.below(8) == 0 {
                    map.remove(&key);
                } else if let Some(inner) = map.get_mut(&key) {
                    self.json(inner);
                }
            }
            Value::Array(list) if !list.is_empty() && !stop => {
                let index = self.below(list.len());
                match self.below(8) {
                    0 => drop(list.remove(index)),
                    1 => list.insert(index, list[index].clone()),
                    _ => self.json(&mut list[index]),
                }
            }
            value => {
                let other = self.one_of([
                    "null",
                    "-1",
                    "0",
                    "1.5",
                    "9223372036854775807",
                    "18446744073709551615",
                    "1e308",
                    "true",
                    "\"\"",
                    "[]",
                    "{}",
                    "[65536, 65536, 65536]",
                    "[18446744073709551615]",
                ]);
                *value = serde_json::from_str(other).unwrap_or_default();
            }
        }
    }

    /// Changes a tensor: its values, type, shape or name, or whether it is there.
    fn tensors(&mut self, forged: &mut Sealed) {
        if forged.tensors.is_empty() {
            return;
        }
        let index = self.below(forged.tensors.len());
        let special = self.one_of([f32::NAN, f32::INFINITY, -1.0, 1e38, 0.0]);
        let other_type = self.one_of([safetensors::Dtype::F64, safetensors::Dtype::U8]);
        let tensor = &mut forged.tensors[index];
        match self.below(8) {
            0 => drop(forged.tensors.remove(index)),
            1 => tensor.name += "x",
            2 => tensor.shape.push(1),
            3 => {
                tensor.shape = vec![0];
                tensor.data.clear();
            }
            4 if tensor.data.len() >= 8 => {
                tensor.shape = vec![1];
                tensor.data.truncate(tensor.dtype.bitsize() / 8);
            }
            5 => {
                tensor.dtype = other_type;
                tensor.shape = vec![tensor.data.len() * 8 / other_type.bitsize()];
                let whole = tensor.shape[0] * other_type.bitsize() / 8;
                tensor.data.truncate(whole);
            }
            _ => {
                let values = tensor.data.chunks_exact_mut(tensor.dtype.bitsize() / 8);
                let count = values.len();
                let at = self.below(count);
                for value in values.skip(at).take(1 + self.below(count)) {
                    match value.len() {
                        8 => value.copy_from_slice(&f64::from(special).to_le_bytes()),
                        4 => value.copy_from_slice(&special.to_le_bytes()),
                        _ => value.fill(0xff),
                    }
                }
            }
        }
    }
}
