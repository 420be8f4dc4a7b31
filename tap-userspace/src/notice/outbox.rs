//! The outbox: `NNNNNNNN.note` is a notice, `NNNNNNNN.ack` beside it the Commission's acknowledgement, `DIGEST.opened` what a
//! tap said last of a measure's begin and end, `caught-up` that every receipt in the store went through here.
//!
//! In: receipts and acknowledgements. Out: files. A notice has its number when its file is on stable storage under its name;
//! the message with its receipt is acknowledged to the tap only after that. What a crash cut off has no name (`.new`), and is
//! written anew. The directory is all there is: a restart reads and verifies it whole, and begins with nothing it cannot
//! answer for. The calls block on the disk.

use super::book::Book;
use super::ends::{self, Ends, Opened};
use super::{
    Acknowledgement, Event, Notice, NoticeError, Occasion, Receipt, VERSION, acknowledgement, digest, sign, verify,
};
use crate::keys::{PublicKey, SecretKey};
use crate::limits::NOTICE_BYTES_MAX;
use crate::run::state::replace_file;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Directory of the outbox in the store.
pub const DIRECTORY: &str = "notices";

/// Why the outbox cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The file system.
    #[error("notices: cannot {action} {}: {source}; nothing is acknowledged until it can", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file does not hold.
    #[error("{}: {reason}; restore it from the Commission's copy or a backup", path.display())]
    Broken {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl OutboxError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path: path.clone(), source }
    }

    fn broken(path: &Path) -> impl Fn(NoticeError) -> Self {
        let path = path.to_owned();
        move |error| Self::Broken { path: path.clone(), reason: error.to_string() }
    }
}

/// A notice with its file's text and what was answered.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The notice.
    pub notice: Notice,
    /// Its file.
    pub text: String,
    /// The Commission's acknowledgement.
    pub acknowledgement: Option<Acknowledgement>,
}

/// The outbox of one receiving facility, open for writing.
#[derive(Debug)]
pub struct Outbox {
    directory: PathBuf,
    sender: String,
    key: SecretKey,
    commission: PublicKey,
    book: Book,
    previous_sha256: String,
    waiting: BTreeMap<u64, (Notice, String)>,
    acknowledged: u64,
    ends: Ends,
}

impl Outbox {
    /// Opens the outbox below `store`, or makes it there; verifies every file.
    ///
    /// # Errors
    /// The file system; a file that is damaged, missing in the row, or signed by another key.
    pub fn open(store: &Path, sender: &str, key: SecretKey, commission: PublicKey) -> Result<Self, OutboxError> {
        let directory = store.join(DIRECTORY);
        std::fs::create_dir_all(&directory).map_err(OutboxError::io("make", &directory))?;
        let sync = |path: &Path| std::fs::File::open(path).and_then(|open| open.sync_all());
        sync(store).map_err(OutboxError::io("sync", store))?;
        let mut outbox = Self {
            sender: sender.to_owned(),
            key,
            commission,
            book: Book::default(),
            previous_sha256: String::new(),
            waiting: BTreeMap::new(),
            acknowledged: 0,
            ends: read_opened(&directory)?,
            directory,
        };
        for kept in read_all(&outbox.directory, &outbox.key.public(), &outbox.commission)? {
            let path = path(&outbox.directory, kept.notice.number, "note");
            if kept.notice.sender != outbox.sender {
                let reason = format!("it was sent by {}; notices.name is {sender}", kept.notice.sender);
                return Err(OutboxError::Broken { path, reason });
            }
            outbox.note(kept.notice, kept.text, kept.acknowledgement.is_some(), &path)?;
        }
        // Names that an earlier process gave may not be durable yet.
        sync(&outbox.directory).map_err(OutboxError::io("sync", &outbox.directory))?;
        Ok(outbox)
    }

    /// Numbers what the receipt asks for; durable when it returns. `receipt_sha256` is the digest of its note.
    ///
    /// # Errors
    /// It cannot be signed or written: what was written before stands, the rest has no number.
    pub fn take(&mut self, receipt: &Receipt, receipt_sha256: &str, now: Timestamp) -> Result<u64, OutboxError> {
        if let Some(opened) = self.ends.change(receipt, receipt_sha256) {
            self.keep(opened)?;
        }
        match &receipt.event {
            Event::Opened { .. } => Ok(0),
            Event::Day { day } => self.number(receipt, receipt_sha256, &Occasion::Day(*day), now),
            Event::Ended { .. } => match self.ends.over(&ends::life(receipt), receipt.time).cloned() {
                Some(last) => {
                    let receipt = Receipt { totals: receipt.totals, ..last.receipt };
                    self.number(&receipt, receipt_sha256, &Occasion::End(receipt.order_sha256.clone()), now)
                }
                None => Ok(0),
            },
        }
    }

    fn number(
        &mut self,
        receipt: &Receipt,
        receipt_sha256: &str,
        occasion: &Occasion,
        now: Timestamp,
    ) -> Result<u64, OutboxError> {
        let mut numbered = 0;
        for (measure, occasion, kind) in self.book.due(&receipt.measure, occasion) {
            let number = self.book.last().saturating_add(1);
            let notice = Notice {
                version: VERSION,
                sender: self.sender.clone(),
                number,
                previous_sha256: self.previous_sha256.clone(),
                kind,
                measure,
                facility: receipt.facility.clone(),
                occasion,
                time: now,
                receipt_sha256: receipt_sha256.to_owned(),
                totals: receipt.totals,
            };
            let path = path(&self.directory, number, "note");
            let text = sign(&notice, &self.key).map_err(OutboxError::broken(&path))?;
            replace_file(&path, text.as_bytes()).map_err(OutboxError::io("write", &path))?;
            self.note(notice, text, false, &path)?;
            numbered += 1;
        }
        Ok(numbered)
    }

    /// Whether a measure is over, by its taps' words or its order's end `wait` ago, and has no notice of it.
    #[must_use]
    pub fn has_unsaid_end(&self, wait: SignedDuration, now: Timestamp) -> bool {
        self.ends.all_over(wait, now).into_iter().any(|last| self.is_unsaid(last))
    }

    /// Numbers the ends that no tap has said `wait` after them: a tap may be dead when its measure ends. What the tap says
    /// later is the same subject.
    ///
    /// # Errors
    /// As [`Outbox::take`].
    pub fn conclude(&mut self, wait: SignedDuration, now: Timestamp) -> Result<u64, OutboxError> {
        let unsaid = self.ends.all_over(wait, now).into_iter().filter(|last| self.is_unsaid(last)).cloned();
        let unsaid: Vec<Opened> = unsaid.collect();
        let mut numbered = 0_u64;
        for Opened { receipt, receipt_sha256, .. } in unsaid {
            let occasion = Occasion::End(receipt.order_sha256.clone());
            numbered = numbered.saturating_add(self.number(&receipt, &receipt_sha256, &occasion, now)?);
        }
        Ok(numbered)
    }

    fn is_unsaid(&self, last: &Opened) -> bool {
        !self.book.due(&last.receipt.measure, &Occasion::End(last.receipt.order_sha256.clone())).is_empty()
    }

    /// Keeps what a tap said of a measure's begin and end; durable when it returns.
    fn keep(&mut self, opened: Opened) -> Result<(), OutboxError> {
        let Receipt { measure, chain_sha256, host_key, .. } = &opened.receipt;
        let name = digest(&[measure.as_str(), chain_sha256, host_key].join("\n"));
        let path = self.directory.join(name).with_extension(OPENED);
        let text = serde_json::to_string_pretty(&opened).map_err(NoticeError::form("opened"));
        let text = text.map_err(OutboxError::broken(&path))?;
        replace_file(&path, text.as_bytes()).map_err(OutboxError::io("write", &path))?;
        self.ends.note(opened);
        Ok(())
    }

    /// The first notice that is not acknowledged, with its file's text.
    #[must_use]
    pub fn next(&self) -> Option<(Notice, String)> {
        self.waiting.first_key_value().map(|(_, kept)| kept.clone())
    }

    /// Takes the Commission's answer to `notice`; durable when it returns.
    ///
    /// # Errors
    /// It does not count ([`OutboxError::Broken`]), or cannot be written: then the notice is sent again.
    pub fn acknowledge(&mut self, notice: &Notice, answer: &str) -> Result<(), OutboxError> {
        let path = path(&self.directory, notice.number, "ack");
        let Some((kept, text)) = self.waiting.get(&notice.number) else { return Ok(()) };
        acknowledgement(answer, &self.commission, kept, text).map_err(OutboxError::broken(&path))?;
        replace_file(&path, answer.as_bytes()).map_err(OutboxError::io("write", &path))?;
        self.waiting.remove(&notice.number);
        self.acknowledged = self.acknowledged.saturating_add(1);
        Ok(())
    }

    /// Notices that are not acknowledged, and those of them numbered before `late`.
    #[must_use]
    pub fn waiting(&self, late: Timestamp) -> (u64, u64) {
        let before = self.waiting.values().filter(|(notice, _)| notice.time < late).count();
        (self.waiting.len() as u64, before as u64)
    }

    /// Notices that are acknowledged.
    #[must_use]
    pub const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    fn note(&mut self, notice: Notice, text: String, answered: bool, path: &Path) -> Result<(), OutboxError> {
        let subject = (notice.measure.clone(), notice.occasion.clone(), notice.kind);
        self.book.number(subject).map_err(|reason| OutboxError::Broken { path: path.to_owned(), reason })?;
        self.previous_sha256 = digest(&text);
        if answered {
            self.acknowledged = self.acknowledged.saturating_add(1);
        } else {
            self.waiting.insert(notice.number, (notice, text));
        }
        Ok(())
    }
}

/// Every notice in `directory`, verified: signatures, numbers without a gap, each naming the one before.
///
/// # Errors
/// The first file that does not hold, by name.
pub fn read_all(directory: &Path, key: &PublicKey, commission: &PublicKey) -> Result<Vec<Kept>, OutboxError> {
    let mut all: Vec<Kept> = Vec::new();
    let mut previous = String::new();
    for (number, file) in (1_u64..).zip(numbers(directory)?) {
        let path = path(directory, number, "note");
        let broken = |reason: String| OutboxError::Broken { path: path.clone(), reason };
        if file != number {
            return Err(broken(format!("it is missing, {file:08}.note is there")));
        }
        let text = read(&path)?;
        let notice: Notice = verify(&text, key, "notice").map_err(OutboxError::broken(&path))?;
        if notice.number != number {
            return Err(broken(format!("its number is {}", notice.number)));
        }
        if notice.previous_sha256 != previous {
            return Err(broken("the notice before it is not the one it names".into()));
        }
        previous = digest(&text);
        let answer = self::path(directory, number, "ack");
        let acknowledgement = match answer.try_exists().map_err(OutboxError::io("look for", &answer))? {
            true => Some(
                acknowledgement(&read(&answer)?, commission, &notice, &text).map_err(OutboxError::broken(&answer))?,
            ),
            false => None,
        };
        all.push(Kept { notice, text, acknowledgement });
    }
    Ok(all)
}

/// How the name of a file ends that keeps an opened measure.
const OPENED: &str = "opened";

fn read_opened(directory: &Path) -> Result<Ends, OutboxError> {
    let error = OutboxError::io("read", directory);
    let mut all = Ends::default();
    for entry in std::fs::read_dir(directory).map_err(&error)? {
        let path = entry.map_err(&error)?.path();
        if path.extension().is_some_and(|extension| extension == OPENED) {
            let opened: Result<Opened, _> = serde_json::from_str(&read(&path)?).map_err(NoticeError::form("opened"));
            let opened = opened.map_err(OutboxError::broken(&path))?;
            all.note(opened);
        }
    }
    Ok(all)
}

fn numbers(directory: &Path) -> Result<Vec<u64>, OutboxError> {
    let error = OutboxError::io("read", directory);
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(&error)? {
        let name = entry.map_err(&error)?.file_name();
        numbers.extend(
            name.to_str().and_then(|name| name.strip_suffix(".note")).and_then(|name| name.parse::<u64>().ok()),
        );
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn path(directory: &Path, number: u64, extension: &str) -> PathBuf {
    directory.join(format!("{number:08}.{extension}"))
}

fn read(path: &Path) -> Result<String, OutboxError> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(NOTICE_BYTES_MAX).read_to_string(&mut text))
        .map_err(OutboxError::io("read", path))?;
    Ok(text)
}
