//! What becomes of the receipts in hosts' streams: what counts goes into the outbox, what does not is set aside.
//!
//! In: receipts' texts with the host in whose stream each was. Out: numbered notices, or files in `set-aside`. Without a
//! `[notices]` table nobody is told, and the outbox's mark `caught-up` is taken away: the next start that has the table reads the
//! receipts out of the whole store ([`Intake::catch_up`]) before anything is received, and sets the mark.

use super::aside::Aside;
use super::outbox::{self, Outbox, OutboxError};
use super::{Receipt, VERSION, receipt};
use crate::keys::parse_sha256;
use crate::limits::ID_BYTES_MAX;
use crate::run::state::replace_file;
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why a receipt does not count. It holds nothing of the receipt: the log has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not a receipt that the stream's own host signed.
    #[error("it is not a receipt of this version, signed with the key of the host in whose stream it is")]
    Signature,
    /// A field that no tap writes.
    #[error("its measure, facility or order is written as no tap writes it")]
    Field,
    /// Another measure than the host's.
    #[error("its measure is none that host.measures lists for this host")]
    Measure,
}

/// A receipt's text, and the host in whose stream it was.
pub type Said = ([u8; 32], String);

/// Which measures hosts may speak of: `None` where the configuration lists none.
pub type Measures = Box<dyn Fn(&[u8; 32], &str) -> bool + Send + Sync>;

/// Where receipts go.
pub(crate) struct Intake {
    outbox: Option<Arc<Mutex<Outbox>>>,
    aside: Aside,
    measures: Measures,
    mark: PathBuf,
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").field("aside", &self.aside).field("mark", &self.mark).finish_non_exhaustive()
    }
}

impl Intake {
    pub(crate) fn new(store: &Path, outbox: Option<Arc<Mutex<Outbox>>>, measures: Measures) -> Self {
        let mark = store.join(outbox::DIRECTORY).join("caught-up");
        Self { outbox, aside: Aside::new(store), measures, mark }
    }

    /// Brings the outbox up to what the store holds: `stored` reads every receipt in it, and is asked only where some may not have
    /// been noticed. What was set aside is judged again.
    ///
    /// # Errors
    /// The store or the file system: nothing may be received before it is mended.
    pub(crate) fn catch_up<E: From<OutboxError>>(
        &self,
        stored: impl FnOnce() -> Result<Vec<Said>, E>,
    ) -> Result<(), E> {
        let exists = self.mark.try_exists().map_err(OutboxError::io("look for", &self.mark))?;
        let Some(outbox) = &self.outbox else {
            if exists {
                std::fs::remove_file(&self.mark).map_err(OutboxError::io("remove", &self.mark))?;
                let directory = self.mark.parent().unwrap_or(Path::new("."));
                std::fs::File::open(directory)
                    .and_then(|open| open.sync_all())
                    .map_err(OutboxError::io("sync", directory))?;
            }
            return Ok(());
        };
        let mut good = Vec::new();
        if !exists {
            for (host, note) in stored()? {
                match self.judge(&host, &note) {
                    Ok(receipt) => good.push((receipt, super::digest(&note))),
                    Err(fault) => self.aside.keep(&host, &note, fault)?,
                }
            }
        }
        let mut mended = Vec::new();
        for kept in self.aside.all()? {
            let judged = parse_sha256(&kept.host).and_then(|host| self.judge(&host, &kept.receipt).ok());
            if let Some(receipt) = judged {
                good.push((receipt, super::digest(&kept.receipt)));
                mended.push(kept);
            }
        }
        // As they came to be, whichever host said them: an extension is known before the end of what it extends.
        good.sort_by_key(|(receipt, _)| receipt.time);
        let mut numbered = 0_u64;
        {
            let mut outbox = lock(outbox);
            for (receipt, sha256) in &good {
                numbered = numbered.saturating_add(outbox.take(receipt, sha256, Timestamp::now())?);
            }
        }
        for kept in &mended {
            self.aside.forget(kept)?;
        }
        if !exists {
            replace_file(&self.mark, b"").map_err(OutboxError::io("write", &self.mark))?;
        }
        if numbered > 0 {
            tracing::warn!(numbered, "receipts that were stored and not noticed before are noticed now");
        }
        Ok(())
    }

    /// Takes the receipts of a stream, in their order; durable when it returns.
    ///
    /// # Errors
    /// The file system: then the message with the receipt is not stored, and comes again.
    pub(crate) fn take(&self, said: &[Said]) -> Result<(), OutboxError> {
        for (host, note) in said {
            match (self.judge(host, note), &self.outbox) {
                (Ok(receipt), Some(outbox)) => {
                    lock(outbox).take(&receipt, &super::digest(note), Timestamp::now())?;
                }
                (Ok(_), None) => {}
                (Err(fault), _) => self.aside.keep(host, note, fault)?,
            }
        }
        Ok(())
    }

    /// How many receipts are set aside.
    pub(crate) fn set_aside(&self) -> u64 {
        self.aside.count()
    }

    fn judge(&self, host: &[u8; 32], note: &str) -> Result<Receipt, Fault> {
        let receipt = receipt(note, host).map_err(|_reason| Fault::Signature)?;
        let is_id = |text: &str| (1..=ID_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
        let is_digest = |text: &str| parse_sha256(text).is_some();
        let chain = &receipt.chain_sha256;
        let written = receipt.version == VERSION
            && is_id(&receipt.measure)
            && is_id(&receipt.facility)
            && is_digest(&receipt.order_sha256)
            && (chain.is_empty() || is_digest(chain));
        if !written {
            return Err(Fault::Field);
        }
        if !(self.measures)(host, &receipt.measure) {
            return Err(Fault::Measure);
        }
        Ok(receipt)
    }
}

fn lock(outbox: &Mutex<Outbox>) -> MutexGuard<'_, Outbox> {
    outbox.lock().unwrap_or_else(PoisonError::into_inner)
}
