//! Notices to the Commission (Art. 30): what a tap signs becomes what the receiving facility numbers, signs and sends.
//!
//! In: receipts, signed by tap hosts, out of their streams. Out: notices, numbered without a gap, each a file before anything
//! else happens, sent until the Commission's signed acknowledgement of exactly this notice is a file beside it. [`book`] says
//! which notices a receipt asks for, [`intake`] sets aside what does not count, [`ends`] when a measure is over, [`outbox`] keeps them, [`send`] delivers them, [`endpoint`] stands in for the
//! Commission. A receipt and a notice hold names, days, digests and counts: no field could carry an address or a selector.

pub mod aside;
pub mod book;
pub mod endpoint;
pub(crate) mod ends;
pub mod intake;
pub mod outbox;
pub mod send;
#[cfg(test)]
mod tests;

use crate::keys::{HostKeyId, KeyError, PublicKey, SecretKey, note};
use jiff::civil::Date;
use jiff::{Timestamp, tz};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Version of the three forms.
pub const VERSION: u32 = 1;

/// What happened to a measure on a tap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// The tap began to select, or goes on by an extension.
    Opened {
        /// When the orders end.
        not_after: Timestamp,
    },
    /// Records of this day are about to follow.
    Day {
        /// Day in Japan.
        day: Date,
    },
    /// The measure has ended: its order, or a directive of the Commission.
    Ended {
        /// `order` or `directive`.
        by: String,
    },
}

/// Counts since the kernel's maps were made, and since the agent started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Packets the program saw.
    pub observed_packets: u64,
    /// Packets selected for the measure.
    pub selected_packets: u64,
    /// Records handed to export since the agent started.
    pub exported_records: u64,
}

/// What a tap signs into its stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// [`VERSION`].
    pub version: u32,
    /// The host's public key; its digest is the host key id.
    pub host_key: String,
    /// Measure.
    pub measure: String,
    /// Facility that is mirrored.
    pub facility: String,
    /// SHA-256 of the order in force, the last of its chain.
    pub order_sha256: String,
    /// SHA-256 of the first order of the chain: extensions go on under it. Empty in receipts of an earlier version.
    #[serde(default)]
    pub chain_sha256: String,
    /// When it was signed.
    pub time: Timestamp,
    /// What happened.
    pub event: Event,
    /// Counts then.
    pub totals: Totals,
}

/// What a notice is about (the kinds of Art. 30 that a tap's records cause).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// (1): automatic selection was done.
    Selection,
    /// (2): what was selected was de-identified.
    DeIdentification,
}

/// When in a measure.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Occasion {
    /// A day in Japan with records.
    Day(Date),
    /// The measure's end, under the order of this SHA-256.
    End(String),
}

/// A notice. Its signed text is this as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    /// [`VERSION`].
    pub version: u32,
    /// The receiving facility that sends it.
    pub sender: String,
    /// Its number there, from 1 without a gap.
    pub number: u64,
    /// SHA-256 of the notice before, as it lies in its file; empty for the first.
    pub previous_sha256: String,
    /// What it is about.
    pub kind: Kind,
    /// Measure.
    pub measure: String,
    /// Facility that is mirrored.
    pub facility: String,
    /// Day or end.
    pub occasion: Occasion,
    /// When it was numbered.
    pub time: Timestamp,
    /// SHA-256 of the receipt that asked for it.
    pub receipt_sha256: String,
    /// The receipt's counts.
    pub totals: Totals,
}

/// The Commission's answer to a notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledgement {
    /// [`VERSION`].
    pub version: u32,
    /// Whose notice.
    pub sender: String,
    /// Its number.
    pub number: u64,
    /// SHA-256 of the notice's file.
    pub notice_sha256: String,
    /// When it was taken.
    pub time: Timestamp,
}

/// Why a signed text does not count.
#[derive(Debug, thiserror::Error)]
pub enum NoticeError {
    /// Signature or key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Not the JSON of its form.
    #[error("{what}: {source}")]
    Form {
        /// Which form.
        what: &'static str,
        /// Why not.
        source: serde_json::Error,
    },
    /// It is right, and not what is needed here.
    #[error("{0}")]
    Other(String),
}

impl NoticeError {
    fn form(what: &'static str) -> impl Fn(serde_json::Error) -> Self {
        move |source| Self::Form { what, source }
    }
}

/// Signs a form: its JSON is the note's text.
///
/// # Errors
/// It cannot be a note.
pub fn sign<T: Serialize>(form: &T, key: &SecretKey) -> Result<String, NoticeError> {
    let text = serde_json::to_string_pretty(form).map_err(NoticeError::form("form"))?;
    Ok(note::sign(&(text + "\n"), key)?)
}

/// The form that `key` signed.
///
/// # Errors
/// Another signature, another form.
pub fn verify<T: DeserializeOwned>(text: &str, key: &PublicKey, what: &'static str) -> Result<T, NoticeError> {
    serde_json::from_str(&note::verify_one(text, key)?).map_err(NoticeError::form(what))
}

/// A receipt out of the stream of the host with this key id: signed by the very key whose digest the id is.
///
/// # Errors
/// Another key, another signature, another form or version.
pub fn receipt(text: &str, host: &[u8; 32]) -> Result<Receipt, NoticeError> {
    let unsigned: Receipt = serde_json::from_str(&note::text(text)?).map_err(NoticeError::form("receipt"))?;
    let key = PublicKey::parse(&unsigned.host_key, "receipt: host_key")?;
    if HostKeyId::of(&key).to_string() != hex::encode(host) {
        return Err(NoticeError::Other("receipt: it names another host's key".into()));
    }
    let receipt: Receipt = verify(text, &key, "receipt")?;
    if receipt.version != VERSION {
        return Err(NoticeError::Other(format!("receipt: version {} is not known here", receipt.version)));
    }
    Ok(receipt)
}

/// The Commission's acknowledgement of exactly this notice.
///
/// # Errors
/// It is false, of another notice, or somebody else's.
pub fn acknowledgement(
    text: &str,
    commission: &PublicKey,
    notice: &Notice,
    file: &str,
) -> Result<Acknowledgement, NoticeError> {
    let given: Acknowledgement = verify(text, commission, "acknowledgement")?;
    let wrong = |what: &str| Err(NoticeError::Other(format!("acknowledgement: it is for another {what}")));
    if given.version != VERSION {
        return wrong("version");
    }
    if given.sender != notice.sender {
        return wrong("sender");
    }
    if given.number != notice.number {
        return wrong("number");
    }
    if given.notice_sha256 != digest(file) {
        return wrong("notice");
    }
    Ok(given)
}

/// SHA-256 of a note as it lies in its file.
#[must_use]
pub fn digest(text: &str) -> String {
    hex::encode(crate::keys::sha256(text.as_bytes()))
}

/// Number of the day in Japan, from 1970-01-01 there.
#[must_use]
pub const fn day_number(unix_ns: u64) -> u64 {
    const DAY_NS: u64 = 86_400_000_000_000;
    // Japan is nine hours ahead and has had no other offset since 1951.
    unix_ns.saturating_add(9 * 3_600_000_000_000) / DAY_NS
}

/// The day of this number, as a date.
#[must_use]
pub fn day(number: u64) -> Date {
    let seconds = i64::try_from(number.saturating_mul(86_400)).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or(Date::MAX, |time| time.to_zoned(tz::TimeZone::UTC).date())
}
