//! Measurements by `BPF_PROG_TEST_RUN`: the product's way behind a pool of flows, the bare drop and a foreign filter beside
//! it. In: how many flows, how many rounds. Out: medians and ratios. What bounds it: repeats are counted, never timed out.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use ipnetwork::{IpNetwork, Ipv4Network};
use tap_common::abi::rule::ConditionKind;
use tap_common::path::direction::AddressClass;
use tap_userspace::load::bench::{Bench, Flow, Program};
use tap_userspace::load::{MeasureParameters, Tables, cap_policy};
use tap_userspace::prefixes::country::CountryTable;
use tap_userspace::selectors::rule::{AddressItem, AddressValues};
use tap_userspace::selectors::{CheckedRule, CheckedSet};

use crate::lab::Host;
use crate::need;

/// Runs of one measurement: a hundredth of a second or more, so that whole nanoseconds are enough.
const REPEAT: u32 = 1 << 19;
/// Runs of a measurement that makes records: what one empty ring takes.
const REPEAT_RECORDS: u32 = 8_000;
/// Prefixes in the selector set.
const SELECTORS: u32 = 10_000;

/// One case: its cost, and the cost of what it is compared with.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Case {
    /// Nanoseconds for each packet.
    pub ns: u64,
    /// Nanoseconds of the reference.
    pub reference_ns: u64,
    /// `ns / reference_ns`.
    pub ratio: f64,
    /// What the reference is.
    pub reference: &'static str,
}

impl Case {
    fn new(ns: u64, reference_ns: u64, reference: &'static str) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "nanoseconds of one packet")]
        let ratio = ns as f64 / reference_ns.max(1) as f64;
        Self { ns, reference_ns, ratio, reference }
    }
}

/// Results over one pool.
pub struct Pooled {
    /// `XDP_DROP` alone.
    pub bare_ns: u64,
    /// `XDP_DROP` behind the pool.
    pub base_ns: u64,
    /// The cases, by name.
    pub cases: BTreeMap<&'static str, Case>,
}

/// Measures the pooled cases with `flows` flows (1,024 or 65,536).
///
/// # Errors
/// The kernel refuses a program or a run.
pub fn pooled(flows: u32, rounds: u32) -> Result<Pooled> {
    let names = if flows == 1_024 {
        ["not_selected_1k_flows_10k_selectors", "not_sampled_1k_flows", "selected_1k_flows"]
    } else {
        ["not_selected_64k_flows_10k_selectors", "not_sampled_64k_flows", "selected_64k_flows"]
    };
    let elsewhere: Vec<Flow> = (0..flows).map(|flow| self::flow(flow, Ipv4Addr::new(11, 0, 0, 0))).collect();
    let selected: Vec<Flow> = (0..flows).map(|flow| self::flow(flow, Ipv4Addr::new(20, 0, 0, 0))).collect();
    let unlimited = cap_policy(400_000_000_000, 1_000_000)?;
    let mut missing = Bench::new(&tables(1_000_000)?, &elsewhere, unlimited)?;
    let mut unsampled = Bench::new(&tables(0)?, &elsewhere, unlimited)?;
    let mut matching = Bench::new(&tables(1_000_000)?, &selected, unlimited)?;
    let mut samples: [Vec<u64>; 5] = Default::default();
    // One round that is not counted: caches and the frequency of the processor settle.
    for round in 0..=rounds {
        matching.renew_rings()?;
        let now = [
            missing.measure(Program::Bare, &frame(), REPEAT)?,
            missing.measure(Program::Base, &frame(), REPEAT)?,
            missing.measure(Program::Pooled, &frame(), REPEAT)?,
            unsampled.measure(Program::Pooled, &frame(), REPEAT)?,
            matching.measure(Program::Pooled, &frame(), REPEAT_RECORDS)?,
        ];
        if round > 0 {
            samples.iter_mut().zip(now).for_each(|(samples, now)| samples.push(now));
        }
    }
    let [bare_ns, base_ns, not_selected, not_sampled, with_record] = samples.map(median);
    let cases = names
        .into_iter()
        .zip([not_selected, not_sampled, with_record])
        .map(|(name, ns)| (name, Case::new(ns, base_ns, "base")))
        .collect();
    Ok(Pooled { bare_ns, base_ns, cases })
}

/// The product's way on one constant packet beside Debian's xdp-filter with one IPv4 rule, both not selecting it.
/// The reason, where xdp-filter cannot be measured here.
///
/// # Errors
/// The kernel refuses our program or a run.
pub fn against_xdp_filter(rounds: u32) -> Result<Result<Case, String>> {
    let (Some(filter), Some(bpftool)) = (need::find("xdp-filter"), need::find("bpftool")) else {
        return Ok(Err("xdp-filter or bpftool is not installed".to_owned()));
    };
    let host = Host::with_bpf("filter")?;
    host.run("ip", ["link", "add", "port", "type", "veth", "peer", "name", "router"])?;
    host.run("ip", ["link", "set", "port", "up"])?;
    let program = filter.to_string_lossy().into_owned();
    host.run(&program, ["load", "-m", "native", "-f", "ipv4", "port"])?;
    host.run(&program, ["ip", "-m", "src", "192.0.2.77"])?;
    let tool = bpftool.to_string_lossy().into_owned();
    let shown: serde_json::Value = serde_json::from_str(&host.run(&tool, ["-j", "net", "show"])?)?;
    let id = shown
        .pointer("/0/xdp/0/id")
        .and_then(serde_json::Value::as_u64)
        .context("bpftool does not show xdp-filter's program")?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("frame");
    std::fs::write(&file, frame())?;
    let line =
        ["prog", "run", "id", &id.to_string(), "data_in", &file.to_string_lossy(), "repeat", &REPEAT.to_string()]
            .map(str::to_owned);
    let unlimited = cap_policy(400_000_000_000, 1_000_000)?;
    let mut ours = Bench::new(&tables(1_000_000)?, &[flow(0, Ipv4Addr::new(11, 0, 0, 0))], unlimited)?;
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let ns = ours.measure(Program::Constant, &frame(), REPEAT)?;
        let text = host.run(&tool, &line)?;
        let foreign = text.rsplit_once("(average): ").and_then(|(_, rest)| rest.split("ns").next()?.parse().ok());
        if round > 0 {
            mine.push(ns);
            theirs.push(foreign.with_context(|| format!("bpftool does not tell a duration: {text}"))?);
        }
    }
    host.run(&program, ["unload", "port"])?;
    Ok(Ok(Case::new(median(mine), median(theirs), "xdp-filter")))
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

/// A TCP segment of 66 bytes; the pool writes addresses and ports into it.
fn frame() -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, 0, 52, 0, 0, 0x40, 0, 64, 6, 0, 0, 11, 0, 0, 1, 133, 1, 2, 3]);
    frame.extend([0x9c, 0x40, 1, 0xbb, 0, 0, 0, 1, 0, 0, 0, 1, 0x80, 0x10, 0, 0xff, 0, 0, 0, 0]);
    frame.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    frame
}

/// Flow `number`: from a source scattered over the /8 of `network` to a domestic server's port 443.
fn flow(number: u32, network: Ipv4Addr) -> Flow {
    // An odd multiplier walks all 2^24 addresses without a pattern that a cache would like.
    let source = u32::from(network) | (number.wrapping_mul(0x9e_3779) & 0x00ff_ffff);
    let destination = Ipv4Addr::new(133, 1, 2, 3);
    let port = 1_024 + u16::try_from(number % 60_000).unwrap_or(0);
    Flow::new(Ipv4Addr::from(source), destination, port, 443)
}

/// 10,000 scattered /24 and all of 20.0.0.0/8's, as one rule with a port; nothing of 11.0.0.0/8.
fn tables(sampling_ppm: u32) -> Result<Tables> {
    let scattered = (0..SELECTORS)
        .map(|number| (60 << 24) | ((number.wrapping_mul(0x9e37) & 0xffff) << 8))
        .map(|network| Ipv4Network::new(Ipv4Addr::from(network), 24).map(IpNetwork::V4))
        .chain(std::iter::once(Ipv4Network::new(Ipv4Addr::new(20, 0, 0, 0), 8).map(IpNetwork::V4)))
        .collect::<Result<Vec<_>, _>>()?;
    let entries = tap_userspace::prefixes::merge(scattered);
    let rule = CheckedRule {
        id: "bench".to_owned(),
        act: "bench".to_owned(),
        source_address: Some(AddressValues { item: AddressItem::FacilityAddress, prefixes: entries.clone(), entries }),
        destination_address: None,
        address: None,
        source_port: None,
        destination_port: Some(vec![443..=443]),
        port: None,
        protocol: Some(vec![6]),
        tcp_flags: None,
        ip_length: None,
        fragment: None,
        counted: vec![ConditionKind::Address, ConditionKind::Port],
    };
    let set = CheckedSet {
        measure: "bench".to_owned(),
        version: 1,
        sha256: [0; 32],
        rules: vec![rule],
        scope: None,
        valid_until: None,
    };
    let country = CountryTable::from_flags(&["133.0.0.0/8".parse()?], &[], AddressClass::Foreign)?;
    let parameters = MeasureParameters { directions: 1 << 2, conditions_min: 2, sampling_ppm, sampling_seed: 7 };
    Ok(Tables::compile(&set, &parameters, &country)?)
}
