//! Generated packets and selector sets: layered so that every stage is reached, then damaged so that every bound is.
//!
//! Addresses, ports and lengths come from small pools, so that rules and packets meet.

use crate::packet::{Layer, build};
use crate::random::Random;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, Ipv6Addr};
use tap_common::limits::SIGNATURE_BYTES_MAX;

/// Prefixes of the pool's addresses that are domestic; `FOREIGN` are foreign, the pool's others unlisted.
pub const DOMESTIC: [&str; 3] = ["203.0.113.0/24", "2001:db8:d::/48", "198.51.100.128/25"];
/// Foreign prefixes of the pool.
pub const FOREIGN: [&str; 3] = ["198.51.100.0/25", "2001:db8:f::/48", "2001:db8:f0::/47"];

/// How many of a hundred fields that could lie do, times the field's own weight.
const LIES: u64 = 1;

const PORTS: [u16; 8] = [0, 22, 53, 80, 443, 8_080, 51_000, 65_535];

/// A frame; some are shorter than an Ethernet header.
pub fn frame(random: &mut Random) -> Vec<u8> {
    if random.chance(3) {
        let length = random.index(0..120);
        return random.bytes(length);
    }
    // Layers made here hold no hex digits that could be wrong.
    let mut bytes = build(&layers(random, LIES)).unwrap_or_default();
    if random.chance(15) {
        let length = random.index(0..bytes.len() + 1);
        bytes.truncate(length);
    }
    if random.chance(10) {
        for _ in 0..random.below(1..5) {
            flip_bit(random, &mut bytes);
        }
    }
    bytes
}

/// A frame whose headers are true and whole, and the place where its payload begins.
pub fn honest_frame(random: &mut Random) -> (Vec<u8>, usize) {
    let layers = layers(random, 0);
    let payload = match layers.last() {
        Some(Layer::Payload { bytes }) => *bytes,
        _ => 0,
    };
    let bytes = build(&layers).unwrap_or_default();
    let start = bytes.len().saturating_sub(payload);
    (bytes, start)
}

/// Flips a bit of the first hundred bytes, where the headers are.
pub(crate) fn flip_bit(random: &mut Random, bytes: &mut [u8]) {
    let place = random.index(0..bytes.len().min(100));
    let bit = 1 << random.below(0..8);
    if let Some(byte) = bytes.get_mut(place) {
        *byte ^= bit;
    }
}

fn layers(random: &mut Random, lies: u64) -> Vec<Layer> {
    let mut layers = Vec::new();
    let other = random.chance(3 * lies).then(|| random.pick([0x0806, 0x88cc, 0x0042, 0x8863, 0x0800, 0x86dd]));
    layers.push(Layer::Ethernet { ether_type: other });
    if random.chance(25) {
        for _ in 0..random.pick([1, 1, 1, 2, 2, 3, 4]) {
            let protocol = random.pick([0x8100, 0x88a8, 0x9100, 0x9200]);
            layers.push(Layer::Vlan { protocol: Some(protocol), id: random.short(), ether_type: None });
        }
    }
    match random.below(0..100) {
        0..10 => {
            let version_type = if random.chance(10 * lies) { random.byte() } else { 0x11 };
            let protocol = random.chance(5 * lies).then(|| random.short());
            layers.push(Layer::Pppoe { version_type: Some(version_type), protocol });
        }
        10..25 => {
            for _ in 0..random.pick([1, 1, 2, 3, 7, 8, 9]) {
                layers.push(Layer::Mpls {
                    label: random.short().into(),
                    bottom: random.chance(3 * lies).then_some(true),
                });
            }
        }
        _ => {}
    }
    if random.chance(55) {
        ipv4(random, &mut layers, lies)
    } else {
        ipv6(random, &mut layers, lies)
    }
    if random.chance(92) {
        layers.push(transport(random, lies));
    }
    let payload =
        if random.chance(95) { random.index(0..64) } else { random.pick([1_400, 3_400, 3_600, 9_000, 17_000]) };
    layers.push(Layer::Payload { bytes: payload });
    layers
}

fn ipv4(random: &mut Random, layers: &mut Vec<Layer>, lies: u64) {
    let (fragment_offset, more_fragments) = match random.below(0..100) {
        0..8 => (0, true),
        8..14 => (random.short(), false),
        14..20 => (random.short(), true),
        _ => (0, false),
    };
    layers.push(Layer::Ipv4 {
        source: address4(random),
        destination: address4(random),
        version: random.chance(2 * lies).then(|| random.byte() & 15),
        option_words: if random.chance(80) { 0 } else { random.pick([1, 2, 5, 10]) },
        header_words: random.chance(3 * lies).then(|| random.byte() & 15),
        total_length: random.chance(8 * lies).then(|| length(random)),
        protocol: random.chance(3 * lies).then(|| random.byte()),
        fragment_offset,
        more_fragments,
    });
}

fn ipv6(random: &mut Random, layers: &mut Vec<Layer>, lies: u64) {
    layers.push(Layer::Ipv6 {
        source: address6(random),
        destination: address6(random),
        version: random.chance(2 * lies).then(|| random.byte() & 15),
        payload_length: random.chance(8 * lies).then(|| length(random)),
        next_header: random.chance(2 * lies).then(|| random.byte()),
    });
    if random.chance(60) {
        return;
    }
    for _ in 0..random.pick([1, 1, 1, 2, 2, 3, 4, 7, 8, 9]) {
        let next_header = random.chance(2 * lies).then(|| random.byte());
        let layer = match random.below(0..10) {
            0..6 => {
                let units = if random.chance(85) { random.pick([0, 0, 0, 1, 2]) } else { random.pick([12, 100, 255]) };
                Layer::Extension { protocol: random.pick([0, 43, 60]), units, next_header }
            }
            6..8 => {
                let offset = if random.chance(50) { 0 } else { random.short() >> 3 };
                Layer::Fragment { offset, more_fragments: random.chance(60), next_header }
            }
            _ => Layer::Authentication { words: Some(random.pick([0, 1, 4, 4, 4, 50])), next_header },
        };
        layers.push(layer);
    }
}

fn transport(random: &mut Random, lies: u64) -> Layer {
    let (source_port, destination_port) = (random.pick(PORTS), random.pick(PORTS));
    match random.below(0..100) {
        0..50 => Layer::Tcp {
            source_port,
            destination_port,
            flags: if random.chance(50) { random.pick([2, 18, 16, 24, 17, 4]) } else { random.byte() },
            header_words: random.chance(10 * lies).then(|| random.byte() & 15),
        },
        50..85 => Layer::Ports { protocol: random.pick([17, 17, 17, 132, 33, 136]), source_port, destination_port },
        _ => Layer::Other { protocol: random.pick([1, 58, 2, 47, 50, 59, 89, 135]) },
    }
}

fn length(random: &mut Random) -> u16 {
    if random.chance(70) { random.pick([0, 1, 7, 8, 19, 20, 21, 24, 28, 40, 60, 65_535]) } else { random.short() }
}

fn address4(random: &mut Random) -> Ipv4Addr {
    let prefix = random.pick([[203, 0, 113], [198, 51, 100], [192, 0, 2]]);
    Ipv4Addr::new(prefix[0], prefix[1], prefix[2], random.pick([1, 2, 7, 100, 129, 200, 255]))
}

fn address6(random: &mut Random) -> Ipv6Addr {
    let site = random.pick([0xd, 0xf, 0xf0, 0xf1, 0xe]);
    Ipv6Addr::new(0x2001, 0xdb8, site, random.pick([0, 1]), 0, 0, 0, random.pick([1, 2, 0x80]))
}

/// A selector set of `rules` rules that the check of a laboratory order lets through: every rule has an address
/// condition and another that counts, most have more.
pub fn selector_set(random: &mut Random, rules: usize) -> Value {
    let rules: Vec<Value> = (0..rules).map(|number| rule(random, number)).collect();
    json!({"measure": "m-laboratory", "version": 1, "standard": "s-laboratory", "rules": rules})
}

/// The same with no other fields than addresses, ports and protocol, as most sets have them: those packets' way is the brief one.
pub fn common_selector_set(random: &mut Random, rules: usize) -> Value {
    let rules: Vec<Value> = (0..rules).map(|number| rule_of(random, number, &[])).collect();
    json!({"measure": "m-laboratory", "version": 1, "standard": "s-laboratory", "rules": rules})
}

/// [`selector_set`] with payload conditions beside some rules' others, `signatures` at most. Generated payloads are all 0xaa, so
/// that most of them hold where the packet reaches far enough.
pub fn payload_selector_set(random: &mut Random, rules: usize, signatures: usize) -> Value {
    let set = selector_set(random, rules);
    with_payload(random, set, signatures)
}

/// A set with payload conditions beside some rules' others, `signatures` at most.
pub fn with_payload(random: &mut Random, mut set: Value, signatures: usize) -> Value {
    let mut left = signatures;
    for rule in set.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten() {
        let conditions = rule.get_mut("conditions").and_then(Value::as_array_mut);
        if let Some(conditions) = conditions
            && left > 0
            && random.chance(50)
        {
            conditions.push(payload(random));
            left -= 1;
        }
    }
    set
}

fn payload(random: &mut Random) -> Value {
    let mut bytes = vec![0xaa; random.index(1..SIGNATURE_BYTES_MAX + 1)];
    let mut mask: Vec<u8> = bytes.iter().map(|_| random.pick([0xff, 0xff, 0xf0, 0x01, 0])).collect();
    if let (Some(last), Some(looked_at)) = (bytes.last_mut(), mask.last_mut()) {
        *last = random.pick([0xaa, 0xaa, 0xaa, 0xab]);
        *looked_at |= 0x11;
    }
    let offset = random.pick([0, 0, 1, 4, 16, 40, 1_000]);
    json!({
        "item": "command", "field": "payload", "offset": offset, "bytes": hex::encode(bytes), "mask": hex::encode(mask),
    })
}

/// A rule of [`selector_set`], with the id `r` and its number.
pub fn rule(random: &mut Random, number: usize) -> Value {
    rule_of(random, number, &["tcp-flags", "ip-length", "fragment"])
}

/// A rule with conditions on an address, a port or one of `rare`, and some more.
fn rule_of(random: &mut Random, number: usize, rare: &[&'static str]) -> Value {
    let mut fields = vec![random.pick(["source-address", "destination-address", "address"])];
    let second: Vec<&str> = ["source-port", "destination-port", "port"].iter().chain(rare).copied().collect();
    fields.extend(second.get(random.index(0..second.len())));
    for more in ["source-address", "destination-address", "address", "source-port", "destination-port", "port"] {
        if random.chance(8) && !fields.contains(&more) {
            fields.push(more);
        }
    }
    for more in ["protocol"].iter().chain(rare) {
        if random.chance(15) && !fields.contains(more) {
            fields.push(more);
        }
    }
    let conditions: Vec<Value> = fields.into_iter().map(|field| condition(random, field)).collect();
    json!({
        "id": format!("r{number}"), "act": "a-1", "reason": "generated", "valid_until": "2199-01-01T00:00:00Z",
        "conditions": conditions,
    })
}

fn condition(random: &mut Random, field: &'static str) -> Value {
    match field {
        "source-address" | "destination-address" | "address" => {
            let any: Vec<String> = (0..random.below(1..6)).map(|_| prefix(random)).collect();
            json!({"item": "facility-address", "field": field, "any": any})
        }
        "source-port" | "destination-port" | "port" => {
            let any: Vec<String> = (0..random.below(1..4)).map(|_| port_range(random)).collect();
            json!({"item": "aid", "field": field, "any": any})
        }
        "protocol" => {
            let any = random.pick([&["tcp"][..], &["udp", "132"], &["6", "17", "1", "58"], &["59", "253"]]);
            json!({"item": "aid", "field": field, "any": any})
        }
        "tcp-flags" => {
            let (mask, value) =
                random.pick([("SYN,ACK", "SYN"), ("SYN,ACK", "SYN,ACK"), ("RST", "RST"), ("FIN,ACK", "ACK")]);
            json!({"item": "aid", "field": field, "mask": mask, "value": value})
        }
        "ip-length" => {
            let range = random.pick([[20, 60], [40, 2_000], [0, 39], [61, 100], [1_000, 30_000]]);
            json!({"item": "aid", "field": field, "range": range})
        }
        _ => {
            let any = random.pick([&["none"][..], &["first"], &["later"], &["first", "later"]]);
            json!({"item": "aid", "field": "fragment", "any": any})
        }
    }
}

fn prefix(random: &mut Random) -> String {
    if random.chance(50) {
        format!("{}/{}", address4(random), random.pick([16, 23, 24, 25, 27, 31, 32, 32, 32]))
    } else {
        format!("{}/{}", address6(random), random.pick([32, 44, 47, 48, 57, 64, 127, 128, 128, 128]))
    }
}

fn port_range(random: &mut Random) -> String {
    let port = random.pick(PORTS);
    if random.chance(60) {
        return port.to_string();
    }
    format!("{}-{}", port.saturating_sub(random.pick([0, 1, 100])), port.saturating_add(random.pick([0, 1, 1_000])))
}
