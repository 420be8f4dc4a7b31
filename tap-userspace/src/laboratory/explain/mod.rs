//! Explain: what becomes of one packet, stage by stage, on the core that decides in the kernel.
//!
//! In: a frame, the laboratory's world, the time. Out: for each stage whether it was reached, what it saw and what it said;
//! for each rule the condition that failed first. The way itself is [`decide`], over a world that notes what it is asked.

mod recorder;
pub mod rules;
mod text;

use super::line::{Fields, Line};
use super::setup::Setup;
use crate::load::{HostWorld, LaboratoryConfig};
use recorder::{Asked, Recorder};
use rules::{Failed, Packet};
use serde::Serialize;
use tap_common::abi::counter::{FacilityVerdict, Verdict};
use tap_common::limits::EPOCH_NS;
use tap_common::path::frame::{Bytes, Frame as _};
use tap_common::path::sample::flow_hash;
use tap_common::path::verdict::{Decision, Outcome};
use tap_common::path::whole;

/// One packet's way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation<'a> {
    /// The stages, in order.
    pub stages: Vec<Stage>,
    /// Every rule, when selection was reached; the line's `rules` are those that match.
    #[serde(rename = "rule_outcomes", skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleOutcome<'a>>,
    /// What `replay` says of the packet.
    #[serde(flatten)]
    pub line: Line<'a>,
    /// What a record would hold beside the line's fields, if there would be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<Record>,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// Its name.
    pub stage: &'static str,
    /// Whether the packet came here.
    pub reached: bool,
    /// What it said.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub said: String,
    /// What it saw, beside the packet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub saw: Vec<String>,
}

/// What became of one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleOutcome<'a> {
    /// The rule's id.
    pub rule: &'a str,
    /// Whether the core says that it matches.
    pub matches: bool,
    /// The condition that failed first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failed>,
}

/// What a record holds beside header fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Exact time of the decision, nanoseconds since 1970.
    pub time_ns: u64,
    /// Bytes on the line.
    pub line_bytes: u32,
}

/// Explains what becomes of `frame` (number `number` of its file) at `now_ns`.
#[must_use]
pub fn explain<'a>(
    setup: &'a Setup,
    config: LaboratoryConfig,
    frame: &[u8],
    number: u64,
    now_ns: u64,
) -> Explanation<'a> {
    let mut host = HostWorld::new(&setup.tables, config);
    host.set_now(now_ns);
    let mut world = Recorder::new(host);
    let mut decision = Decision::new();
    let mut rest = Bytes::new(frame);
    // Every stage by itself: what the brief way decides, this way decides.
    whole(&mut rest, &mut world, &mut decision);
    let asked = world.into_asked();
    let fields = (decision.parsed == 1).then(|| Fields::new(&decision.headers));
    let line = Line::new(number, &decision, &setup.rule_ids, &setup.country);
    let mut outcomes = Vec::new();
    if let (Some(_), Some(fields)) = (&line.rules, &fields) {
        let packet = Packet { frame: rest, headers: &decision.headers, fields };
        outcomes = (0..).zip(&setup.rules).map(|(index, rule)| outcome(index, rule, &packet, &decision)).collect();
    }
    let way = Way { config, decision: &decision, asked: &asked, now_ns, frame_bytes: frame.len(), left: rest.length() };
    let record = line.is_selected().then_some(Record { time_ns: decision.time_ns, line_bytes: decision.line_bytes });
    Explanation { stages: way.stages(&line), rules: outcomes, line, record }
}

fn outcome<'a>(
    index: usize,
    rule: &'a crate::selectors::CheckedRule,
    packet: &Packet<'_>,
    decision: &Decision,
) -> RuleOutcome<'a> {
    let word = decision.rules.get(index / 64).copied().unwrap_or(0);
    let matches = word >> (index % 64) & 1 == 1;
    RuleOutcome { rule: &rule.id, matches, failed: rules::first_failed(rule, packet) }
}

/// What is known when the packet has gone its way.
struct Way<'a> {
    config: LaboratoryConfig,
    decision: &'a Decision,
    asked: &'a [Asked],
    now_ns: u64,
    frame_bytes: usize,
    left: u32,
}

impl Way<'_> {
    fn stages(&self, line: &Line<'_>) -> Vec<Stage> {
        let decision = self.decision;
        let outcome = decision.outcome;
        // A lease that ends on the way, at the exact clock, ends it all the same.
        let live = outcome != Outcome::facility(FacilityVerdict::NoLease) || decision.parsed == 1;
        let taken_off = live && self.config.transport.is_some();
        let parsed = decision.parsed == 1;
        let sampled = parsed && outcome != Outcome::measure(Verdict::NotSampled);
        let admitted = sampled && outcome != Outcome::measure(Verdict::OverCap);
        let matched = admitted && outcome != Outcome::measure(Verdict::NotMatched);
        let reason = line.reason.unwrap_or("");
        let in_transport = reason.starts_with("transport_");
        let refused = format!("{}: {reason}", line.verdict);
        vec![
            Stage {
                stage: "lease",
                reached: true,
                said: pick(live, "live", "no_lease").to_owned(),
                saw: self.leases(),
            },
            Stage {
                stage: "transport",
                reached: live,
                said: match (taken_off, in_transport) {
                    _ if !live => String::new(),
                    (false, _) => "none is configured".to_owned(),
                    (true, true) => refused.clone(),
                    (true, false) => {
                        format!("{} bytes taken off", self.frame_bytes.saturating_sub(self.left as usize))
                    }
                },
                saw: Vec::new(),
            },
            Stage {
                stage: "parse",
                reached: live && !in_transport,
                said: if parsed { "headers read".to_owned() } else { said(live && !in_transport, &refused) },
                saw: self.parsed(),
            },
            Stage {
                stage: "sample",
                reached: parsed,
                said: said(
                    parsed,
                    if self.config.sampling { pick(sampled, "in the sample", "not_sampled") } else { "off" },
                ),
                saw: self.sample(parsed),
            },
            Stage {
                stage: "cap",
                reached: sampled,
                said: said(sampled, if self.config.cap { pick(admitted, "admitted", "over_cap") } else { "off" }),
                saw: self.cap(sampled),
            },
            Stage {
                stage: "select",
                reached: admitted,
                said: said(admitted, pick(matched, "rules match", "not_matched")),
                saw: self.tables(admitted),
            },
            Stage {
                stage: "direction",
                reached: matched,
                said: said(matched, line.direction.unwrap_or("unlisted")),
                saw: Vec::new(),
            },
            Stage { stage: "verdict", reached: true, said: line.verdict.to_owned(), saw: Vec::new() },
        ]
    }

    fn leases(&self) -> Vec<String> {
        let mut saw = vec![format!("the clock at {} ns", self.now_ns)];
        for asked in self.asked {
            if let Asked::Lease(slot, lease) = asked {
                let line = format!("slot {slot}: {} ns to {} ns", lease.not_before_ns, lease.deadline_ns);
                if !saw.contains(&line) {
                    saw.push(line);
                }
            }
        }
        saw
    }

    fn parsed(&self) -> Vec<String> {
        if self.decision.parsed != 1 {
            return Vec::new();
        }
        let headers = &self.decision.headers;
        let mut saw = vec![format!("an IPv{} header at byte {}", headers.ip_version, headers.ip_offset)];
        if headers.payload_offset != 0 {
            saw.push(format!("a payload at byte {}", headers.payload_offset));
        }
        saw.push(format!("{} bytes on the line", self.decision.line_bytes));
        saw
    }

    fn sample(&self, reached: bool) -> Vec<String> {
        let thresholds = self.asked.iter().filter_map(|asked| match asked {
            Asked::Threshold(slot, threshold) => Some((slot, threshold)),
            Asked::Lease(..)
            | Asked::Cap(..)
            | Asked::Credit(..)
            | Asked::ExactClock
            | Asked::Trie(_)
            | Asked::Table(_) => None,
        });
        let hash = flow_hash(&self.decision.headers, super::setup::SAMPLING_SEED);
        let saw = thresholds.map(|(slot, threshold)| format!("slot {slot}: hash {hash}, threshold {threshold}"));
        if reached && self.config.sampling { saw.collect() } else { Vec::new() }
    }

    fn cap(&self, reached: bool) -> Vec<String> {
        if !reached || !self.config.cap {
            return Vec::new();
        }
        let mut saw = vec![format!("epoch {}", self.now_ns / EPOCH_NS)];
        for asked in self.asked {
            let line = match asked {
                Asked::Credit(bucket, credit) => format!("bucket {bucket}: {} bytes held", credit.bytes),
                Asked::Cap(bucket, cap) => format!("bucket {bucket}: {} bytes an epoch", cap.epoch_credit_bytes),
                Asked::Lease(..) | Asked::Threshold(..) | Asked::ExactClock | Asked::Trie(_) | Asked::Table(_) => {
                    continue;
                }
            };
            if !saw.contains(&line) {
                saw.push(line);
            }
        }
        saw
    }

    fn tables(&self, reached: bool) -> Vec<String> {
        let mut saw: Vec<String> = Vec::new();
        for asked in self.asked {
            if let Asked::Table(name) = asked {
                let line = format!("the {name} table");
                if reached && !saw.contains(&line) {
                    saw.push(line);
                }
            }
        }
        saw
    }
}

fn pick(first: bool, yes: &'static str, no: &'static str) -> &'static str {
    if first { yes } else { no }
}

fn said(reached: bool, text: &str) -> String {
    if reached { text.to_owned() } else { String::new() }
}
