//! Counters of the packet's way: one value per CPU, added up by the reader.

use crate::limits::MEASURES_MAX;

/// Verdicts that concern the facility as a whole: each packet has at most one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FacilityVerdict {
    /// No measure is live: nothing is looked at.
    NoLease = 0,
    /// A header cannot be walked in the bytes present or contradicts itself.
    Malformed = 1,
    /// Well-formed, but nothing this program selects on (not IP, or beyond its limits).
    Unsupported = 2,
}

/// Verdicts of one measure on one packet: exactly one per live measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// The flow is outside the sample.
    NotSampled = 0,
    /// The share of the line's capacity is used up.
    OverCap = 1,
    /// No rule's conditions are all satisfied.
    NotMatched = 2,
    /// An address is neither foreign nor domestic by the order's table.
    Unlisted = 3,
    /// Both ends are domestic: never lawful.
    DomesticToDomestic = 4,
    /// A direction that the measure does not select.
    WrongDirection = 5,
    /// A record was made.
    Selected = 6,
}

/// Why a packet is malformed or unsupported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// Malformed: shorter than an Ethernet header.
    EthernetShort = 0,
    /// Malformed: a VLAN tag is cut off.
    VlanShort = 1,
    /// Malformed: an MPLS label is cut off.
    MplsShort = 2,
    /// Malformed: a PPPoE header is cut off or is not version 1 type 1.
    PppoeInvalid = 3,
    /// Malformed: an IPv4 header is cut off.
    Ipv4Short = 4,
    /// Malformed: EtherType and version nibble disagree.
    VersionMismatch = 5,
    /// Malformed: IPv4 header length below 20.
    Ipv4HeaderLength = 6,
    /// Malformed: IPv4 total length below its header length.
    Ipv4TotalLength = 7,
    /// Malformed: an IPv6 header is cut off.
    Ipv6Short = 8,
    /// Malformed: an IPv6 extension header is cut off or runs beyond the payload length.
    Ipv6ExtensionShort = 9,
    /// Malformed: TCP data offset below 5.
    TcpHeaderLength = 10,
    /// Malformed: a header of the mirror transport is cut off or runs beyond its IP length.
    TransportShort = 11,
    /// Unsupported: neither IPv4 nor IPv6.
    NotIp = 12,
    /// Unsupported: more VLAN tags than are walked.
    VlanTags = 13,
    /// Unsupported: more MPLS labels than are walked.
    MplsLabels = 14,
    /// Unsupported: more IPv6 extension headers than are walked.
    Ipv6Extensions = 15,
    /// Unsupported: headers reach beyond the furthest byte that is looked at.
    HeaderBytes = 16,
    /// Unsupported: the frame is not of the configured mirror transport, or of another session.
    TransportOther = 17,
    /// Unsupported: the mirror transport is addressed to another host.
    TransportAddress = 18,
    /// Unsupported: the mirror transport came in fragments.
    TransportFragment = 19,
}

/// Number of [`FacilityVerdict`]s.
pub const FACILITY_VERDICTS: usize = 3;
/// Number of [`Verdict`]s.
pub const VERDICTS: usize = 7;
/// Number of [`Reason`]s.
pub const REASONS: usize = 20;

/// Names of the facility verdicts, by number, as metrics and `replay` show them.
pub const FACILITY_VERDICT_NAMES: [&str; FACILITY_VERDICTS] = ["no_lease", "malformed", "unsupported"];
/// Names of the verdicts, by number.
pub const VERDICT_NAMES: [&str; VERDICTS] =
    ["not_sampled", "over_cap", "not_matched", "unlisted", "domestic_to_domestic", "wrong_direction", "selected"];
/// Names of the reasons, by number.
pub const REASON_NAMES: [&str; REASONS] = [
    "ethernet_short",
    "vlan_short",
    "mpls_short",
    "pppoe_invalid",
    "ipv4_short",
    "version_mismatch",
    "ipv4_header_length",
    "ipv4_total_length",
    "ipv6_short",
    "ipv6_extension_short",
    "tcp_header_length",
    "transport_short",
    "not_ip",
    "vlan_tags",
    "mpls_labels",
    "ipv6_extensions",
    "header_bytes",
    "transport_other",
    "transport_address",
    "transport_fragment",
];

/// Counters of one measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MeasureCounters {
    /// Packets by [`Verdict`].
    pub verdicts: [u64; VERDICTS],
    /// Packets that the cap admitted to selection.
    pub admitted_packets: u64,
    /// Bytes on the line of the admitted packets.
    pub admitted_bytes: u64,
    /// Records that a full ring lost; they are selected packets all the same.
    pub ring_lost: u64,
    /// Packets that were decided for another measure while this one had no lease: they have no verdict of this measure.
    pub idle_packets: u64,
}

/// Counters of one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// Packets seen, counted on entry.
    pub observed_packets: u64,
    /// Bytes on the line of packets seen (captured bytes and the line's overhead).
    pub observed_bytes: u64,
    /// Packets that were admitted for at least one measure, counted where several are in use: alone, a measure's own
    /// counters say it.
    pub admitted_packets: u64,
    /// Bytes on the line of these packets.
    pub admitted_bytes: u64,
    /// Packets by [`FacilityVerdict`].
    pub facility_verdicts: [u64; FACILITY_VERDICTS],
    /// Packets by [`Reason`].
    pub reasons: [u64; REASONS],
    /// Counters of each measure slot.
    pub measures: [MeasureCounters; MEASURES_MAX],
}

impl Counters {
    /// Adds another CPU's counters.
    pub fn add(&mut self, other: &Self) {
        self.observed_packets = self.observed_packets.wrapping_add(other.observed_packets);
        self.observed_bytes = self.observed_bytes.wrapping_add(other.observed_bytes);
        self.admitted_packets = self.admitted_packets.wrapping_add(other.admitted_packets);
        self.admitted_bytes = self.admitted_bytes.wrapping_add(other.admitted_bytes);
        add_each(&mut self.facility_verdicts, &other.facility_verdicts);
        add_each(&mut self.reasons, &other.reasons);
        for (mine, theirs) in self.measures.iter_mut().zip(&other.measures) {
            add_each(&mut mine.verdicts, &theirs.verdicts);
            mine.admitted_packets = mine.admitted_packets.wrapping_add(theirs.admitted_packets);
            mine.admitted_bytes = mine.admitted_bytes.wrapping_add(theirs.admitted_bytes);
            mine.ring_lost = mine.ring_lost.wrapping_add(theirs.ring_lost);
            mine.idle_packets = mine.idle_packets.wrapping_add(theirs.idle_packets);
        }
    }

    /// Packets with a verdict, as slot 0 sees them.
    #[must_use]
    pub fn judged_packets(&self) -> u64 {
        self.judged_packets_of(0)
    }

    /// Packets that are accounted for from the measure slot `slot` (in use): those with a facility verdict, those with
    /// one of the measure's verdicts, and those that were decided for others while it had no lease.
    ///
    /// Equal to `observed_packets` at rest; at most one packet a CPU behind it under load.
    #[must_use]
    pub fn judged_packets_of(&self, slot: usize) -> u64 {
        let facility: u64 = self.facility_verdicts.iter().sum();
        let measure =
            self.measures.get(slot).map_or(0, |measure| measure.verdicts.iter().sum::<u64>() + measure.idle_packets);
        facility + measure
    }
}

fn add_each(mine: &mut [u64], theirs: &[u64]) {
    for (mine, theirs) in mine.iter_mut().zip(theirs) {
        *mine = mine.wrapping_add(*theirs);
    }
}

const _: () = assert!(size_of::<Counters>() == 8 * (4 + FACILITY_VERDICTS + REASONS + MEASURES_MAX * 11));
