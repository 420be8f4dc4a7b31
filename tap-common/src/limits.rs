//! Every constant that bounds something, with its reason. Units stand in the names.

/// Rules one generation of a selector set may hold: four machine words, so that a dimension's answer is four loads.
pub const RULES_MAX: usize = 256;
/// Words of a rule mask (`[u64; 4]`).
pub const RULE_WORDS: usize = 4;
/// Measures that may be live beside each other on one facility: their slots are bits of one byte.
pub const MEASURES_MAX: usize = 8;

/// VLAN tags that are walked: customer, service and one carrier tag (IEEE 802.1ad allows no more in practice).
pub const VLAN_TAGS_MAX: usize = 3;
/// MPLS labels that are walked; transport, VPN, entropy and service labels make six, the rest is room.
pub const MPLS_LABELS_MAX: usize = 8;
/// IPv6 extension headers that are walked: each kind of RFC 8200 once, destination options twice, and one more.
pub const IPV6_EXTENSION_HEADERS_MAX: usize = 8;
/// What every driver hands XDP in one piece at least (the smallest receive buffers in use), so that the program never needs
/// the dearer access to a frame's later buffers.
pub const FIRST_BUFFER_BYTES_MIN: u32 = 2_048;
/// Bytes of mirror transport before a mirrored frame: the longest chain that is removed has 122.
pub const TRANSPORT_BYTES_MAX: u32 = 128;
/// Headers must lie within this many bytes of the frame, mirror transport removed; real header chains are a tenth of it.
pub const HEADER_BYTES_MAX: u32 = FIRST_BUFFER_BYTES_MIN - TRANSPORT_BYTES_MAX;

/// Frame check sequence, preamble with delimiter and inter-packet gap: what a frame takes on the line beside its bytes
/// (IEEE 802.3: 4 + 8 + 12).
pub const LINE_OVERHEAD_BYTES: u32 = 24;

/// Length of an epoch of the cap's bucket. Shorter epochs would leave less than a frame's credit on slow facilities,
/// longer ones would allow larger bursts.
pub const EPOCH_NS: u64 = 5_000_000;
/// Part of share × capacity that an epoch's credit is made of, in parts per million. The two per cent that are missing
/// pay for the epochs that a window cuts at its ends; the argument stands in `path/cap.rs`.
pub const CREDIT_PPM: u64 = 980_000;
/// The largest chunk a CPU takes from the bucket at once.
pub const CHUNK_BYTES_MAX: u64 = 65_536;
/// A CPU's chunk is at most this part of an epoch's credit, so that what idle CPUs hold stays small.
pub const CHUNKS_PER_EPOCH: u64 = 64;
/// Bits of the bucket's word that hold the credit in bytes: 1 TiB an epoch, i.e. 1.7 Pbit/s.
pub const CREDIT_BITS: u32 = 40;
/// A bucket's word that is at most this many epochs (20 s) ahead of a CPU's cached clock comes from another CPU's clock;
/// further ahead it is an old word whose tag has come round. Clocks differ by a tick, a stalled machine's by no more than
/// a lease's length before nothing is live any more.
pub const EPOCHS_AHEAD_MAX: u64 = 4_096;
/// Attempts to change the bucket's word before a packet counts as over the cap. Each failed attempt means another CPU
/// succeeded, so 8 suffice unless more than 8 CPUs meet in the same nanoseconds; then the strict side is taken.
pub const BUCKET_ATTEMPTS_MAX: u32 = 8;

/// The longest a tick may last: kernels run at 100 Hz or faster (`CONFIG_HZ_100`). A cached clock errs by that much.
pub const TICK_NS_MAX: u64 = 10_000_000;
/// The longest lease the agent may give; after it the kernel stops by itself.
pub const LEASE_NS_MAX: u64 = 5_000_000_000;
/// How often the agent renews the lease.
pub const LEASE_RENEWAL_NS: u64 = 1_000_000_000;

/// Art. 17: a foreign-to-foreign measure takes at most 30 % of the facility's transmission capacity.
pub const FOREIGN_TO_FOREIGN_SHARE_PPM_MAX: u32 = 300_000;
/// Parts per million in a whole.
pub const PPM: u64 = 1_000_000;
/// Counted conditions a rule needs under Arts 15 and 17 (Art. 22(2)).
pub const CONDITIONS_MIN: u8 = 2;
/// Counted conditions a rule needs under Arts 32 and 33 (Art. 35(2)): one, from the approved list.
pub const CONDITIONS_APPROVED_MIN: u8 = 1;
/// Kinds of condition: address, port, protocol, TCP flags, length, fragment, payload.
pub const CONDITION_KINDS: usize = 7;

/// Payload signatures a generation may hold; each that still matters costs a packet two nanoseconds or more.
pub const SIGNATURES_MAX: usize = 64;
/// Bytes of a payload signature: four machine words. Longer ones would come near to content (Art. 2(8)).
pub const SIGNATURE_BYTES_MAX: usize = 32;
/// Furthest first byte of a signature from the payload's beginning; it keeps every signature within [`HEADER_BYTES_MAX`]
/// behind usual headers, and commands stand at the beginning of what they command.
pub const SIGNATURE_OFFSET_MAX: u32 = 1_024;

/// Classes whose masks the program reaches without a look-up; sets with more keep the rest in a map.
pub const CLASSES_NEAR: usize = 256;
/// Full-length addresses from which on they are kept in hashed tables instead of tries: a scattered address takes two
/// nodes (2 KiB) of a trie, and 4,096 of them 8 MiB.
pub const EXACT_MIN: usize = 4_096;
/// Bits of the prefilter for each full-length address: 6 per cent of foreign addresses pass, and a million take 2 MiB,
/// which a processor's cache holds; four times as many bits were slower for that reason.
pub const PREFILTER_BITS_PER_ADDRESS: usize = 16;

/// A frame whose first buffer is shorter than this and holds all of its IP packet has no second buffer: drivers begin one
/// when the first is full (1.5 KiB or more), or behind the headers when they split them off, and then the IP packet goes on
/// there. Asking the kernel for the length costs 4 ns, a tenth of the way.
pub const FIRST_BUFFER_CERTAIN_BYTES: u32 = 1_024;

/// IP lengths there are: an IPv6 packet's payload length goes to 65,535, and its header has 40 bytes.
pub const IP_LENGTHS: usize = 65_576;

/// CPUs for which rings are made.
pub const CPUS_MAX: usize = 128;
/// Bytes of one CPU's ring, at most: 131,072 records of 120 + 8 bytes, ten drain intervals (1 ms) at 10 million records a second.
/// A reader on a timer of 1 ms that a scheduler lets wait loses what does not fit (`ring_records_per_second` of the benchmark
/// shows the loss by size: with 4 MiB there is some now and then, with 16 there was none).
pub const RING_BYTES_MAX: u32 = 16 << 20;
/// The same of a machine with [`CPUS_MAX`].
pub const RING_BYTES_MIN: u32 = 4 << 20;
/// Bytes of all rings: what a host of 128 CPUs can spare without a thought. It shares them out (see [`ring_bytes`]).
pub const RINGS_BYTES_MAX: usize = 512 << 20;

/// Bytes of each ring of a machine with this many CPUs: a power of two.
#[must_use]
pub const fn ring_bytes(cpus: usize) -> u32 {
    let mut bytes = RING_BYTES_MAX;
    while bytes > RING_BYTES_MIN && bytes as usize * cpus > RINGS_BYTES_MAX {
        bytes /= 2;
    }
    bytes
}

const _: () = assert!(RULE_WORDS * 64 == RULES_MAX);
const _: () = assert!(RING_BYTES_MAX.is_power_of_two() && RING_BYTES_MIN.is_power_of_two());
const _: () = assert!(ring_bytes(CPUS_MAX) as usize * CPUS_MAX <= RINGS_BYTES_MAX);
const _: () = assert!(ring_bytes(32) == RING_BYTES_MAX && ring_bytes(33) == RING_BYTES_MAX / 2);
const _: () = assert!(LEASE_RENEWAL_NS * 2 < LEASE_NS_MAX);
const _: () = assert!(CREDIT_PPM < PPM);
const _: () = assert!(EPOCHS_AHEAD_MAX * EPOCH_NS > 2 * LEASE_NS_MAX);
// A window of one second touches at most (1 s + tick) / epoch + 2 epochs; all their credit must fit into the second.
const _: () = assert!(((1_000_000_000 + TICK_NS_MAX) / EPOCH_NS + 2) * CREDIT_PPM * EPOCH_NS <= 1_000_000_000 * PPM);
