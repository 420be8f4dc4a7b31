//! A second, naive reading of what counts, to compare with: it lists every port, protocol, length and flag byte, and
//! every /12 of IPv4, instead of merging ranges.

use super::{context, rule, set, terms};
use crate::order::Basis;
use crate::selectors::check::check;
use crate::selectors::field::kind_name;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
enum Drawn {
    /// Field, whether it is a facility's address, and (first /12, how many bits of length up to 12).
    Address(&'static str, bool, Vec<(u16, u8)>),
    Port(&'static str, Vec<(u16, u16)>),
    Protocol(Vec<u8>),
    Flags(u8, u8),
    Length(u32, u32),
    Fragment(Vec<&'static str>),
}

const FLAGS: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];

fn flag_names(bits: u8) -> String {
    let names: Vec<&str> = (0..8).filter(|bit| bits >> bit & 1 == 1).map(|bit| FLAGS[bit]).collect();
    names.join(",")
}

impl Drawn {
    fn written(&self) -> Value {
        match self {
            Self::Address(field, facility, blocks) => {
                let any: Vec<String> = blocks
                    .iter()
                    .map(|(block, length)| {
                        let network = u32::from(*block) << 20 >> (32 - length) << (32 - length);
                        format!("{}/{length}", std::net::Ipv4Addr::from(network))
                    })
                    .collect();
                json!({"item": if *facility { "facility-address" } else { "aid" }, "field": field, "any": any})
            }
            Self::Port(field, ranges) => {
                let any: Vec<String> = ranges.iter().map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))).collect();
                json!({"item": "aid", "field": field, "any": any})
            }
            Self::Protocol(numbers) => {
                let any: Vec<String> = numbers.iter().map(u8::to_string).collect();
                json!({"item": "aid", "field": "protocol", "any": any})
            }
            Self::Flags(mask, value) => {
                json!({"item": "aid", "field": "tcp-flags", "mask": flag_names(*mask), "value": flag_names(mask & value)})
            }
            Self::Length(a, b) => json!({"item": "aid", "field": "ip-length", "range": [a.min(b), a.max(b)]}),
            Self::Fragment(states) => json!({"item": "aid", "field": "fragment", "any": states}),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Address(..) => "address",
            Self::Port(..) => "port",
            Self::Protocol(_) => "protocol",
            Self::Flags(..) => "tcp-flags",
            Self::Length(..) => "ip-length",
            Self::Fragment(_) => "fragment",
        }
    }

    fn is_trivial(&self) -> bool {
        match self {
            Self::Address(_, _, blocks) => {
                let holds = |address: u16| {
                    blocks.iter().any(|(block, length)| block >> (12 - length) == address >> (12 - length))
                };
                // 4096 /12s are the family; 16 of them are 1/256.
                (0..4096_u16).filter(|address| holds(*address)).count() > 16
            }
            Self::Port(_, ranges) => {
                let holds = |port: u16| ranges.iter().any(|(a, b)| (*a.min(b)..=*a.max(b)).contains(&port));
                (0..=u16::MAX).filter(|port| holds(*port)).count() > 32_768
            }
            Self::Protocol(numbers) => (0..=u8::MAX).filter(|number| numbers.contains(number)).count() > 128,
            Self::Flags(mask, value) => (0..=u8::MAX).all(|flags| flags & mask == value & mask),
            Self::Length(a, b) => (*a.min(b)..=*a.max(b)).count() > 32_768,
            Self::Fragment(states) => ["none", "first", "later"].iter().all(|state| states.contains(state)),
        }
    }

    fn is_facility(&self) -> bool {
        matches!(self, Self::Address(_, true, _))
    }
}

fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
    let address = |field| {
        (any::<bool>(), prop::collection::vec((0..4096_u16, 5..=12_u8), 1..20))
            .prop_map(move |(facility, blocks)| Drawn::Address(field, facility, blocks))
    };
    let port = |field| {
        prop::collection::vec((any::<u16>(), any::<u16>()), 1..4).prop_map(move |ranges| Drawn::Port(field, ranges))
    };
    let narrow_port = prop::collection::vec(any::<u16>().prop_map(|port| (port, port)), 1..4)
        .prop_map(|ranges| Drawn::Port("source-port", ranges));
    let protocol =
        prop_oneof![prop::collection::vec(any::<u8>(), 1..4), (120..135_u8).prop_map(|last| (0..=last).collect()),]
            .prop_map(Drawn::Protocol);
    let length = prop_oneof![(0..65_576_u32, 0..65_576_u32), (0..9_u32, 32_760..32_780_u32)];
    let states = prop::sample::subsequence(vec!["none", "first", "later"], 1..=3);
    (
        prop::option::of(address("source-address")),
        prop::option::of(address("destination-address")),
        prop::option::of(address("address")),
        prop::option::of(prop_oneof![narrow_port, port("source-port")]),
        prop::option::of(port("port")),
        prop::option::of(protocol),
        prop::option::of((any::<u8>(), any::<u8>()).prop_map(|(mask, value)| Drawn::Flags(mask & value, value))),
        prop::option::of(length.prop_map(|(a, b)| Drawn::Length(a, b))),
        prop::option::of(states.prop_map(Drawn::Fragment)),
    )
        .prop_map(|(a, b, c, d, e, f, g, h, i)| [a, b, c, d, e, f, g, h, i].into_iter().flatten().collect())
}

/// What counts, said once more: kinds with a condition that is not trivial; a protocol beside ports or flags is none;
/// enough kinds; and a facility's address that is not trivial.
fn counted(rule: &[Drawn], needed: usize) -> Option<BTreeSet<&'static str>> {
    let mut kinds: BTreeSet<&'static str> =
        rule.iter().filter(|condition| !condition.is_trivial()).map(Drawn::kind).collect();
    if rule.iter().any(|condition| ["port", "tcp-flags"].contains(&condition.kind())) {
        kinds.remove("protocol");
    }
    let names_facility = rule.iter().any(|condition| condition.is_facility() && !condition.is_trivial());
    (kinds.len() >= needed && names_facility).then_some(kinds)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn counted_conditions_agree_with_a_naive_reading(drawn in drawn(), needed in 1..=4_u8) {
        let conditions: Vec<Value> = drawn.iter().map(Drawn::written).collect();
        let mut context = context(Basis::ForeignToForeign, terms());
        context.conditions_min = needed;
        let result = check(&set(json!([rule(json!(conditions))])), &context).ok();
        let kinds = result.map(|checked| checked.rules[0].counted.iter().map(|kind| kind_name(*kind)).collect());
        prop_assert_eq!(kinds, counted(&drawn, usize::from(needed)));
    }
}
