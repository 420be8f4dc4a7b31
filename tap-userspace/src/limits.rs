//! Every constant of userspace that bounds something, with its reason. Units stand in the names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The largest record of a capture file that is read: far above the 262,144 bytes that capturing tools take at most,
/// and small enough that a length that lies does not take the machine's memory.
pub const CAPTURE_RECORD_BYTES_MAX: u32 = 16 << 20;

// Directives and orders.

/// Bytes of a directive's note: a page, with its signatures.
pub const DIRECTIVE_BYTES_MAX: usize = 16 << 10;
/// Bytes of a reason: a sentence in any script.
pub const REASON_BYTES_MAX: usize = 512;
/// Directives of a measure whose notes are kept; what they left in force is kept whatever their number.
pub const DIRECTIVES_KEPT_MAX: usize = 16;
/// Orders of a measure that are remembered by hash, so that an older one is told from a new one: half a century of
/// extensions by three months.
pub const ORDERS_KEPT_MAX: usize = 200;
/// Bytes of an order's note: a few hundred taps and prefixes.
pub const ORDER_BYTES_MAX: u64 = 1 << 20;

// The agent.

/// Bytes the spool takes on disk unless the configuration says otherwise: an hour of 10,000 records a second.
pub const SPOOL_BYTES_DEFAULT: u64 = 4 << 30;
/// Least bytes of a spool: two segments, so that one can be trimmed while the other is written.
pub const SPOOL_BYTES_MIN: u64 = 2 * SPOOL_SEGMENT_BYTES;
/// Bytes of one spool segment: a trim frees that much at once.
pub const SPOOL_SEGMENT_BYTES: u64 = 16 << 20;
/// Where the metrics page is unless the configuration says otherwise.
pub const METRICS_LISTEN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);
/// Bytes of an interface's name: `IFNAMSIZ` less its closing zero (if.h).
pub const INTERFACE_NAME_BYTES_MAX: usize = 15;

/// How far wall clock minus boot time may fall between two readings before it counts as a step back. Slewing moves both
/// clocks alike; what remains is the time between the two reads, which [`CLOCK_READ_NS_MAX`] bounds.
pub const CLOCK_STEP_NS: u64 = 5_000_000;
/// How far wall clock minus boot time may rise within [`CLOCK_FORWARD_PERIOD_NS`]: a leap second, and a time server's
/// correction of the same size. What is more is somebody's doing.
pub const CLOCK_FORWARD_NS_MAX: u64 = 2_000_000_000;
/// How far wall clock minus boot time may stay below every trusted value of it: as far as a correction goes forward. A clock that is
/// left further behind would live through a window too late, also after it has passed every time it ever showed.
pub const CLOCK_BACK_NS_MAX: u64 = CLOCK_FORWARD_NS_MAX;
/// Steps forward are summed over this time.
pub const CLOCK_FORWARD_PERIOD_NS: u64 = 3_600_000_000_000;
/// The error that a synchronised clock may have (adjtimex's `maxerror`): it grows by half a millisecond a second between
/// corrections, which common time clients make at least every 2,048 s. At 16 s the kernel itself reports `STA_UNSYNC`.
pub const CLOCK_ERROR_NS_MAX: u64 = 5_000_000_000;
/// Longest a reading of the two clocks may take; a reading that was interrupted for longer is made again.
pub const CLOCK_READ_NS_MAX: u64 = 1_000_000;
/// Readings tried before the clock counts as unreadable.
pub const CLOCK_READ_ATTEMPTS_MAX: u32 = 16;
/// How often the last wall time is written down: a clock set back while the agent is down is noticed to this precision.
pub const STATE_WRITE_NS: u64 = 10_000_000_000;
/// Bytes of the state file that are read at most: per measure the host has ever had its numbers, its last directives and
/// the hashes of its orders.
pub const STATE_BYTES_MAX: u64 = 32 << 20;

/// How often the rings are looked at: a ring holds three times that at 10 million records a second.
pub const DRAIN_INTERVAL: Duration = Duration::from_millis(1);
/// Records taken from one ring before the next ring's turn, so that no CPU's ring waits for another's.
pub const DRAIN_RECORDS_MAX: usize = 4_096;
/// Records at which a batch is spooled at once: some four messages.
pub const BATCH_RECORDS_MAX: usize = 2_048;
/// Longest a record waits for its batch, and a batch for its flush to disk: together the power-loss bound, a tenth of a second of
/// records beside what a flush under way takes.
pub const BATCH_DELAY: Duration = Duration::from_millis(50);
/// How long reading the counters may take before it is tried again: what comes in meanwhile is counted at one moment and timed at another,
/// and a share over a second is to be right to a thousandth. An undisturbed reading takes some 20 µs.
pub const COUNTERS_READ_NS: u64 = 200_000;
/// How often: a machine that is busy for longer than that gives what it has.
pub const COUNTERS_READ_TRIES: u32 = 8;
/// How often admitted bytes are sampled for the sliding one-second windows.
pub const SHARE_SAMPLE_INTERVAL: Duration = Duration::from_millis(20);
/// Shortest window over which the share is judged (Art. 17 as this project reads it).
pub const SHARE_WINDOW_NS_MIN: u64 = 1_000_000_000;
/// Generations whose meaning (rules, clear-address policies) is kept: rings are drained every millisecond, a swap takes tens
/// of them.
pub const GENERATIONS_KEPT_MAX: usize = 16;

/// How often the samples are looked at: the shortest window over which the share is judged, so that a second of overload is
/// answered in the next one.
pub const SAMPLING_STEP: Duration = Duration::from_secs(1);
/// How often a measure's totals are declared in its export, if they changed: what a full ring lost is known at the receiving facility
/// within that time, and the messages are few beside those of records, which go out ten times a second.
pub const TOTALS_INTERVAL: Duration = Duration::from_secs(10);
/// Part of its share, in parts per million, that a measure's sampled traffic is brought down to: the credit of an epoch is
/// 98 % of the share, and traffic comes in bursts.
pub const SAMPLING_TARGET_PPM: u64 = 900_000;
/// Sampled traffic above this part of the share lowers the threshold.
pub const SAMPLING_HIGH_PPM: u64 = 950_000;
/// Sampled traffic below this part of the share lets the threshold rise.
pub const SAMPLING_LOW_PPM: u64 = 800_000;
/// Part of the sampled packets that the cap may refuse before the threshold falls although the mean fits: bursts.
pub const SAMPLING_REFUSED_PPM: u64 = 5_000;
/// Steps of calm before the threshold rises; doubled each time a rise proves too high, at most to
/// [`SAMPLING_HOLD_STEPS_MAX`].
pub const SAMPLING_HOLD_STEPS_MIN: u32 = 10;
/// A quarter of an hour: a load that does not fit is tried no oftener.
pub const SAMPLING_HOLD_STEPS_MAX: u32 = 900;
/// The least threshold, one flow of 10,000: a measure under attack still sees something, and finds its way back.
pub const SAMPLING_THRESHOLD_MIN: u64 = (1 << 32) / 10_000;
/// Bytes of one file of the samples' changes: some 100,000 changes, a day of one a second.
pub const SAMPLING_CHANGES_BYTES_MAX: u64 = 16 << 20;
/// Files of them that are kept, the one being written included.
pub const SAMPLING_CHANGES_FILES: usize = 4;
/// After the lease is revoked: a packet in flight and a tick of the cached clock are over within this time.
pub const STOP_SETTLE: Duration = Duration::from_millis(30);
/// How long a stopping agent waits for acknowledgements before it leaves the rest in the spool.
pub const STOP_EXPORT_MAX: Duration = Duration::from_secs(5);
/// Least time between two log lines about the same alarm.
pub const ALARM_INTERVAL: Duration = Duration::from_secs(10);

/// Bytes of one request on the control socket: a selector set of a million addresses is 25 MB.
pub const CONTROL_REQUEST_BYTES_MAX: u64 = 64 << 20;
/// How long a control connection may take to send its request.
pub const CONTROL_READ_MAX: Duration = Duration::from_secs(30);
/// Control connections served at once: an operator, a monitor and room.
pub const CONTROL_CONNECTIONS_MAX: usize = 8;

// The control API.

/// Connections of one client to the control API: a person, a script, and room. Each client has its own places, so that nobody can take
/// those of the carrier's kill switch; certificates that are no client's share as many.
pub const API_CLIENT_CONNECTIONS_MAX: usize = 8;
/// Handshakes of the control API at once; they are not among the connections, so that strangers take no client's place.
pub const API_HANDSHAKES_MAX: usize = 64;
/// Longest that a connection of the control API is kept: a certificate that ended or was revoked meanwhile is looked at then.
pub const API_CONNECTION_MAX: Duration = Duration::from_secs(600);
/// How long a connection that is being closed may take for the calls that it has begun: the longest one, a large set's.
pub const API_CLOSE_MAX: Duration = CONTROL_READ_MAX;
/// Calls at once on one HTTP/2 connection: a person or a script makes one after the other.
pub const API_STREAMS_MAX: u32 = 8;
/// Bytes of a call's headers: a few short ones.
pub const API_HEADERS_BYTES_MAX: u32 = 16 << 10;
/// Calls that a client may make in a burst.
pub const API_BURST_CALLS: u32 = 20;
/// The time in which a client's burst grows by one call: each call is an entry of the log.
pub const API_CALL_INTERVAL: Duration = Duration::from_millis(200);
/// Bytes of a call's body but for selector sets: a note, or a reason.
pub const API_BODY_BYTES_MAX: u64 = 64 << 10;
/// Bytes of a refused call's body that are taken so that its caller sees the answer: some seconds of a slow line.
pub const API_DISCARD_BYTES_MAX: u64 = 1 << 20;
/// Least time between two leaves about the same kind of call that is refused before anybody reads it.
pub const API_TELL_INTERVAL: Duration = Duration::from_secs(60);
/// Characters of a client's name: a domain name (RFC 1035, section 2.3.4).
pub const API_CLIENT_BYTES_MAX: usize = 253;
/// Clients of a tap: a few offices' people and their machines.
pub const API_CLIENTS_MAX: usize = 64;
/// Sets of a measure that are kept for going back, the one that decides included.
pub const VERSIONS_KEPT_MAX: usize = 8;
/// Bytes of the file that says which versions are kept, and of a proposal's note in it.
pub const VERSIONS_BYTES_MAX: u64 = 1 << 20;

const _: () = assert!(CLOCK_READ_NS_MAX < CLOCK_STEP_NS);
const _: () = assert!(BATCH_RECORDS_MAX <= DRAIN_RECORDS_MAX);
const _: () = assert!(SAMPLING_LOW_PPM < SAMPLING_TARGET_PPM && SAMPLING_TARGET_PPM < SAMPLING_HIGH_PPM);

/// The widest IPv4 entry that clears an address: the smallest prefix that is announced on its own, so that it names a
/// facility and not a provider's customers.
pub const CLEAR_PREFIX_IPV4_MIN: u8 = 24;
/// The widest IPv6 entry that clears an address: one site's prefix (RFC 6177).
pub const CLEAR_PREFIX_IPV6_MIN: u8 = 48;

/// The largest message a spool entry holds: an IPFIX message's length field is 16 bits wide (RFC 7011, section 3.1).
pub const SPOOL_ENTRY_BYTES_MAX: usize = 65_535;
/// The smallest segment: a few short messages; smaller ones would be mostly headers.
pub const SPOOL_SEGMENT_BYTES_MIN: u64 = 1024;
/// The largest segment: offsets in it are kept in 32 bits, and recovery may read one as a whole into memory.
pub const SPOOL_SEGMENT_BYTES_MAX: u64 = 256 << 20;

// IPFIX, export and receiving.

/// Octets of a message body (the sets behind the identity): with header and identity set it stays well below the 65,535
/// octets of a message, and below what the spool takes as an entry.
pub const BODY_BYTES_MAX: usize = 60_000;
/// Octets of a text in an options record, e.g. a rule id: a line.
pub const TEXT_BYTES_MAX: usize = 512;
/// Fields of one template that are kept; collectors' templates have tens.
pub const TEMPLATE_FIELDS_MAX: usize = 512;
/// Templates of one session that are kept; exporters have tens.
pub const TEMPLATES_MAX: usize = 512;

/// Longest a connection attempt, a TLS handshake or a closing takes; a path across the world needs under one second.
pub const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Longest without progress (a write, or an acknowledgement while some are owed) before a session counts as dead: a
/// receiving facility's disk may take seconds, not a minute.
pub const EXPORT_STALL_MAX: Duration = Duration::from_secs(60);
/// Messages on their way and not acknowledged: some 240 MB of the largest, enough for 1 Gbit/s over 2 s of delay.
pub const EXPORT_WINDOW_MESSAGES_MAX: usize = 4_096;
/// Messages read from the spool at once, so that disk and line work at the same time.
pub const EXPORT_BATCH_MESSAGES_MAX: usize = 32;
/// The first pause before a new connection; it doubles with each failure.
pub const RECONNECT_MIN: Duration = Duration::from_millis(250);
/// The longest pause before a new connection: an operator who repaired something waits no longer.
pub const RECONNECT_MAX: Duration = Duration::from_secs(30);
/// How often certificate files are looked at for a change: an operator who renews one does not wait for it, and a few small files cost nothing.
pub const CREDENTIALS_CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// A plain collector may refuse our certificate after our side of the handshake is done: so long is it given for that
/// before the first message is written and forgotten.
pub const PLAIN_SETTLE: Duration = Duration::from_millis(250);

/// How long a line may be silent, in seconds, before the kernel asks whether the other side is still there: one without traffic
/// keeps its session, a dead one does not hold its place.
pub const LINE_SILENT_SECONDS: u32 = 5;
/// Seconds between such questions.
pub const LINE_PROBE_SECONDS: u32 = 2;
/// How long, in milliseconds, the other side's kernel may leave octets unacknowledged, or take none, before the connection counts as
/// gone: routes settle in seconds, and what is given up wrongly costs a connection and what was on its way, sent again.
pub const LINE_DEAD_MS: u32 = 10_000;
/// Exporters served at once: a country's facilities, and room.
pub const RECEIVE_CONNECTIONS_MAX: usize = 256;
/// Messages of one connection that wait to be stored: 4 MB of the largest.
pub const RECEIVE_QUEUE_MESSAGES_MAX: usize = 64;
/// Octets of RFC 5610 and RFC 6235 records of one session that go into each of its files.
pub const CONTEXT_BYTES_MAX: usize = 8_192;
/// Bytes of a stored file: what stands before a message, and the message.
pub const STORED_FILE_BYTES_MAX: u64 = 2 * 65_535;

/// The stream's name where none is configured.
pub const JETSTREAM_STREAM_DEFAULT: &str = "gwtap";
/// Characters of a stream's name: it stands in subjects and in names of consumers.
pub const JETSTREAM_STREAM_BYTES_MAX: usize = 32;
/// Copies of a message that a stream must keep: with three, one server can be lost and a majority still says what is there.
pub const JETSTREAM_REPLICAS_MIN: usize = 3;
/// Messages published and not acknowledged: 15 MB of the largest, what a majority of a cluster within a country takes in well under
/// a second; a server drops a client that it cannot keep up with.
pub const JETSTREAM_WINDOW_MESSAGES_MAX: usize = 256;
/// Longest wait for the acknowledgement of a published message, or for an answer of a stream: electing a new leader takes seconds.
pub const JETSTREAM_ANSWER_MAX: Duration = Duration::from_secs(10);
/// Pings to a server; two that are not answered end the connection: noticed within 15 s, as on a line of our own.
pub const JETSTREAM_PING_INTERVAL: Duration = Duration::from_secs(5);
/// A message that was handed out and not acknowledged is handed out again after this: a batch is on a slow disk within seconds.
pub const JETSTREAM_ACK_WAIT: Duration = Duration::from_secs(30);
/// Messages of one partition that are handed out and not acknowledged, to all receivers together: sixteen with full queues.
pub const JETSTREAM_HANDED_OUT_MAX: i64 = 1_024;
/// How long a receiver's wish for more stands at the server before it is said again.
pub const JETSTREAM_PULL_EXPIRES: Duration = Duration::from_secs(20);
/// Signs of life of a server while it has nothing to hand out; two that are missing end the session.
pub const JETSTREAM_HEARTBEAT: Duration = Duration::from_secs(5);
/// How long the server remembers names of published messages, to drop repeats: most repeats follow a failed session within seconds;
/// what comes later is stored once all the same.
pub const JETSTREAM_DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// What cannot be stored is handed out again after this: somebody has to look, and the others go on.
pub const JETSTREAM_REFUSED_AGAIN: Duration = Duration::from_secs(60);

const _: () = assert!(BODY_BYTES_MAX + 16 + 128 <= SPOOL_ENTRY_BYTES_MAX);

/// Memory of one generation's tables. Two generations are there at once while one replaces the other, and a mirror host
/// has gigabytes; a set that needs more has too many scattered long prefixes.
pub const TABLE_BYTES_MAX: usize = 256 << 20;
// Orders and selector sets.

/// Bytes of an id (measure, act, facility, rule): it stands in metrics, file names and log lines.
pub const ID_BYTES_MAX: usize = 64;
/// Days of a pseudonym key's epoch: what a host could undo if it were taken over stays within a month.
pub const KEY_EPOCH_DAYS_MAX: u32 = 31;
/// Bytes of a selector set: a million addresses in their longest form.
pub const SELECTOR_SET_BYTES_MAX: usize = 64 << 20;
/// How often the agent looks whether a rule is over: a generation without it must be there within a second, and making one
/// takes most of that.
pub const EXPIRY_LOOK: Duration = Duration::from_millis(250);
/// How long it waits after a generation without them could not be loaded; the lease has ended meanwhile.
pub const EXPIRY_RETRY: Duration = Duration::from_secs(5);
/// Bytes of a file that is imported: a million STIX indicators have about 450 bytes each.
pub const IMPORT_BYTES_MAX: usize = 512 << 20;
/// Places that the report of an import keeps for one reason: enough to find the fault, and a report of a million refused
/// entries stays readable.
pub const IMPORT_PLACES_SHOWN_MAX: usize = 100;
/// An imported IPv4 prefix that is shorter is held back: an attacker has servers, not a /15 of somebody's customers.
pub const IMPORT_IPV4_PREFIX_MIN: u8 = 16;
/// The same for IPv6: a /32 is what a registry gives a whole provider.
pub const IMPORT_IPV6_PREFIX_MIN: u8 = 33;
/// Bytes of a STIX pattern: public ones have under 10,000.
pub const PATTERN_BYTES_MAX: usize = 64 << 10;
/// Parentheses within each other in a STIX pattern: bounds the parser's stack.
pub const PATTERN_DEPTH_MAX: usize = 32;
/// Rules that one STIX pattern may become: AND of ORs multiplies, and a set has 256.
pub const PATTERN_RULES_MAX: usize = 64;

// Cap statements.

/// How often a cap statement is signed: at each whole hour, which is one in UTC and in Japan alike.
pub const STATEMENT_PERIOD_NS: u64 = 3_600_000_000_000;
/// How long a statement that could not be written waits for its next attempt.
pub const STATEMENT_RETRY_NS: u64 = 10_000_000_000;
/// Bytes of a statement that are read: some thirty short lines and a signature.
pub const STATEMENT_BYTES_MAX: u64 = 64 << 10;

// The audit log.

/// Bytes of a log entry: what the two-byte length of an entry bundle (C2SP tlog-tiles) can say.
pub const LOG_ENTRY_BYTES_MAX: usize = 65_535;
/// Bytes of a reason in a leaf: a sentence or two; what is longer is cut.
pub const LOG_REASON_BYTES_MAX: usize = 500;
/// Hashes of a proof: one for each level of the largest tree; C2SP tlog-witness allows no more.
pub const PROOF_HASHES_MAX: usize = 63;
/// Bytes of a full entry bundle: 256 entries with their lengths.
pub const LOG_BUNDLE_BYTES_MAX: u64 = 256 * (LOG_ENTRY_BYTES_MAX as u64 + 2);
/// Bytes of a checkpoint file or a proof that are read: three lines, some signatures, 63 hashes and an entry in base64.
pub const LOG_NOTE_BYTES_MAX: u64 = 1 << 20;
/// Least time between two leaves about the same cap: a load above the cap is one act, not thousands.
pub const LOG_CAP_INTERVAL: Duration = Duration::from_secs(60);
/// How often sessions and caps are looked at for the log: an act is in it within that time.
pub const AUDIT_INTERVAL: Duration = Duration::from_millis(500);

// The inspection bundle.

/// Bytes of all entries of a bundle: ten years of hourly statements of eight measures, and their log, with room.
pub const BUNDLE_BYTES_MAX: u64 = 1 << 30;
/// Entries of a bundle: hourly statements of nine chains over ten years are 800,000.
pub const BUNDLE_ENTRIES_MAX: usize = 1_000_000;
/// Bytes of an entry's name: what the header of a tar archive holds without extensions.
pub const BUNDLE_NAME_BYTES_MAX: usize = 99;
/// Bytes of an entry: a full bundle of log entries is the longest but for a selector set of a million addresses.
pub const BUNDLE_ENTRY_BYTES_MAX: u64 = 64 << 20;
/// Times that a bundle is begun anew because the log grew meanwhile: it grows by bursts of a few entries.
pub const BUNDLE_ATTEMPTS_MAX: usize = 32;

// The loader.

/// Bytes of one packet between agent and loader: well below a socket's buffer as the system sets it (212,992).
pub const LOADER_PACKET_BYTES: usize = 32 << 10;
/// Descriptors of one packet: the kernel passes 253 at most (`SCM_MAX_FD`).
pub const LOADER_PACKET_DESCRIPTORS: usize = 64;
/// Bytes of one message: the largest set of every measure, escaped as a JSON text.
pub const LOADER_MESSAGE_BYTES_MAX: usize = 2 * tap_common::limits::MEASURES_MAX * SELECTOR_SET_BYTES_MAX;

// Notices (Art. 30).

/// Bytes of a receipt, a notice or an acknowledgement: some twenty short lines and a signature.
pub const NOTICE_BYTES_MAX: u64 = 16 << 10;
const _: () = assert!(NOTICE_BYTES_MAX + 64 <= 60_000 && BODY_BYTES_MAX == 60_000);
/// Receipts that are set aside as files: enough to see what is wrong, and no way to fill a disk with small files.
pub const RECEIPTS_ASIDE_MAX: u64 = 1_000;
/// Bytes of such a file: a message's octets, each written as JSON's longest escape.
pub const ASIDE_BYTES_MAX: u64 = 6 * 65_536 + 4_096;
/// First pause after the Commission's endpoint did not acknowledge.
pub const NOTICE_RETRY_MIN: Duration = Duration::from_millis(250);
/// Longest pause: an endpoint that comes back gets what waits within a minute.
pub const NOTICE_RETRY_MAX: Duration = Duration::from_secs(60);
/// How long one attempt may take, from the connection to the answer's last byte.
pub const NOTICE_SEND_MAX: Duration = Duration::from_secs(20);
/// How often the outbox is looked at when nothing waits.
pub const NOTICE_INTERVAL: Duration = Duration::from_millis(100);
/// A notice that is not acknowledged for so long is late, unless the configuration says otherwise.
pub const NOTICE_LATE_SECONDS: u32 = 3_600;
/// How long after its end a measure's last records may take from the kernel into the spool; then the end is signed.
pub const END_SETTLE_NS: u64 = 2_000_000_000;

// The doctor.

/// Oldest kernel that the tap is tested on: Debian 12's.
pub const KERNEL_MIN: (u32, u32) = (6, 1);
/// Seconds before a certificate's end from which the doctor warns: 30 days, time enough for an authority's paperwork.
pub const CERTIFICATE_WARNING_S: i64 = 30 * 86_400;
/// Free bytes without which state and log have no future: a day of the busiest log, with room.
pub const DIRECTORY_BYTES_LEAST: u64 = 64 << 20;
/// Longest that the doctor watches the mirror port: an operator waits for it.
pub const DOCTOR_LOOK_SECONDS_MAX: u64 = 60;
/// Drivers with XDP in Linux 6.1, which has no way to ask for it (`ndo_bpf` in its `drivers/net`).
pub const DRIVERS_NATIVE: [&str; 24] = [
    "atlantic",
    "bnxt_en",
    "ena",
    "enetc",
    "fsl_dpaa2_eth",
    "hv_netvsc",
    "i40e",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "ixgbevf",
    "mana",
    "mlx4_en",
    "mlx5_core",
    "mvneta",
    "mvpp2",
    "nfp",
    "qede",
    "sfc",
    "stmmac",
    "tun",
    "veth",
    "virtio_net",
];
