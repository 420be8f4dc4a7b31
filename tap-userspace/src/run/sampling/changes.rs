//! The record of the samples' changes: `sampling.jsonl` in the state directory, a JSON object a line.
//!
//! In: a change that is about to be made. Out: a line on disk. No seed is ever in it. Bounds: bytes of a file, files.

use crate::limits::{SAMPLING_CHANGES_BYTES_MAX, SAMPLING_CHANGES_FILES};
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const FILE_NAME: &str = "sampling.jsonl";

/// One change.
#[derive(Debug, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub(crate) enum Change<'a> {
    /// A measure's threshold: a flow is in the sample when its 32-bit hash is below it.
    Threshold {
        /// UTC.
        time: String,
        /// Measure.
        measure: &'a str,
        /// Before; nothing at a start.
        old: Option<u64>,
        /// From now on.
        new: u64,
        /// Why.
        reason: &'a str,
    },
    /// The flow hash of all measures has a new seed.
    Seed {
        /// UTC.
        time: String,
        /// Number of the program's generation that has it.
        generation: u64,
        /// Why.
        reason: &'a str,
    },
}

/// The file.
#[derive(Debug)]
pub(crate) struct ChangeLog {
    path: PathBuf,
    bytes_max: u64,
}

impl ChangeLog {
    /// In the state directory.
    pub(crate) fn new(directory: &Path) -> Self {
        Self { path: directory.join(FILE_NAME), bytes_max: SAMPLING_CHANGES_BYTES_MAX }
    }

    /// Writes a line; on disk when it returns. A full file becomes `sampling.jsonl.1`, the oldest goes.
    pub(crate) fn write(&mut self, change: &Change<'_>) -> io::Result<()> {
        let mut line = serde_json::to_vec(change)?;
        line.push(b'\n');
        let mut file = self.open()?;
        if file.metadata()?.len() + line.len() as u64 > self.bytes_max {
            for number in (1..SAMPLING_CHANGES_FILES).rev() {
                match std::fs::rename(self.numbered(number - 1), self.numbered(number)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            file = self.open()?;
        }
        file.write_all(&line)?;
        file.sync_data()
    }

    fn open(&self) -> io::Result<std::fs::File> {
        OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)
    }

    fn numbered(&self, number: usize) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_in_bounded_files() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = ChangeLog { bytes_max: 1_000, ..ChangeLog::new(directory.path()) };
        for new in 0..200 {
            let time = "2027-12-01T00:00:00Z".into();
            log.write(&Change::Threshold { time, measure: "m-1", old: Some(7), new, reason: "load" }).unwrap();
        }
        log.write(&Change::Seed { time: "2027-12-01T15:00:00Z".into(), generation: 3, reason: "time" }).unwrap();
        let files: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), SAMPLING_CHANGES_FILES);
        assert!(files.iter().all(|file| std::fs::metadata(file).unwrap().len() <= 1_000));
        let last = std::fs::read_to_string(directory.path().join(FILE_NAME)).unwrap();
        let lines: Vec<serde_json::Value> = last.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[lines.len() - 2]["new"], 199);
        assert_eq!(
            lines[lines.len() - 1],
            serde_json::json!({
                "change": "seed", "time": "2027-12-01T15:00:00Z", "generation": 3, "reason": "time",
            })
        );
    }
}
