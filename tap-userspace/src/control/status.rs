//! How the agent is, in numbers and digests: what `gwtap status` shows and the metrics page is made of.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The agent's state at one moment. Times are RFC 3339 in UTC; shares are ratios.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Name of the host, from the configuration.
    pub host: String,
    /// The host key's id, in hex.
    pub host_key: String,
    /// Instance of the kernel maps: record numbers count within it.
    pub instance: String,
    /// The mirror port.
    pub interface: String,
    /// `mirror` or `inline`.
    pub mode: String,
    /// `native` or `generic`.
    pub attach: String,
    /// Mirror transport that is removed, as the configuration has it.
    #[serde(default)]
    pub transport: Option<String>,
    /// SHA-256 over object, load-time constants and tables, in hex.
    pub program_digest: String,
    /// Facility, as every order names it.
    pub facility: String,
    /// The machine's clock.
    pub clock: ClockStatus,
    /// The kernel's boot time when the counters were read, nanoseconds: what two readings counted, by the time between
    /// them, is an exact rate.
    #[serde(default)]
    pub counters_read_boot_ns: u64,
    /// What the kernel counted once for all measures since the maps were made.
    pub counters: CounterStatus,
    /// The mirror port's own counters.
    pub interface_counters: InterfaceCounters,
    /// Use of the facility's capacity by all measures together.
    pub share: ShareStatus,
    /// Ring entries that are no records, and records of a slot that has no measure.
    pub invalid_entries: u64,
    /// Seeds that the flow hash took since the start, the first not counted.
    pub sampling_seeds: u64,
    /// The country table takes documentation prefixes: laboratory only.
    pub documentation_prefixes: bool,
    /// The audit log.
    #[serde(default)]
    pub log: LogStatus,
    /// Calls of the control API, where there is one.
    #[serde(default)]
    pub api: Option<ApiStatus>,
    /// The measures, by slot.
    pub measures: Vec<MeasureStatus>,
}

/// Calls of the control API since the agent started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiStatus {
    /// By outcome: `done`, or a problem's kind.
    pub calls: BTreeMap<String, u64>,
    /// Handshakes that failed, and calls above a client's rate, as far as the log has them.
    pub turned_away: u64,
}

/// The audit log's head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStatus {
    /// Entries.
    pub entries: u64,
    /// Root over them, in hex.
    pub root: String,
    /// Latest time that an entry shows, seconds since 1970; 0 without entries.
    pub latest_seconds: i64,
    /// Acts since the start that could not be written.
    pub failed_total: u64,
}

impl Status {
    /// The measure of this id.
    #[must_use]
    pub fn measure(&self, id: &str) -> Option<&MeasureStatus> {
        self.measures.iter().find(|measure| measure.order.measure == id)
    }
}

/// One measure: nothing here is shared with another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MeasureStatus {
    /// The order in force.
    pub order: OrderStatus,
    /// What binds the measure beyond it.
    #[serde(default)]
    pub oversight: OversightStatus,
    /// What is looked for, as digests.
    pub selectors: SelectorStatus,
    /// Whether the kernel may select now.
    pub lease: LeaseStatus,
    /// What the kernel counted of it since the maps were made.
    pub counters: MeasureCounterStatus,
    /// Its use of the facility's capacity.
    pub share: ShareStatus,
    /// Which part of the flows it looks at.
    pub sampling: SamplingStatus,
    /// Records on their way to the spool.
    pub records: RecordStatus,
    /// The spool.
    pub spool: SpoolView,
    /// Delivery to the receiving facility.
    pub delivery: DeliveryStatus,
}

/// The order in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OrderStatus {
    /// Measure.
    pub measure: String,
    /// Basis, as the order names it.
    pub basis: String,
    /// Facility.
    pub facility: String,
    /// SHA-256 of the order.
    pub sha256: String,
    /// First instant.
    pub not_before: String,
    /// First instant after the last.
    pub not_after: String,
    /// The same in seconds since 1970.
    pub not_before_seconds: i64,
    /// What directives and revoked keys left of it, in seconds since 1970.
    pub not_after_seconds: i64,
    /// SHA-256 of the orders that extend the first.
    #[serde(default)]
    pub extensions: Vec<String>,
}

/// What binds a measure beyond its order: directives of the Commission, and the carrier's kill switch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OversightStatus {
    /// Highest number of a directive; 0 before the first.
    pub number: u64,
    /// Reason of the directive that stopped the measure, if one did.
    pub stopped: Option<String>,
    /// The facility's share that a directive left, in parts per million.
    pub facility_share_ppm: Option<u32>,
    /// End that a directive set.
    pub not_after: Option<String>,
    /// The carrier's kill switch, if it was thrown.
    pub kill_switch: Option<KillSwitchStatus>,
    /// The last directives.
    pub directives: Vec<DirectiveStatus>,
}

/// The carrier's kill switch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KillSwitchStatus {
    /// Why it was thrown.
    pub reason: String,
    /// Since when.
    pub since: String,
}

/// A directive that was taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DirectiveStatus {
    /// Its number.
    pub number: u64,
    /// What it directs.
    pub kind: String,
    /// Why.
    pub reason: String,
    /// When it was issued.
    pub issued: String,
    /// SHA-256 of its note.
    pub sha256: String,
}

/// What is looked for, as digests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SelectorStatus {
    /// Generation: the activation's number.
    pub generation: u64,
    /// Version as the set names it.
    pub set_version: u64,
    /// SHA-256 of the set.
    pub set_sha256: String,
    /// Number of its rules.
    pub rules: usize,
    /// First instant at which the activation is void.
    pub valid_until: String,
    /// The same in seconds since 1970.
    pub valid_until_seconds: i64,
    /// Sets that took over since this agent started, the first included.
    pub loads: u64,
}

/// Whether the kernel may select now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// The deadline is ahead.
    pub live: bool,
    /// Seconds until the deadline; 0 if it is past.
    pub seconds_left: f64,
    /// Why the last renewal was refused, if it was.
    pub refused: Option<String>,
    /// Renewals refused since the start.
    pub refused_total: u64,
}

/// The machine's clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClockStatus {
    /// The kernel reports that it is synchronised.
    pub synchronised: bool,
    /// The lease depends on it.
    pub required: bool,
    /// Why it is in doubt, if it is; no lease is renewed then.
    #[serde(default)]
    pub doubt: Option<String>,
    /// The error that the kernel takes for possible.
    #[serde(default)]
    pub max_error_seconds: f64,
    /// Steps back seen since the start.
    pub steps_back_total: u64,
    /// Steps forward seen since the start.
    pub steps_forward_total: u64,
}

/// What the kernel counted once for all measures since the maps were made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CounterStatus {
    /// Packets seen.
    pub observed_packets: u64,
    /// Bytes on the line of packets seen.
    pub observed_bytes: u64,
    /// Verdict name → packets: those before any measure.
    pub verdicts: BTreeMap<String, u64>,
    /// Reason name → packets: why malformed or unsupported.
    pub reasons: BTreeMap<String, u64>,
    /// Packets the caps admitted to selection for at least one measure, each counted once.
    pub admitted_packets: u64,
    /// Their bytes on the line.
    pub admitted_bytes: u64,
}

/// What the kernel counted of one measure since the maps were made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MeasureCounterStatus {
    /// Verdict name → packets.
    pub verdicts: BTreeMap<String, u64>,
    /// Packets that were decided for others while this measure had no lease.
    pub idle_packets: u64,
    /// Facility verdicts, own verdicts and idle packets together; at rest the same as the packets observed.
    pub judged_packets: u64,
    /// Packets the cap admitted to selection.
    pub admitted_packets: u64,
    /// Their bytes on the line.
    pub admitted_bytes: u64,
    /// Selected packets whose record a full ring lost.
    pub ring_lost: u64,
}

/// Which part of the flows a measure looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SamplingStatus {
    /// Part of the flows that is in the sample now.
    pub ratio: f64,
    /// Part that the order allows.
    pub limit: f64,
    /// Changes since the start; `sampling.jsonl` in the state directory has each.
    pub changes: u64,
}

/// The mirror port's own counters (`/proc/net/dev`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceCounters {
    /// Packets received.
    pub receive_packets: u64,
    /// Bytes received.
    pub receive_bytes: u64,
    /// Packets dropped by driver or hardware, missed ones included.
    pub receive_dropped: u64,
    /// Packets with errors.
    pub receive_errors: u64,
}

/// Use of the facility's capacity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShareStatus {
    /// Transmission capacity of the facility.
    pub capacity_bits_per_second: u64,
    /// Part of it that may be admitted here.
    pub limit: f64,
    /// Highest use over sliding windows of one second and longer since the agent started.
    pub used_max: f64,
    /// The same over windows of a minute or longer; 0 before one is full.
    #[serde(default)]
    pub used_max_minute: f64,
    /// The same over windows of an hour or longer.
    #[serde(default)]
    pub used_max_hour: f64,
    /// Use in the window that has just ended.
    pub used: f64,
}

/// Records on their way to the spool, since the agent started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordStatus {
    /// Taken from the rings.
    pub drained: u64,
    /// In the spool.
    pub spooled: u64,
    /// Lost because the spool was full or could not be written.
    pub refused: u64,
    /// Records that cannot leave: no key, a generation or field that the program never writes.
    pub invalid: u64,
}

/// The spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolView {
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes it may take.
    pub bytes_max: u64,
    /// Messages not acknowledged.
    pub messages: u64,
    /// Messages taken since it was opened.
    pub appended_total: u64,
    /// Messages refused because it was full.
    pub refused_total: u64,
    /// Messages trimmed after their acknowledgement.
    pub trimmed_total: u64,
}

/// Delivery to the receiving facility.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeliveryStatus {
    /// A session is open.
    pub connected: bool,
    /// The open session's peer acknowledges durable storage.
    pub acknowledging: bool,
    /// Sessions opened since the start.
    pub sessions: u64,
    /// Sessions that ended and attempts that failed since the start.
    pub failures: u64,
    /// Messages sent for the first time since the start.
    pub sent_messages: u64,
    /// Messages sent again.
    pub resent_messages: u64,
    /// Records in messages sent for the first time.
    pub sent_records: u64,
    /// Records whose durable storage was acknowledged.
    pub acknowledged_records: u64,
    /// Messages of this spool whose durable storage was acknowledged.
    pub acknowledged_messages: u64,
    /// Messages that the spool could not give back: lost.
    pub damaged_messages: u64,
    /// Why the last session ended or could not be opened, as a code.
    pub last_error: Option<String>,
}
