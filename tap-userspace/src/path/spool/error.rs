//! What can go wrong with the spool, and what the operator does about it.

use std::{io, path::PathBuf};

/// An error of the spool. No message content, no key.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// There is no room: the newest message is refused, those before it stay.
    #[error(
        "spool is full: {bytes} of {bytes_max} bytes; the receiving facility has not acknowledged them (check the export \
         connection, or raise spool.bytes_max)"
    )]
    Full {
        /// Bytes that the spool's files take.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The message is longer than any segment may hold.
    #[error("message of {bytes} bytes is over the {bytes_max} that a spool entry may have")]
    TooLarge {
        /// Bytes of the message.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// An acknowledgement of something that was never in the spool.
    #[error("acknowledged through {acknowledged}, but the spool has only given numbers below {next}")]
    NotAppended {
        /// What was acknowledged.
        acknowledged: u64,
        /// The next sequence.
        next: u64,
    },
    /// An entry does not authenticate any more, or its bytes are gone.
    #[error("{}: message {sequence} is damaged or missing; it cannot be delivered", file.display())]
    Damaged {
        /// Its sequence.
        sequence: u64,
        /// The segment it belongs to.
        file: PathBuf,
    },
    /// The newest segment's header does not authenticate: which numbers were given away is not known.
    #[error(
        "{}: the header does not authenticate, so the next sequence is not known; move the spool directory away \
         and start again with an empty one",
        file.display()
    )]
    Header {
        /// The segment.
        file: PathBuf,
    },
    /// The identity file is not openable by this key.
    #[error(
        "{}: not made with this spool key (or damaged); give the key that made it, or move the directory away",
        file.display()
    )]
    Key {
        /// The identity file.
        file: PathBuf,
    },
    /// Segments without an identity.
    #[error(
        "{}: missing beside segments; restore it from the same spool, or move the directory away",
        file.display()
    )]
    Identity {
        /// The identity file.
        file: PathBuf,
    },
    /// Another process has it open.
    #[error("{}: spool is in use by another process; stop it first", dir.display())]
    Busy {
        /// The spool's directory.
        dir: PathBuf,
    },
    /// A limit makes no sense.
    #[error("spool.{key} = {value}: {reason}")]
    Limits {
        /// Name of the limit.
        key: &'static str,
        /// What was given.
        value: u64,
        /// What it must be.
        reason: String,
    },
    /// A key file's content is not a key.
    #[error("{}: not a spool key: {reason}; make one with `gwtap keygen spool`", file.display())]
    KeyFile {
        /// The file.
        file: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// The operating system refused.
    #[error("{}: cannot {action}: {reason}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not; part of the sentence, therefore not a source, which `{:#}` would show again.
        reason: io::Error,
    },
    /// The system has no random numbers.
    #[error("no random numbers from the system: {0}")]
    Randomness(getrandom::Error),
    /// The cipher refused an input; a bounded message never meets this.
    #[error("the cipher refused a message of {bytes} bytes")]
    Cipher {
        /// Bytes of the message.
        bytes: usize,
    },
    /// A write to stable storage failed before; what the kernel dropped then is unknown, so nothing is claimed any more.
    #[error("{}: an earlier sync failed; check the disk and restart gwtap, which reads the spool anew", dir.display())]
    SyncFailed {
        /// The spool's directory.
        dir: PathBuf,
    },
}

impl SpoolError {
    /// Whether the disk has no room (or the quota none).
    pub(super) fn is_disk_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { reason, .. } if matches!(reason.kind(), StorageFull | QuotaExceeded))
    }

    /// For `map_err`: an [`SpoolError::Io`] with its place.
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |reason| Self::Io { action, path, reason }
    }
}
