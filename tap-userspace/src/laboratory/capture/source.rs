//! The file as a stream of records: what comes in is a reader, what goes out is one record at a time, whole.

use super::CaptureError;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Reads records and knows at which byte of the file each begins.
pub(super) struct Source<R> {
    reader: R,
    path: PathBuf,
    offset: u64,
    buffer: Vec<u8>,
}

impl<R: Read> Source<R> {
    pub(super) fn new(path: &Path, reader: R) -> Self {
        Self { reader, path: path.to_owned(), offset: 0, buffer: Vec::new() }
    }

    /// Leaves the current record and reads the first `bytes` of the next; false at the end of the file.
    pub(super) fn begin(&mut self, bytes: usize) -> Result<bool, CaptureError> {
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        self.fill(bytes)?;
        if self.buffer.is_empty() {
            return Ok(false);
        }
        self.require(bytes)?;
        Ok(true)
    }

    /// Reads on until the current record has `bytes` bytes. Memory grows with what is there, not with what is claimed.
    pub(super) fn extend(&mut self, bytes: usize) -> Result<(), CaptureError> {
        self.fill(bytes)?;
        self.require(bytes)
    }

    /// The bytes of the current record.
    pub(super) fn record(&self) -> &[u8] {
        &self.buffer
    }

    /// An error about the current record.
    pub(super) fn malformed(&self, what: &'static str) -> CaptureError {
        CaptureError::Malformed { path: self.path.clone(), offset: self.offset, what }
    }

    /// An error about the link type of the current record.
    pub(super) fn link_type(&self, number: u16) -> CaptureError {
        let name = super::link::name(number);
        CaptureError::LinkType { path: self.path.clone(), offset: self.offset, number, name }
    }

    /// The error for a file that does not begin like a capture.
    pub(super) fn not_a_capture(&self) -> CaptureError {
        CaptureError::NotACapture { path: self.path.clone() }
    }

    fn fill(&mut self, bytes: usize) -> Result<(), CaptureError> {
        let missing = bytes.saturating_sub(self.buffer.len()) as u64;
        let result = self.reader.by_ref().take(missing).read_to_end(&mut self.buffer);
        match result {
            Ok(_) => Ok(()),
            Err(source) => Err(CaptureError::Read { path: self.path.clone(), offset: self.offset, source }),
        }
    }

    fn require(&self, bytes: usize) -> Result<(), CaptureError> {
        let present = self.buffer.len();
        if present >= bytes {
            return Ok(());
        }
        Err(CaptureError::Torn { path: self.path.clone(), offset: self.offset, needed: bytes, present })
    }
}
