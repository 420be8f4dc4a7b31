//! The store: one file a message, at `HOST/SPOOL/SEQUENCE.ipfix`; messages of other exporters at
//! `peers/FINGERPRINT/SESSION/NUMBER.ipfix`.
//!
//! In: files' contents by sequence. Out: through which sequence everything is durable. A file has its name only when its
//! octets are on stable storage, and counts only when its name is, too; a message that is there already is not written
//! again. What is stored is read off the directory, so that a receiving facility that was killed at any moment goes on
//! rightly. The calls block on the disk.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Directory of what other exporters sent.
pub const PEERS: &str = "peers";
/// Ending of stored files.
pub const EXTENSION: &str = "ipfix";

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system.
    #[error("store: cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("store.directory {}: another `gwtap receive` writes here; stop it or choose another directory", .0.display())]
    Locked(PathBuf),
}

impl StoreError {
    fn io(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path: path.clone(), source }
    }
}

/// A message as it is stored.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    /// Its number in its directory.
    pub sequence: u64,
    /// The file's octets.
    pub contents: Vec<u8>,
    /// Packet records in it.
    pub records: u64,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Every message through this one is durable, or was never owed.
    pub through: Option<u64>,
    /// Messages written.
    pub messages: u64,
    /// Packet records in them.
    pub records: u64,
    /// Octets written.
    pub bytes: u64,
    /// Messages that were there already.
    pub repeated: u64,
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    places: Mutex<HashMap<PathBuf, Arc<Place>>>,
    /// Holds the lock for as long as the store is open.
    _lock: File,
}

/// One directory of the store: a spool's, or a session's.
#[derive(Debug)]
pub struct Place {
    directory: PathBuf,
    /// The first sequence that is not durable; unknown until the first batch.
    next: Mutex<Option<u64>>,
}

impl Store {
    /// Opens the store in `root`, or makes it there.
    ///
    /// # Errors
    /// The file system, or another process that writes there.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        make_directory(root)?;
        let path = root.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(StoreError::io("open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { root: root.to_owned(), places: Mutex::default(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked(root.to_owned())),
            Err(TryLockError::Error(source)) => Err(StoreError::Io { action: "lock", path, source }),
        }
    }

    /// Where messages of `spool` of `host` go.
    pub fn spool(&self, host: &[u8; 32], spool: &[u8; 16]) -> Arc<Place> {
        let directory = self.root.join(hex::encode(host)).join(hex::encode(spool));
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place =
            places.entry(directory.clone()).or_insert_with(|| Arc::new(Place { directory, next: Mutex::new(None) }));
        Arc::clone(place)
    }

    /// A new place for a session of another exporter, which connected with the certificate of this fingerprint.
    ///
    /// # Errors
    /// The file system.
    pub fn peer_session(&self, fingerprint: &[u8; 32]) -> Result<Place, StoreError> {
        let directory = self.root.join(PEERS).join(hex::encode(fingerprint));
        make_directory(&directory)?;
        let last = sorted(&directory)?.iter().filter_map(|name| name.parse::<u64>().ok()).max();
        let mut session = last.map_or(0, |last| last.saturating_add(1));
        loop {
            let path = directory.join(format!("{session:020}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    sync_directory(&directory)?;
                    return Ok(Place { directory: path, next: Mutex::new(None) });
                }
                // Another session of the same peer began meanwhile.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => session = session.saturating_add(1),
                Err(source) => return Err(StoreError::Io { action: "make", path, source }),
            }
        }
    }
}

impl Place {
    /// Makes `messages` durable. Nothing below `first` is owed any more.
    ///
    /// # Errors
    /// The file system; what was durable before stays so, and nothing new counts.
    pub fn store(&self, first: u64, messages: &[StoredMessage]) -> Result<Stored, StoreError> {
        self.keep(Some(first), messages)
    }

    /// Makes `messages` durable, each for itself: nothing is said of what is below, which may still come.
    ///
    /// # Errors
    /// As [`Place::store`].
    pub fn store_apart(&self, messages: &[StoredMessage]) -> Result<Stored, StoreError> {
        self.keep(None, messages)
    }

    fn keep(&self, first: Option<u64>, messages: &[StoredMessage]) -> Result<Stored, StoreError> {
        // Two connections may bring the same spool's messages: one batch at a time.
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken out: after an error the next batch begins anew, as after a start. A name that this one gave may not be durable
        // yet, and what has no name takes room.
        let known = match next.take() {
            Some(known) => known,
            None => {
                self.begin()?;
                0
            }
        };
        let mut result = Stored::default();
        let mut written: Vec<(PathBuf, PathBuf, File)> = Vec::with_capacity(messages.len());
        for StoredMessage { sequence, contents, records } in messages {
            let path = self.path(*sequence);
            let temporary = self.directory.join(format!(".{sequence:020}.new"));
            // What is below may be known not to come on one way, and come on the other.
            let passed = first.is_some() && *sequence < known;
            if passed || written.iter().any(|(_, other, _)| *other == path) || exists(&path)? {
                result.repeated += 1;
                continue;
            }
            written.push((temporary.clone(), path, write(&temporary, contents)?));
            result.messages += 1;
            result.records += records;
            result.bytes += contents.len() as u64;
        }
        for (temporary, _, file) in &written {
            file.sync_all().map_err(StoreError::io("sync", temporary))?;
        }
        for (temporary, path, _) in &written {
            fs::rename(temporary, path).map_err(StoreError::io("rename", temporary))?;
        }
        if !written.is_empty() {
            sync_directory(&self.directory)?;
        }
        let Some(first) = first else {
            *next = Some(known);
            return Ok(result);
        };
        let mut reached = known.max(first);
        while exists(&self.path(reached))? {
            reached = reached.saturating_add(1);
        }
        *next = Some(reached);
        result.through = reached.checked_sub(1);
        Ok(result)
    }

    /// The first batch since the start or an error: names that were given may not be durable yet, and what was begun has
    /// no name.
    fn begin(&self) -> Result<(), StoreError> {
        make_directory(&self.directory)?;
        for name in sorted(&self.directory)?.iter().filter(|name| name.starts_with('.')) {
            let path = self.directory.join(name);
            fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
        }
        sync_directory(&self.directory)
    }

    fn path(&self, sequence: u64) -> PathBuf {
        self.directory.join(format!("{sequence:020}.{EXTENSION}"))
    }
}

/// Names in `directory`, in order.
///
/// # Errors
/// The file system.
pub fn sorted(directory: &Path) -> Result<Vec<String>, StoreError> {
    let error = StoreError::io("read", directory);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(&error)? {
        // A name that is no text is none of ours.
        if let Ok(name) = entry.map_err(&error)?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn exists(path: &Path) -> Result<bool, StoreError> {
    fs::exists(path).map_err(StoreError::io("look for", path))
}

fn write(path: &Path, contents: &[u8]) -> Result<File, StoreError> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(StoreError::io("make", path))?;
    file.write_all(contents).map_err(StoreError::io("write", path))?;
    Ok(file)
}

/// Makes `directory` with those above it, durably.
fn make_directory(directory: &Path) -> Result<(), StoreError> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(above) = directory.parent().filter(|above| !above.as_os_str().is_empty()) {
        make_directory(above)?;
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            return Err(StoreError::Io { action: "make", path: directory.to_owned(), source });
        }
        _ => {}
    }
    match directory.parent().filter(|above| !above.as_os_str().is_empty()) {
        Some(above) => sync_directory(above),
        None => Ok(()),
    }
}

fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    File::open(directory).and_then(|open| open.sync_all()).map_err(StoreError::io("sync", directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: [u8; 32] = [1; 32];
    const SPOOL: [u8; 16] = [2; 16];

    fn message(sequence: u64, contents: &str) -> StoredMessage {
        StoredMessage { sequence, contents: contents.as_bytes().to_vec(), records: 10 }
    }

    fn files(sequences: &[u64]) -> Vec<StoredMessage> {
        sequences.iter().map(|sequence| message(*sequence, &format!("message {sequence}"))).collect()
    }

    #[test]
    fn only_what_is_contiguous_is_acknowledged() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let place = store.spool(&HOST, &SPOOL);
        assert_eq!(place.store(0, &files(&[1, 2])).unwrap().through, None);
        assert_eq!(place.store(0, &files(&[0])).unwrap().through, Some(2));
        assert_eq!(place.store(0, &files(&[4])).unwrap().through, Some(2));
        // The spool holds nothing below 4 any more: 3 will never come.
        assert_eq!(place.store(4, &[]).unwrap().through, Some(4));
    }

    #[test]
    fn a_repeated_message_is_stored_once() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let place = store.spool(&HOST, &SPOOL);
        place.store(0, &files(&[0])).unwrap();
        let stored = place.store(0, &[message(0, "another"), message(1, "one"), message(1, "two")]).unwrap();
        assert_eq!((stored.messages, stored.records, stored.repeated, stored.through), (1, 10, 2, Some(1)));
        assert_eq!(fs::read(place.path(0)).unwrap(), b"message 0");
        assert_eq!(fs::read(place.path(1)).unwrap(), b"one");
    }

    #[test]
    fn what_comes_apart_is_stored_whatever_was_said_of_it_on_another_way() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let place = store.spool(&HOST, &SPOOL);
        // A session says that nothing below 9 is owed: it is in a stream.
        assert_eq!(place.store(9, &files(&[9])).unwrap().through, Some(9));
        let stored = place.store_apart(&files(&[5, 4, 9, 5])).unwrap();
        assert_eq!((stored.messages, stored.repeated, stored.through), (2, 2, None));
        assert_eq!(fs::read(place.path(4)).unwrap(), b"message 4");
        assert_eq!(place.store(10, &files(&[10])).unwrap().through, Some(10));
    }

    #[test]
    fn a_restart_goes_on_from_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let place = {
            let store = Store::open(directory.path()).unwrap();
            let place = store.spool(&HOST, &SPOOL);
            place.store(0, &files(&[0, 1, 2])).unwrap();
            place
        };
        // Killed while it wrote: there is a file without its name.
        fs::write(place.directory.join(".00000000000000000003.new"), b"torn").unwrap();
        let store = Store::open(directory.path()).unwrap();
        let place = store.spool(&HOST, &SPOOL);
        let stored = place.store(1, &files(&[1])).unwrap();
        assert_eq!((stored.messages, stored.repeated, stored.through), (0, 1, Some(2)));
        assert_eq!(sorted(&place.directory).unwrap().len(), 3);
    }

    #[test]
    fn nothing_counts_after_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let place = store.spool(&HOST, &SPOOL);
        place.store(0, &files(&[0])).unwrap();
        // A directory stands where the next file would be written.
        fs::create_dir(place.directory.join(".00000000000000000001.new")).unwrap();
        let error = place.store(0, &files(&[1])).unwrap_err().to_string();
        assert!(error.contains(".00000000000000000001.new"), "{error}");
        fs::remove_dir(place.directory.join(".00000000000000000001.new")).unwrap();
        assert_eq!(place.store(0, &files(&[1])).unwrap().through, Some(1));
    }

    /// Between a rename and the directory's sync the disk fails: the name is there and may not be durable. Seen by what only a batch
    /// that begins anew does: it removes what has no name.
    #[test]
    fn after_an_error_the_next_batch_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let place = store.spool(&HOST, &SPOOL);
        place.store(0, &files(&[0])).unwrap();
        let hindrance = place.directory.join(".00000000000000000002.new");
        fs::create_dir(&hindrance).unwrap();
        place.store(0, &files(&[1, 2])).unwrap_err();
        let begun = place.directory.join(".00000000000000000001.new");
        assert!(begun.exists());
        fs::remove_dir(&hindrance).unwrap();
        assert_eq!(place.store(0, &files(&[0])).unwrap().through, Some(0));
        assert!(!begun.exists(), "what has no name is removed");
        assert_eq!(place.store(0, &files(&[1, 2])).unwrap().through, Some(2));
    }

    #[test]
    fn one_process_writes_and_sessions_of_others_are_numbered() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        assert!(matches!(Store::open(directory.path()), Err(StoreError::Locked(_))));
        let names: Vec<_> = (0..3).map(|_| store.peer_session(&HOST).unwrap().directory).collect();
        assert!(names[0] < names[1] && names[1] < names[2] && names[0].ends_with("00000000000000000000"));
        assert_eq!(store.peer_session(&HOST).unwrap().store(0, &files(&[0])).unwrap().through, Some(0));
    }
}
