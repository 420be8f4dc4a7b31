//! An independent oracle: tshark dissects, and the rules of a case file are evaluated over what it says.
//!
//! It shares nothing with the product: neither the parser, nor the selector set's types, nor the tables. Header
//! semantics are those of RFC 791 and RFC 8200: the outermost IP header counts; a later fragment has no ports and no
//! TCP flags; the protocol is the upper layer's, behind hop-by-hop, routing, fragment, authentication and
//! destination-options headers in IPv6 (behind a later fragment's header nothing is walked), and as the header states
//! it in IPv4; a condition on a field that is not there is false. Payload is that of TCP and UDP(-Lite), as far as it is
//! there.

use anyhow::{Context as _, bail};
use ipnetwork::IpNetwork;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

/// Header fields of one packet as tshark tells them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// 4 or 6.
    pub ip_version: u8,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol of the upper layer.
    pub protocol: u8,
    /// Source port, if present.
    pub source_port: Option<u16>,
    /// Destination port, if present.
    pub destination_port: Option<u16>,
    /// TCP flags, if present.
    pub tcp_flags: Option<u8>,
    /// IP length as the header states it.
    pub ip_length: u32,
    /// `none`, `first` or `later`.
    pub fragment: &'static str,
    /// The upper layer's payload, if it has one: what of it is there.
    pub payload: Vec<u8>,
}

/// A case file: a selector set and how it is judged.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    /// What the file is about.
    pub description: String,
    /// The measure's basis; also the only direction that is selected.
    pub basis: String,
    /// Domestic prefixes.
    pub domestic: Vec<IpNetwork>,
    /// Foreign prefixes.
    pub foreign: Vec<IpNetwork>,
    /// Class of every other address.
    pub rest: String,
    /// Packets it selects, by capture; in the captures not named, none.
    pub selects: BTreeMap<String, usize>,
    /// The selector set, as `gwtap` reads it.
    pub set: Value,
}

/// A rule as the oracle reads it from the selector set's JSON.
#[derive(Debug, Deserialize)]
struct Rule {
    id: String,
    conditions: Vec<Condition>,
}

#[derive(Debug, Deserialize)]
struct Condition {
    field: String,
    #[serde(default)]
    any: Vec<String>,
    #[serde(default)]
    mask: String,
    #[serde(default)]
    value: String,
    #[serde(default)]
    range: Option<(u32, u32)>,
    #[serde(default)]
    offset: usize,
    #[serde(default)]
    bytes: String,
}

/// Dissects every packet of `capture`: one entry a packet, `None` where tshark sees no IP header.
///
/// # Errors
/// When tshark cannot be run or says something that is not understood.
pub fn dissect(tshark: &Path, capture: &Path) -> anyhow::Result<Vec<Option<Fields>>> {
    dissect_behind(tshark, capture, None)
}

/// As [`dissect`], but of the frame inside a transport that tshark calls `outer` (`erspan`, `gre`, `vxlan`): what stands
/// before it is passed over, and a packet without it has no fields.
///
/// # Errors
/// As [`dissect`].
pub fn dissect_behind(
    tshark: &Path,
    capture: &Path,
    outer: Option<&'static str>,
) -> anyhow::Result<Vec<Option<Fields>>> {
    let fresh = || Elements { outer, ..Elements::default() };
    let mut child = Command::new(tshark)
        .args(["-n", "-T", "pdml", "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE"])
        .args(["-J", "ip ipv6 ah tcp udp udplite sctp dccp gre erspan vxlan", "-r"])
        .arg(capture)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("tshark")?;
    let output = child.stdout.take().context("tshark has no output")?;
    let mut packets = Vec::new();
    let mut packet = fresh();
    for line in BufReader::new(output).lines() {
        let line = line?;
        let line = line.trim_start();
        if line.starts_with("<packet>") {
            packet = fresh();
        } else if line.starts_with("</packet>") {
            packets.push(packet.fields().with_context(|| format!("packet {}", packets.len() + 1))?);
        } else if let Some(name) = line.strip_prefix("<proto ").and_then(|rest| attribute(rest, "name")) {
            packet.protocol(name);
        } else if let Some(rest) = line.strip_prefix("<field ")
            && let (Some(name), Some(show)) = (attribute(rest, "name"), attribute(rest, "show"))
        {
            let is_payload = name == "tcp.payload" || name == "udp.payload";
            packet.field(name, if is_payload { attribute(rest, "value").unwrap_or_default() } else { show });
        }
    }
    // A file that tshark calls cut short ends with an error after its last whole packet.
    child.wait()?;
    Ok(packets)
}

fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let start = element.find(&format!("{name}=\""))? + name.len() + 2;
    let rest = element.get(start..)?;
    rest.get(..rest.find('"')?)
}

/// The dissection tree of one packet, in order, cut down to the outermost IP header and the transport behind it.
#[derive(Default)]
struct Elements {
    /// The transport that has not come yet.
    outer: Option<&'static str>,
    ip: Option<&'static str>,
    transport: Option<String>,
    /// Another IP header or transport began: what follows is inside.
    inside: bool,
    values: BTreeMap<String, String>,
    next_headers: Vec<(String, String)>,
}

impl Elements {
    fn protocol(&mut self, name: &str) {
        if self.outer.is_some() {
            self.outer = self.outer.filter(|outer| *outer != name);
            return;
        }
        match (name, self.ip) {
            ("ip", None) => self.ip = Some("ip"),
            ("ipv6", None) => self.ip = Some("ipv6"),
            ("ip" | "ipv6", Some(_)) => self.inside = true,
            ("tcp" | "udp" | "udplite" | "sctp" | "dccp", Some(_)) if self.transport.is_none() => {
                self.transport = Some(name.to_owned());
            }
            ("tcp" | "udp" | "udplite" | "sctp" | "dccp", Some(_)) => self.inside = true,
            _ => {}
        }
    }

    fn field(&mut self, name: &str, show: &str) {
        if self.ip.is_none() || self.inside {
            return;
        }
        if name.ends_with(".nxt") || name == "ah.next_header" {
            self.next_headers.push((name.to_owned(), show.to_owned()));
        }
        self.values.entry(name.to_owned()).or_insert_with(|| show.to_owned());
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.values.get(name).and_then(|text| number(text))
    }

    fn fields(&self) -> anyhow::Result<Option<Fields>> {
        let Some(ip) = self.ip else { return Ok(None) };
        let address = |which: &str| self.values.get(&format!("{ip}.{which}")).map(|text| text.parse::<IpAddr>());
        // tshark names a protocol before it finds that the header is none.
        let (Some(source), Some(destination)) = (address("src"), address("dst")) else { return Ok(None) };
        let (protocol, fragment, ip_length) = if ip == "ip" { self.ipv4() } else { self.ipv6() }?;
        let mut fields = Fields {
            ip_version: if ip == "ip" { 4 } else { 6 },
            source: source?,
            destination: destination?,
            protocol: protocol.try_into()?,
            source_port: None,
            destination_port: None,
            tcp_flags: None,
            ip_length,
            fragment,
            payload: Vec::new(),
        };
        let transport = match protocol {
            6 => "tcp",
            17 => "udp",
            33 => "dccp",
            132 => "sctp",
            136 => "udplite",
            _ => return Ok(Some(fields)),
        };
        if fragment != "later" && self.transport.as_deref() == Some(transport) {
            // The dissector of UDP-Lite is that of UDP.
            let prefix = if transport == "udplite" { "udp" } else { transport };
            let port = |which: &str| self.number(&format!("{prefix}.{which}")).map(u16::try_from).transpose();
            fields.source_port = port("srcport")?;
            fields.destination_port = port("dstport")?;
            fields.payload = hex::decode(self.values.get(&format!("{prefix}.payload")).map_or("", String::as_str))?;
            fields.tcp_flags = self.number("tcp.flags").map(|flags| flags.to_le_bytes()[0]);
        }
        Ok(Some(fields))
    }

    fn ipv4(&self) -> anyhow::Result<(u32, &'static str, u32)> {
        let offset = self.number("ip.frag_offset").context("no ip.frag_offset")?;
        let more = self.number("ip.flags.mf").context("no ip.flags.mf")?;
        let protocol = self.number("ip.proto").context("no ip.proto")?;
        Ok((protocol, fragment_name(offset, more), self.number("ip.len").context("no ip.len")?))
    }

    fn ipv6(&self) -> anyhow::Result<(u32, &'static str, u32)> {
        let mut fragment = "none";
        let mut protocol = self.number("ipv6.nxt").context("no ipv6.nxt")?;
        for (name, next) in &self.next_headers {
            let owner = match name.as_str() {
                "ipv6.hopopts.nxt" => 0,
                "ipv6.routing.nxt" => 43,
                "ipv6.fraghdr.nxt" => 44,
                "ah.next_header" => 51,
                "ipv6.dstopts.nxt" => 60,
                _ => continue,
            };
            if owner != protocol {
                break;
            }
            protocol = number(next).context("a next header that is no number")?;
            if owner == 44 {
                let offset = self.number("ipv6.fraghdr.offset").context("no ipv6.fraghdr.offset")?;
                fragment = fragment_name(offset, self.number("ipv6.fraghdr.more").unwrap_or(0));
                if fragment == "later" {
                    break;
                }
            }
        }
        Ok((protocol, fragment, 40 + self.number("ipv6.plen").context("no ipv6.plen")?))
    }
}

fn fragment_name(offset: u32, more: u32) -> &'static str {
    match (offset, more) {
        (0, 0) => "none",
        (0, _) => "first",
        _ => "later",
    }
}

fn number(text: &str) -> Option<u32> {
    match text {
        "True" => return Some(1),
        "False" => return Some(0),
        _ => {}
    }
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Whether a line tells what the oracle tells: each field's value, or its absence.
#[must_use]
pub fn agree(line: &Value, fields: Option<&Fields>) -> bool {
    let Some(fields) = fields else { return line.get("source").is_none() };
    let same = |key: &str, expected: Value| line.get(key).cloned().unwrap_or(Value::Null) == expected;
    same("ip_version", fields.ip_version.into())
        && same("source", fields.source.to_string().into())
        && same("destination", fields.destination.to_string().into())
        && same("protocol", fields.protocol.into())
        && same("source_port", fields.source_port.into())
        && same("destination_port", fields.destination_port.into())
        && same("tcp_flags", fields.tcp_flags.into())
        && same("ip_length", fields.ip_length.into())
        && same("fragment", fields.fragment.into())
}

impl RuleFile {
    /// Reads a case file.
    ///
    /// # Errors
    /// When it cannot be read or parsed.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
    }

    /// The direction of a packet, named like a basis or `unlisted`.
    #[must_use]
    pub fn direction(&self, fields: &Fields) -> String {
        match (self.class(fields.source), self.class(fields.destination)) {
            ("unlisted", _) | (_, "unlisted") => "unlisted".to_owned(),
            (source, destination) => format!("{source}-to-{destination}"),
        }
    }

    /// The most specific prefix decides.
    fn class(&self, address: IpAddr) -> &str {
        let longest = |prefixes: &[IpNetwork]| {
            prefixes.iter().filter(|prefix| prefix.contains(address)).map(IpNetwork::prefix).max()
        };
        match (longest(&self.domestic), longest(&self.foreign)) {
            (None, None) => &self.rest,
            (domestic, foreign) if domestic > foreign => "domestic",
            _ => "foreign",
        }
    }

    /// The file's rules, ready to be asked.
    ///
    /// # Errors
    /// When the set has no rules of the form that the oracle knows.
    pub fn evaluated(&self) -> anyhow::Result<Rules> {
        let rules = self.set.get("rules").cloned().context("no rules")?;
        Rules::of(rules)
    }
}

/// Rules of a set.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Rule>,
}

impl Rules {
    /// The rules of a set's JSON.
    ///
    /// # Errors
    /// When they have not the form that the oracle knows.
    pub fn of(rules: Value) -> anyhow::Result<Self> {
        Ok(Self { rules: serde_json::from_value(rules)? })
    }

    /// Ids of the rules that a packet satisfies, sorted.
    ///
    /// # Errors
    /// When a rule says something that the oracle does not know.
    pub fn matching(&self, fields: &Fields) -> anyhow::Result<Vec<String>> {
        let mut ids = Vec::new();
        for rule in &self.rules {
            let mut all = true;
            for condition in &rule.conditions {
                all = all && condition.holds(fields).with_context(|| format!("rule {}", rule.id))?;
            }
            if all {
                ids.push(rule.id.clone());
            }
        }
        ids.sort();
        Ok(ids)
    }
}

impl Condition {
    fn holds(&self, fields: &Fields) -> anyhow::Result<bool> {
        let (source, destination) = (fields.source, fields.destination);
        Ok(match self.field.as_str() {
            "source-address" => self.has_address(source)?,
            "destination-address" => self.has_address(destination)?,
            "address" => self.has_address(source)? || self.has_address(destination)?,
            "source-port" => self.has_port(fields.source_port)?,
            "destination-port" => self.has_port(fields.destination_port)?,
            "port" => self.has_port(fields.source_port)? || self.has_port(fields.destination_port)?,
            "protocol" => self.any.iter().any(|name| protocol_number(name) == Some(fields.protocol)),
            "tcp-flags" => {
                let (mask, value) = (flag_bits(&self.mask)?, flag_bits(&self.value)?);
                fields.tcp_flags.is_some_and(|flags| flags & mask == value)
            }
            "ip-length" => {
                let (least, most) = self.range.context("no range")?;
                (least..=most).contains(&fields.ip_length)
            }
            "fragment" => self.any.iter().any(|state| state == fields.fragment),
            "payload" => self.has_bytes(&fields.payload)?,
            other => bail!("field {other}"),
        })
    }

    fn has_address(&self, address: IpAddr) -> anyhow::Result<bool> {
        for text in &self.any {
            if text.parse::<IpNetwork>()?.contains(address) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has_bytes(&self, payload: &[u8]) -> anyhow::Result<bool> {
        let wanted = hex::decode(&self.bytes)?;
        let mask = if self.mask.is_empty() { vec![0xff; wanted.len()] } else { hex::decode(&self.mask)? };
        let Some(found) = payload.get(self.offset..self.offset + wanted.len()) else { return Ok(false) };
        Ok(found.iter().zip(&wanted).zip(&mask).all(|((found, wanted), mask)| found & mask == wanted & mask))
    }

    fn has_port(&self, port: Option<u16>) -> anyhow::Result<bool> {
        let Some(port) = port else { return Ok(false) };
        for text in &self.any {
            let (least, most) = text.split_once('-').unwrap_or((text, text));
            if (least.parse()?..=most.parse()?).contains(&port) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn protocol_number(name: &str) -> Option<u8> {
    match name {
        "icmp" => Some(1),
        "tcp" => Some(6),
        "udp" => Some(17),
        "sctp" => Some(132),
        digits => digits.parse().ok(),
    }
}

fn flag_bits(names: &str) -> anyhow::Result<u8> {
    let all = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
    let mut bits = 0;
    for name in names.split(',') {
        let place = all.iter().position(|known| *known == name).with_context(|| format!("flag {name}"))?;
        bits |= 1 << place;
    }
    Ok(bits)
}
