//! What the log says: one act a leaf.
//!
//! A leaf carries digests, times, numbers and reasons. It has no field for an address, a selector's value or a rule, and
//! whoever adds one adds it here, where a reader looks for it. Bound: a reason is cut to [`LOG_REASON_BYTES_MAX`] bytes.

use crate::limits::LOG_REASON_BYTES_MAX;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// An act, as a leaf of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Leaf {
    /// An agent started; nothing is attached yet.
    Start {
        /// Version of the program.
        version: String,
        /// The host's key id.
        host_key: String,
        /// Which machine it is: a digest of its machine id, so that a key that was copied to another one shows.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        machine_sha256: String,
        /// The kernel's boot id: one that comes back after another was here is a second machine under one key.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        boot: String,
    },
    /// It did not come to select: refused by the rules, or failed. Nothing is attached.
    StartRefused,
    /// An order was admitted for this host.
    OrderLoaded {
        /// Measure.
        measure: String,
        /// The order's digest.
        order_sha256: String,
        /// Basis in the Act.
        basis: String,
        /// This tap's part of the capacity, in parts per million.
        share_ppm: u32,
        /// First instant.
        not_before: Timestamp,
        /// First instant after the last.
        not_after: Timestamp,
    },
    /// The epoch of the key that a measure's addresses are pseudonymised with.
    KeyEpoch {
        /// Measure.
        measure: String,
        /// Number of the epoch.
        epoch: u32,
        /// First instant.
        not_before: Timestamp,
        /// First instant after the last.
        not_after: Timestamp,
    },
    /// A selector set was activated: it decides from the swap on that follows.
    Activation {
        /// Measure.
        measure: String,
        /// The activation's number.
        number: u64,
        /// Digest of the set.
        set_sha256: String,
        /// Rules in it.
        rules: u64,
        /// When it ends.
        valid_until: Timestamp,
    },
    /// A measure's selectors were withdrawn: nothing is looked for until a later activation.
    Withdrawn {
        /// Measure.
        measure: String,
        /// The withdrawal's number, one of the activations' row.
        number: u64,
        /// Digest of the withdrawal's note.
        sha256: String,
    },
    /// Rules of an active set ended: the swap that follows is to a generation without them.
    RulesOver {
        /// Measure.
        measure: String,
        /// Number of the set's activation.
        number: u64,
        /// Rules of the set that are over.
        over: u64,
        /// Rules that are left.
        left: u64,
    },
    /// A set was offered to a running agent and refused.
    ActivationRefused {
        /// SHA-256 over the set's text, as it was offered.
        set_sha256: String,
    },
    /// A generation is about to decide.
    Swap {
        /// Number of the generation.
        generation: u64,
        /// Why.
        why: SwapReason,
        /// The activation of each measure in it, by slot.
        activations: Vec<u64>,
    },
    /// The program that decides from now on.
    Program {
        /// Number of the generation.
        generation: u64,
        /// Digest over the program's object, its constants and its tables' shapes.
        program_sha256: String,
    },
    /// The generation announced last was not taken; the one before goes on deciding.
    SwapFailed {
        /// Number of the generation.
        generation: u64,
    },
    /// A measure may select: it has a lease, which it had not before.
    LeaseGiven {
        /// Measure.
        measure: String,
    },
    /// A measure may no longer select.
    LeaseLost {
        /// Measure.
        measure: String,
        /// Why.
        reason: String,
    },
    /// The cap refused packets that would have been looked at: at most one leaf a minute and measure.
    CapReached {
        /// Measure.
        measure: String,
        /// Packets refused since the last such leaf.
        packets: u64,
    },
    /// The part of the flows that a measure looks at was changed.
    SampleMoved {
        /// Measure.
        measure: String,
        /// The threshold before, of 2^32.
        from: u64,
        /// The threshold now.
        to: u64,
    },
    /// The carrier stopped a measure, or all.
    KillSwitch {
        /// Measure; none for all.
        measure: Option<String>,
        /// The reason given.
        reason: String,
    },
    /// The carrier took its kill switch back.
    KillSwitchReleased {
        /// Measure; none for all.
        measure: Option<String>,
        /// The reason given.
        reason: String,
    },
    /// A directive of the Commission is in force.
    Directive {
        /// Measure.
        measure: String,
        /// Its number.
        number: u64,
        /// What it does.
        kind: String,
        /// Digest of the directive.
        sha256: String,
    },
    /// A session to the receiving facility is open.
    ExportOpened {
        /// Measure.
        measure: String,
        /// Its number since the agent started.
        session: u64,
    },
    /// It ended.
    ExportClosed {
        /// Measure.
        measure: String,
        /// Its number since the agent started.
        session: u64,
    },
    /// The clock is in doubt.
    ClockDoubt {
        /// Why.
        reason: String,
    },
    /// The clock is trusted again.
    ClockTrusted,
    /// A signed statement was made: its digest.
    Statement {
        /// Measure.
        measure: String,
        /// First instant it speaks of.
        from: Timestamp,
        /// Digest of the statement's text.
        sha256: String,
    },
    /// A receipt for the notices of Art. 30 was signed: its digest.
    Receipt {
        /// Measure.
        measure: String,
        /// Digest of the receipt's note.
        sha256: String,
    },
    /// Somebody called the control API. What came of it may be an act of its own beside this one.
    ApiCall {
        /// The client, as the configuration names it; empty for a certificate that is no client's.
        client: String,
        /// Its role.
        role: String,
        /// Which certificate it showed.
        certificate_sha256: String,
        /// What it asked; `none` for what cannot be asked.
        verb: String,
        /// Of which measure, where the call names one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        measure: Option<String>,
        /// `done`, or why not.
        outcome: String,
    },
    /// The control API turned somebody away unread: at most one leaf a minute, client and kind.
    ApiTurnedAway {
        /// The client, where the handshake had come so far.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client: Option<String>,
        /// Why: what was wrong with the certificate, or `rate`.
        kind: String,
        /// How many since the last such leaf.
        calls: u64,
    },
    /// The agent ends in order.
    Stop {
        /// Why.
        reason: String,
    },
}

/// Why a generation replaces another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwapReason {
    /// The agent starts.
    Start,
    /// An activation.
    Activation,
    /// A new seed of the flow hash.
    Seed,
    /// A rule ended.
    Expiry,
    /// A withdrawal.
    Withdrawal,
}

impl Leaf {
    /// The act's name.
    #[must_use]
    pub fn name(&self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => name,
            Ok(serde_json::Value::Object(act)) => act.keys().next().cloned().unwrap_or_default(),
            _ => String::new(),
        }
    }
}

/// A reason as a leaf may carry it: bounded, on a character's border.
#[must_use]
pub fn reason(text: impl Into<String>) -> String {
    let mut text = text.into();
    let mut end = LOG_REASON_BYTES_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

/// An entry of the log: a leaf and its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The wall clock's time at which it was written.
    pub time: Timestamp,
    /// The latest time so far at which the clock was synchronised, where this entry's is not it: the clock was set back, or
    /// nobody vouches for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latest: Option<Timestamp>,
    /// The act.
    pub act: Leaf,
}

/// What every entry shows, whatever act a later version may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Times {
    time: Timestamp,
    latest: Option<Timestamp>,
}

impl Times {
    /// Of an entry's bytes; `None` when they are no entry.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// The latest time of a synchronised clock, up to this entry.
    #[must_use]
    pub fn latest(&self) -> Timestamp {
        self.latest.unwrap_or(self.time)
    }
}
