//! The metrics of a run as a TensorBoard event file: a TFRecord of `tensorflow.Event` messages.
//!
//! The file is written from `metrics.jsonl`, anew when a run is started or resumed, so that it has
//! each outer step once.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};
use crc::{CRC_32_ISCSI, Crc};
use lopt_core::file;
use lopt_experiments::curves::{self, read_added};
use prost::Message;
use serde_json::Value;

/// How often a run writes events.
const EVERY: Duration = Duration::from_secs(2);

/// The fields of `tensorflow.Event` that scalars need.
#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    /// In the first event of a file only.
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

/// `tensorflow.Summary.Value`. The value is optional, so that 0 is written too.
#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// The event file of a run.
pub struct EventFile {
    path: PathBuf,
    metrics: PathBuf,
    /// The bytes of the metrics that are written.
    position: u64,
    /// The time of the last event: the start of the run and the seconds that its steps took.
    wall_time: f64,
    file: File,
    written: Instant,
}

impl EventFile {
    /// The folder of the event file of a run.
    pub fn folder(run_dir: &Path) -> PathBuf {
        run_dir.join("tensorboard")
    }

    /// Writes the event file of a run with all its metrics so far.
    pub fn create(run_dir: &Path) -> Result<Self> {
        let started = fs::metadata(run_dir.join("run.json")).and_then(|of| of.modified());
        let started = started.unwrap_or(SystemTime::UNIX_EPOCH);
        let started = started.duration_since(SystemTime::UNIX_EPOCH);
        let mut wall_time = started.unwrap_or_default().as_secs_f64();
        let folder = Self::folder(run_dir);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        // TensorBoard knows event files by their names. There is one for a run, however often it is
        // resumed.
        let path = folder.join("events.out.tfevents.lopt");
        let first = Event {
            wall_time,
            file_version: Some("brain.Event:2".to_owned()),
            ..Event::default()
        };
        let mut records = record(&first);
        let (metrics, mut position) = (curves::path(run_dir), 0);
        records.extend(added(&metrics, &mut position, &mut wall_time)?);
        file::write_atomically(&path, &records)?;
        let file = File::options().append(true).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            path,
            metrics,
            position,
            wall_time,
            file,
            written: Instant::now(),
        })
    }

    /// Whether the last update is a while ago.
    pub fn is_due(&self) -> bool {
        self.written.elapsed() >= EVERY
    }

    /// Appends the events of the outer steps since the last update.
    pub fn update(&mut self) -> Result<()> {
        let records = added(&self.metrics, &mut self.position, &mut self.wall_time)?;
        let written = self.file.write_all(&records);
        written.with_context(|| format!("cannot write {}", self.path.display()))?;
        self.written = Instant::now();
        Ok(())
    }
}

/// The records of the metrics after `position`.
fn added(metrics: &Path, position: &mut u64, wall_time: &mut f64) -> Result<Vec<u8>> {
    let mut records = vec![];
    read_added(metrics, position, &mut |line| {
        let line: Value = serde_json::from_str(line)?;
        *wall_time += line["seconds"].as_f64().unwrap_or(0.0);
        let mut value = vec![];
        scalars("", &line, &mut value);
        records.extend(record(&Event {
            wall_time: *wall_time,
            step: line["outer_step"].as_i64().unwrap_or(0),
            file_version: None,
            summary: Some(Summary { value }),
        }));
        Ok(())
    })?;
    Ok(records)
}

/// All numbers but the step, by their keys. What was not finite is null, and left out.
fn scalars(tag: &str, value: &Value, found: &mut Vec<Scalar>) {
    match value {
        Value::Number(number) if tag != "outer_step" => found.push(Scalar {
            tag: tag.to_owned(),
            simple_value: number.as_f64().map(|value| value as f32),
        }),
        Value::Object(entries) => {
            for (key, value) in entries {
                let slash = if tag.is_empty() { "" } else { "/" };
                scalars(&format!("{tag}{slash}{key}"), value, found);
            }
        }
        _ => {}
    }
}

/// A TFRecord: the length and its checksum, the message and its checksum.
fn record(event: &Event) -> Vec<u8> {
    let message = event.encode_to_vec();
    let length = (message.len() as u64).to_le_bytes();
    [
        &length[..],
        &checksum(&length),
        &message,
        &checksum(&message),
    ]
    .concat()
}

/// The masked CRC-32C of TFRecords.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
    let crc = CRC.checksum(bytes);
    crc.rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_masked_checksums() {
        // The CRC-32C of "123456789" is e3069283.
        let masked = 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(checksum(b"123456789"), masked.to_le_bytes());
    }

    #[test]
    fn all_numbers_are_scalars() {
        let line = r#"{"outer_step":3,"loss":0.5,"bad":null,"held_out":{"mean":0.0}}"#;
        let mut found = vec![];
        scalars("", &serde_json::from_str(line).unwrap(), &mut found);
        let found: Vec<_> = found.iter().map(|s| (&*s.tag, s.simple_value)).collect();
        assert_eq!(found, [("held_out/mean", Some(0.0)), ("loss", Some(0.5))]);
    }
}
