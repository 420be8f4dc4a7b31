//! What tests of the kernel side share: a set of one rule, its tables, a frame it selects, the program's clock.

use anyhow::Result;
use std::ops::RangeInclusive;
use tap_common::abi::policy::Lease;
use tap_common::abi::rule::ConditionKind;
use tap_common::limits::LEASE_NS_MAX;
use tap_common::path::direction::{AddressClass, Direction};
use tap_userspace::load::{MeasureParameters, Tables};
use tap_userspace::prefixes::country::CountryTable;
use tap_userspace::selectors::rule::{AddressItem, AddressValues};
use tap_userspace::selectors::{CheckedRule, CheckedSet};

/// UDP from 198.51.100.0/24 (foreign) to 203.0.113.0/24 (domestic): to one port, or to any.
///
/// # Errors
/// Never for these values; the compiler of tables may refuse.
pub fn tables(port: Option<u16>) -> Result<Tables> {
    tables_of(vec![rule(port.map(|port| vec![port..=port]))?], (1_000_000, 7))
}

/// The same with a rule for each element, to any of its ports.
///
/// # Errors
/// As [`tables`].
pub fn tables_of_ports(rules: &[&[u16]]) -> Result<Tables> {
    let one = |ports: &&[u16]| rule(Some(ports.iter().map(|port| *port..=*port).collect()));
    tables_of(rules.iter().map(one).collect::<Result<_>>()?, (1_000_000, 7))
}

/// As [`tables`] for any port, with a sample of `ppm` parts per million of the flows by `seed`.
///
/// # Errors
/// As [`tables`].
pub fn tables_sampled(ppm: u32, seed: u64) -> Result<Tables> {
    tables_of(vec![rule(None)?], (ppm, seed))
}

fn rule(destination_port: Option<Vec<RangeInclusive<u16>>>) -> Result<CheckedRule> {
    let prefixes = vec!["198.51.100.0/24".parse()?];
    Ok(CheckedRule {
        id: "one".into(),
        act: "a-1".into(),
        source_address: Some(AddressValues { item: AddressItem::FacilityAddress, entries: prefixes.clone(), prefixes }),
        destination_address: None,
        address: None,
        source_port: None,
        destination_port,
        port: None,
        protocol: Some(vec![17]),
        tcp_flags: None,
        ip_length: None,
        fragment: None,
        payload: None,
        counted: vec![ConditionKind::Address, ConditionKind::Protocol],
    })
}

fn tables_of(rules: Vec<CheckedRule>, (sampling_ppm, sampling_seed): (u32, u64)) -> Result<Tables> {
    let set = CheckedSet { measure: "m-1".into(), version: 1, sha256: [0; 32], rules, scope: None, ends: Vec::new() };
    let country = CountryTable::from_flags(&["203.0.113.0/24".parse()?], &[], AddressClass::Foreign)?;
    let parameters = MeasureParameters {
        directions: 1 << Direction::ForeignToDomestic as u32,
        conditions_min: 2,
        sampling_ppm,
        sampling_seed,
    };
    Ok(Tables::compile(&set, &parameters, &country)?)
}

/// A UDP frame of `bytes` bytes (42 or more), from 198.51.100.9 port 4000 to 203.0.113.7 port `port`.
#[must_use]
pub fn udp_frame(port: u16, bytes: usize) -> Vec<u8> {
    let [length_high, length_low] = u16::try_from(bytes - 14).unwrap_or(u16::MAX).to_be_bytes();
    let [payload_high, payload_low] = u16::try_from(bytes - 34).unwrap_or(u16::MAX).to_be_bytes();
    let [port_high, port_low] = port.to_be_bytes();
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, length_high, length_low, 0, 0, 0, 0, 64, 17, 0, 0, 198, 51, 100, 9, 203, 0, 113, 7]);
    frame.extend([0x0f, 0xa0, port_high, port_low, payload_high, payload_low, 0, 0]);
    frame.resize(bytes, 0x55);
    frame
}

/// The program's clock: nanoseconds of `CLOCK_BOOTTIME`.
///
/// # Errors
/// The system does not tell.
pub fn now_ns() -> Result<u64> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)?;
    Ok(u64::try_from(now.tv_sec())? * 1_000_000_000 + u64::try_from(now.tv_nsec())?)
}

/// The longest lease from now on.
///
/// # Errors
/// As [`now_ns`].
pub fn lease_from_now() -> Result<Lease> {
    let now = now_ns()?;
    Ok(Lease { not_before_ns: now - 1, deadline_ns: now + LEASE_NS_MAX })
}
