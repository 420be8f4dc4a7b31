//! Mirrored frames: generated ones inside every mirror transport, some with lies in the transport's own headers.

use crate::generate;
use crate::packet::{Layer, build};
use crate::random::Random;
use std::net::{Ipv4Addr, Ipv6Addr};
use tap_userspace::config::transport::Transport;

/// Where the router sends.
pub const LOCAL4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// The same in IPv6.
pub const LOCAL6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xaaaa, 0, 0, 0, 0, 0x10);
/// The session, key or identifier that keyed configurations take.
const KEY: u32 = 5;

/// Configurations whose frames are generated, with what tshark calls the transport.
///
/// # Errors
/// Never: they are written down here.
pub fn configurations() -> anyhow::Result<Vec<(Transport, &'static str)>> {
    let local = format!("local={LOCAL4},local={LOCAL6}");
    let texts = [
        ("erspan", String::new()),
        ("erspan", format!(",key={KEY}")),
        ("gre-teb", String::new()),
        ("gre-teb", format!(",key={KEY}")),
        ("vxlan", String::new()),
        ("vxlan", format!(",key={KEY}")),
    ];
    let configuration = |(kind, rest): (&'static str, String)| {
        let transport = format!("{kind},{local}{rest}").parse().map_err(anyhow::Error::msg)?;
        Ok((transport, if kind == "gre-teb" { "gre" } else { kind }))
    };
    texts.into_iter().map(configuration).collect()
}

/// A generated frame in the transport that `transport` takes, or in another; often a false, damaged or foreign one.
pub fn frame(random: &mut Random, transport: &Transport) -> Vec<u8> {
    let other = random.pick(["erspan", "gre-teb", "vxlan"]);
    let kind = if random.chance(5) { other } else { transport.kind.name() };
    let inner = generate::frame(random);
    let mut bytes = in_transport(random, kind, &inner, 1);
    if random.chance(10) {
        let length = random.index(0..bytes.len() + 1);
        bytes.truncate(length);
    }
    if random.chance(10) {
        for _ in 0..random.below(1..4) {
            generate::flip_bit(random, &mut bytes);
        }
    }
    bytes
}

/// A frame whose headers are true and whole, outside and inside, in a transport that `transport` takes.
pub fn honest_frame(random: &mut Random, transport: &Transport) -> Vec<u8> {
    let (inner, _) = generate::honest_frame(random);
    in_transport(random, transport.kind.name(), &inner, 0)
}

fn in_transport(random: &mut Random, kind: &str, inner: &[u8], lies: u64) -> Vec<u8> {
    let mut layers = vec![Layer::Ethernet { ether_type: None }];
    for _ in 0..random.pick([0, 0, 0, 0, 1, 1, 2, 3]) {
        layers.push(Layer::Vlan { protocol: None, id: random.short() & 0x0fff, ether_type: None });
    }
    outer_ip(random, &mut layers, lies);
    match kind {
        "vxlan" => {
            let destination_port = if random.chance(3 * lies) { random.short() } else { 4_789 };
            layers.push(Layer::Ports { protocol: 17, source_port: 50_000, destination_port });
            let flags = random.chance(3 * lies).then(|| random.byte());
            layers.push(Layer::Vxlan { identifier: key(random, lies), flags });
        }
        "gre-teb" => {
            let protocol = random.chance(3 * lies).then(|| random.pick([0x6558, 0x0800, 0x88be]));
            let key = (lies == 0 || random.chance(60)).then(|| key(random, lies));
            let sequence = random.chance(40);
            layers.push(gre(random, protocol, key, sequence, lies));
        }
        _ => erspan(random, &mut layers, lies),
    }
    // Ethernet follows, whatever the bytes are: what a header says of the next layer is as if it were one.
    layers.push(Layer::Hex { digits: hex::encode(inner) });
    build(&layers).unwrap_or_default()
}

fn outer_ip(random: &mut Random, layers: &mut Vec<Layer>, lies: u64) {
    if random.chance(60) {
        layers.push(Layer::Ipv4 {
            source: Ipv4Addr::new(192, 0, 2, 1),
            destination: if random.chance(3 * lies) { Ipv4Addr::new(192, 0, 2, 11) } else { LOCAL4 },
            version: random.chance(2 * lies).then(|| random.byte() & 15),
            option_words: random.pick([0, 0, 0, 1, 5, 10]),
            header_words: random.chance(2 * lies).then(|| random.byte() & 15),
            total_length: random.chance(4 * lies).then(|| random.short() & 0x00ff),
            protocol: random.chance(2 * lies).then(|| random.byte()),
            fragment_offset: if random.chance(2 * lies) { random.short() } else { 0 },
            more_fragments: random.chance(2 * lies),
        });
        return;
    }
    layers.push(Layer::Ipv6 {
        source: Ipv6Addr::new(0x2001, 0xdb8, 0xaaaa, 0, 0, 0, 0, 1),
        destination: if random.chance(3 * lies) { Ipv6Addr::LOCALHOST } else { LOCAL6 },
        version: random.chance(2 * lies).then(|| random.byte() & 15),
        payload_length: random.chance(4 * lies).then(|| random.short() & 0x00ff),
        next_header: random.chance(2 * lies).then(|| random.byte()),
    });
    if random.chance(30) {
        let units = u8::from(random.chance(5 * lies));
        layers.push(Layer::Extension {
            protocol: if random.chance(5 * lies) { 0 } else { 60 },
            units,
            next_header: None,
        });
    }
    if random.chance(3 * lies) {
        layers.push(Layer::Fragment { offset: 0, more_fragments: true, next_header: None });
    }
}

fn erspan(random: &mut Random, layers: &mut Vec<Layer>, lies: u64) {
    // Type I has no session, so honest frames, which keyed configurations take too, are of the others.
    if random.chance(20 * lies) {
        layers.push(gre(random, Some(0x88be), None, false, lies));
        return;
    }
    let next = random.pick([2, 3]);
    let protocol = Some(if next == 3 { 0x22eb } else { 0x88be });
    layers.push(gre(random, protocol, None, true, lies));
    layers.push(Layer::Erspan {
        erspan_type: next,
        session: u16::try_from(key(random, lies) & 0x03ff).unwrap_or_default(),
        version: random.chance(3 * lies).then(|| random.byte() & 15),
        frame_type: if random.chance(5 * lies) { 2 } else { 0 },
        platform: random.chance(40),
    });
}

fn gre(random: &mut Random, protocol: Option<u16>, key: Option<u32>, sequence: bool, lies: u64) -> Layer {
    let flags = if random.chance(4 * lies) { 1 << random.below(0..16) } else { 0 };
    Layer::Gre { protocol, checksum: random.chance(20), key, sequence, flags }
}

fn key(random: &mut Random, lies: u64) -> u32 {
    if random.chance(30 * lies) { u32::from(random.short()) } else { KEY }
}
