//! What must become of a packet, by plain code: one number for a bucket, a list walked for the rules.
//!
//! In: a world as text, leases, the clock, a frame. Out: the verdicts that the product must give. The flow hash alone is
//! the product's, for it is a definition and not a behaviour; that it is the same in both directions is checked here.

use super::naive::{self, Reading};
use super::world::{Known, SAMPLING_SEED, World};
use crate::oracle::Fields;
use anyhow::{Result, ensure};
use std::collections::BTreeSet;
use std::net::IpAddr;
use tap_common::abi::policy::Lease;
use tap_common::abi::record::FLAG_PORTS;
use tap_common::limits::{EPOCH_NS, MEASURES_MAX, PPM};
use tap_common::path::parse::{FRAGMENT_NAMES, Headers};
use tap_common::path::sample::flow_hash;
use tap_common::path::verdict::Decision;

/// The host's world has one CPU: a bucket is what is left of the latest epoch's credit. Nothing is there before the first.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    epoch: u64,
    left: u64,
}

impl Bucket {
    fn admits(&mut self, now_ns: u64, bytes: u64, credit: u64) -> bool {
        let epoch = now_ns / EPOCH_NS;
        // A clock that stepped back meets the latest epoch that it knew.
        if epoch > self.epoch {
            *self = Self { epoch, left: credit };
        }
        let admits = bytes <= self.left;
        if admits {
            self.left -= bytes;
        }
        admits
    }
}

/// Verdicts of one packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The facility's verdict, when no measure has one.
    pub facility: Option<&'static str>,
    /// Why the packet is malformed or unsupported.
    pub reason: Option<&'static str>,
    /// Bytes on the line.
    pub line_bytes: usize,
    /// Each slot's verdict.
    pub verdicts: [Option<&'static str>; MEASURES_MAX],
    /// Slot and id of each rule that matched, among the measures that came as far as selection.
    pub rules: BTreeSet<(usize, String)>,
}

/// The state that carries over from packet to packet.
#[derive(Clone, Debug)]
pub struct Model {
    /// Leases by slot.
    pub leases: [Lease; MEASURES_MAX],
    /// Credit of an epoch of the facility's bucket and of each measure's; none when the cap is off.
    pub credits: Option<(u64, u64)>,
    facility: Bucket,
    buckets: [Bucket; MEASURES_MAX],
}

impl Model {
    /// A model that has seen no packet.
    #[must_use]
    pub fn new(lease: Lease, credits: Option<(u64, u64)>) -> Self {
        Self {
            leases: [lease; MEASURES_MAX],
            credits,
            facility: Bucket::default(),
            buckets: [Bucket::default(); MEASURES_MAX],
        }
    }

    /// What must become of `frame`, and how it was read.
    ///
    /// # Errors
    /// When a rule says something that the oracle does not know, or the flow hash depends on the direction.
    pub fn expect(&mut self, world: &World, frame: &[u8], now_ns: u64) -> Result<(Expected, Reading)> {
        let reading = naive::read(frame);
        let mut expected = Expected { line_bytes: reading.line_bytes, ..Expected::default() };
        let live: Vec<usize> = (0..world.measures.len())
            .filter(|slot| self.leases.get(*slot).is_some_and(|l| (l.not_before_ns..l.deadline_ns).contains(&now_ns)))
            .collect();
        if live.is_empty() {
            expected.facility = Some("no_lease");
            // Nothing is looked at, so the IP length does not count.
            expected.line_bytes = frame.len() + tap_common::limits::LINE_OVERHEAD_BYTES as usize;
            return Ok((expected, reading));
        }
        let fields = match &reading.fields {
            Ok(fields) => fields,
            Err(reason) => {
                let unsupported = ["not_ip", "vlan_tags", "mpls_labels", "ipv6_extensions", "header_bytes"];
                expected.facility = Some(if unsupported.contains(reason) { "unsupported" } else { "malformed" });
                expected.reason = Some(reason);
                return Ok((expected, reading));
            }
        };
        let hash = hash(fields)?;
        let sampled: Vec<usize> = live
            .iter()
            .copied()
            .filter(|slot| world.measures.get(*slot).is_some_and(|m| u128::from(hash) * u128::from(PPM) < keeps(m)))
            .collect();
        let admitted = self.admitted(&sampled, world.measures.len(), now_ns, reading.line_bytes as u64);
        for slot in live {
            let verdict = if !sampled.contains(&slot) {
                "not_sampled"
            } else if !admitted.contains(&slot) {
                "over_cap"
            } else {
                judge(world, slot, fields, frame, &reading, &mut expected.rules)?
            };
            if let Some(place) = expected.verdicts.get_mut(slot) {
                *place = Some(verdict);
            }
        }
        Ok((expected, reading))
    }

    /// The facility is charged once; a measure that is not alone is charged too.
    fn admitted(&mut self, sampled: &[usize], measures: usize, now_ns: u64, bytes: u64) -> Vec<usize> {
        let Some((facility, own)) = self.credits else { return sampled.to_vec() };
        if sampled.is_empty() || !self.facility.admits(now_ns, bytes, facility) {
            return Vec::new();
        }
        let buckets = &mut self.buckets;
        let admits = |slot: &usize| {
            measures < 2 || buckets.get_mut(*slot).is_some_and(|bucket| bucket.admits(now_ns, bytes, own))
        };
        sampled.iter().copied().filter(admits).collect()
    }
}

/// A 32-bit hash is in the sample when `hash × 10^6` is below this; a threshold is a whole number, rounded down.
fn keeps(measure: &Known) -> u128 {
    ((u128::from(measure.sampling_ppm) << 32) / u128::from(PPM)) * u128::from(PPM)
}

/// The verdict of a measure that came as far as selection; adds the rules that matched to `matched`.
fn judge(
    world: &World,
    slot: usize,
    fields: &Fields,
    frame: &[u8],
    reading: &Reading,
    matched: &mut BTreeSet<(usize, String)>,
) -> Result<&'static str> {
    let Some(measure) = world.measures.get(slot) else { return Ok("not_matched") };
    let mut any = false;
    for id in measure.rules.matching(fields)? {
        let payload = measure.payload.get(&id);
        if payload.is_none_or(|p| reading.has_payload(frame, p.offset as usize, &p.bytes, &p.mask)) {
            any = true;
            matched.insert((slot, id));
        }
    }
    let direction = measure.file.direction(fields);
    Ok(match direction.as_str() {
        _ if !any => "not_matched",
        "unlisted" => "unlisted",
        "domestic-to-domestic" => "domestic_to_domestic",
        lawful if lawful == measure.file.basis => "selected",
        _ => "wrong_direction",
    })
}

/// The flow's hash, the same for both directions.
fn hash(fields: &Fields) -> Result<u32> {
    let there = headers(fields, fields.source, fields.destination, fields.source_port, fields.destination_port);
    let back = headers(fields, fields.destination, fields.source, fields.destination_port, fields.source_port);
    let hash = flow_hash(&there, SAMPLING_SEED);
    ensure!(hash == flow_hash(&back, SAMPLING_SEED), "the two directions of a flow have two hashes");
    Ok(hash)
}

fn headers(
    fields: &Fields,
    source: IpAddr,
    destination: IpAddr,
    source_port: Option<u16>,
    destination_port: Option<u16>,
) -> Headers {
    let halves = |address: IpAddr| {
        let bits = match address {
            IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
            IpAddr::V6(address) => u128::from(address),
        };
        [u64::try_from(bits >> 64).unwrap_or(0), u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0)]
    };
    let fragment = FRAGMENT_NAMES.iter().position(|name| *name == fields.fragment).unwrap_or(0);
    Headers {
        source: halves(source),
        destination: halves(destination),
        source_port: source_port.unwrap_or(0),
        destination_port: destination_port.unwrap_or(0),
        flags: if source_port.is_some() { FLAG_PORTS } else { 0 },
        protocol: fields.protocol,
        ip_version: fields.ip_version,
        fragment: u8::try_from(fragment).unwrap_or(0),
        ..Headers::default()
    }
}

/// What the product decided, in the model's words.
#[must_use]
pub fn found(world: &World, decision: &Decision) -> Expected {
    use tap_common::abi::counter::{FACILITY_VERDICT_NAMES, VERDICT_NAMES};
    let mut verdicts = [None; MEASURES_MAX];
    for (slot, place) in (0..).zip(&mut verdicts) {
        *place = decision.verdict(slot).and_then(|verdict| VERDICT_NAMES.get(verdict as usize).copied());
    }
    let bits = decision
        .rules
        .iter()
        .enumerate()
        .flat_map(|(word, rules)| (0..64).filter(move |bit| rules >> bit & 1 == 1).map(move |bit| word * 64 + bit));
    // A bit that is no rule's has no name, and is a difference.
    let unknown = (usize::MAX, String::new());
    Expected {
        facility: FACILITY_VERDICT_NAMES.get(usize::from(decision.outcome.0)).copied(),
        reason: decision.reason_name(),
        line_bytes: decision.line_bytes as usize,
        verdicts,
        rules: bits.map(|bit| world.rule(bit).unwrap_or_else(|| unknown.clone())).collect(),
    }
}
