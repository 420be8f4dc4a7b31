//! STIX patterns: what is of the subset, what is refused by name, and generated ones against a naive evaluator.

use crate::selectors::field::Field;
use crate::selectors::import::pattern::read;
use crate::selectors::set::Condition;
use proptest::prelude::*;

fn fields(text: &str) -> Vec<Vec<&'static str>> {
    let rules = read(text, Field::Address).unwrap().rules;
    rules.iter().map(|rule| rule.iter().map(|condition| condition.field.name()).collect()).collect()
}

#[test]
fn what_is_of_the_subset_becomes_conditions() {
    for (text, expected) in [
        ("[ipv4-addr:value = '198.51.100.1']", vec![vec!["address"]]),
        (
            "[ipv4-addr:value ISSUBSET '198.51.100.0/24' AND network-traffic:protocols[*] = 'tcp']",
            vec![vec!["address", "protocol"]],
        ),
        (
            "[network-traffic:src_ref.type = 'ipv4-addr' AND network-traffic:src_ref.value = '198.51.100.1' AND network-traffic:dst_port = 443]",
            vec![vec!["source-address", "destination-port"]],
        ),
        (
            "([network-traffic:src_port=1 AND (ipv4-addr:value='198.51.100.1' OR ipv6-addr:value='2001:db8::1')])",
            vec![vec!["source-port", "address"], vec!["source-port", "address"]],
        ),
        ("[network-traffic:dst_payload_ref.payload_bin = b'UE9TVA==']", vec![vec!["payload"]]),
        (
            "[ipv4-addr:'value' == '198.51.100.1'] OR ([network-traffic:dst_port IN (1,2)])",
            vec![vec!["address"], vec!["destination-port"]],
        ),
    ] {
        assert_eq!(fields(text), expected, "{text}");
    }
    let payload = |text: &str| read(text, Field::Address).unwrap().rules[0][0].bytes.clone().unwrap();
    for literal in ["b'UE9TVA=='", "h'504f5354'", "'POST'"] {
        assert_eq!(payload(&format!("[network-traffic:src_payload_ref.payload_bin = {literal}]")), "504f5354");
    }
    assert_eq!(payload(r"[network-traffic:src_payload_ref.payload_bin = 'a\'\\']"), "61275c");
}

#[test]
fn what_is_not_of_the_subset_is_refused_by_name() {
    let ip = "[ipv4-addr:value = '198.51.100.77']";
    for (text, named) in [
        (format!("{ip} FOLLOWEDBY {ip}"), "FOLLOWEDBY"),
        (format!("{ip} AND {ip}"), "AND between observations"),
        (format!("{ip} WITHIN 5 SECONDS"), "WITHIN"),
        (format!("{ip} REPEATS 5 TIMES"), "REPEATS"),
        (format!("{ip} START t'2026-01-01T00:00:00Z' STOP t'2026-01-02T00:00:00Z'"), "START"),
        ("[ipv4-addr:value MATCHES '198']".into(), "MATCHES"),
        ("[ipv4-addr:value LIKE '198.51.100.%']".into(), "LIKE"),
        ("[ipv4-addr:value NOT = '198.51.100.77']".into(), "NOT"),
        ("[NOT ipv4-addr:value = '198.51.100.77']".into(), "NOT"),
        ("[ipv4-addr:value != '198.51.100.77']".into(), "!="),
        ("[network-traffic:dst_port > 1024]".into(), "comparison >"),
        ("[ipv4-addr:value ISSUPERSET '198.51.100.77']".into(), "ISSUPERSET"),
        ("[EXISTS ipv4-addr:value]".into(), "EXISTS"),
        ("[domain-name:value = 'canary.example']".into(), "domain-name:value"),
        ("[file:hashes.'SHA-256' = 'aa']".into(), "file:hashes.SHA-256"),
        ("[ipv4-addr:value = '198.51.100.77' AND ipv4-addr:value = '198.51.100.78']".into(), "compared twice"),
        ("[ipv4-addr:value = '2001:db8::77']".into(), "other family"),
        ("[network-traffic:src_ref.type = 'ipv4-addr']".into(), "without an address"),
        ("[network-traffic:dst_port = '443']".into(), "something else"),
        ("[network-traffic:dst_port ISSUBSET 443]".into(), "ISSUBSET"),
        ("[ipv4-addr:value = t'2026-01-01T00:00:00Z']".into(), "times"),
        ("[network-traffic:dst_port = 1.5]".into(), "fractions"),
        ("[ipv4-addr:value = '198.51.100.77' /* canary */]".into(), "comment"),
        ("[ipv4-addr:value = '198.51.100.77]".into(), "not closed"),
        ("[ipv4-addr:value = '198.51.100.77'".into(), "] is expected"),
        ("ipv4-addr:value = '198.51.100.77'".into(), "in brackets"),
        (String::new(), "in brackets"),
        (format!("{ip} {ip}"), "pattern's end"),
        (format!("{}{ip}{}", "(".repeat(40), ")".repeat(40)), "parentheses"),
        ("(".repeat(60_000), "parentheses"),
        (
            format!("[{}]", ["(network-traffic:src_port=1 OR network-traffic:dst_port=2)"; 8].join(" AND ")),
            "more than 64 rules",
        ),
        ("x".repeat(70_000), "longer than"),
    ] {
        let error = read(&text, Field::Address).err().unwrap_or_else(|| panic!("{text} was taken"));
        assert!(error.contains(named), "{text}: {error}");
        assert!(
            !error.contains("198.51") && !error.contains("canary.") && !error.contains("2001:"),
            "a value: {error}"
        );
    }
}

/// What a packet shows.
#[derive(Clone, Debug)]
struct Packet {
    source: u8,
    destination: u8,
    ports: [u16; 2],
    protocol: u8,
}

/// A pattern as a tree of its own, and how it is written.
#[derive(Clone, Debug)]
enum Tree {
    Source(u8),
    Destination(u8),
    Either(u8),
    Ports(usize, Vec<u16>),
    Protocol(u8),
    And(Vec<Tree>),
    Or(Vec<Tree>),
}

impl Tree {
    fn text(&self) -> String {
        let joined = |trees: &[Self], word: &str| trees.iter().map(Self::text).collect::<Vec<_>>().join(word);
        match self {
            Self::Source(last) => format!("network-traffic:src_ref.value = '198.51.100.{last}'"),
            Self::Destination(last) => format!("network-traffic:dst_ref.value='198.51.100.{last}'"),
            Self::Either(last) => format!("ipv4-addr:value = '198.51.100.{last}'"),
            Self::Ports(side, ports) => {
                let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
                format!("network-traffic:{}_port IN ({})", ["src", "dst"][*side], ports.join(", "))
            }
            Self::Protocol(number) => format!("network-traffic:protocols[*] = '{number}'"),
            Self::And(trees) => format!("({})", joined(trees, " AND ")),
            Self::Or(trees) => format!("({})", joined(trees, " OR ")),
        }
    }

    fn holds(&self, packet: &Packet) -> bool {
        match self {
            Self::Source(last) => packet.source == *last,
            Self::Destination(last) => packet.destination == *last,
            Self::Either(last) => packet.source == *last || packet.destination == *last,
            Self::Ports(side, ports) => ports.contains(&packet.ports[*side]),
            Self::Protocol(number) => packet.protocol == *number,
            Self::And(trees) => trees.iter().all(|tree| tree.holds(packet)),
            Self::Or(trees) => trees.iter().any(|tree| tree.holds(packet)),
        }
    }
}

fn condition_holds(condition: &Condition, packet: &Packet) -> bool {
    let any = |value: String| condition.any.as_ref().unwrap().contains(&value);
    let [source, destination] = [packet.source, packet.destination].map(|last| format!("198.51.100.{last}"));
    match condition.field {
        Field::SourceAddress => any(source),
        Field::DestinationAddress => any(destination),
        Field::Address => any(source) || any(destination),
        Field::SourcePort => any(packet.ports[0].to_string()),
        Field::DestinationPort => any(packet.ports[1].to_string()),
        Field::Protocol => any(packet.protocol.to_string()),
        other @ (Field::Port | Field::TcpFlags | Field::IpLength | Field::Fragment | Field::Payload) => {
            panic!("{other}")
        }
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        (0_u8..4).prop_map(Tree::Source),
        (0_u8..4).prop_map(Tree::Destination),
        (0_u8..4).prop_map(Tree::Either),
        (0_usize..2, prop::collection::vec(0_u16..4, 1..3)).prop_map(|(side, ports)| Tree::Ports(side, ports)),
        (0_u8..3).prop_map(Tree::Protocol),
    ];
    leaf.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..3).prop_map(Tree::And),
            prop::collection::vec(inner, 1..4).prop_map(Tree::Or),
        ]
    })
}

fn packet() -> impl Strategy<Value = Packet> {
    (0_u8..4, 0_u8..4, [0_u16..4, 0_u16..4], 0_u8..3).prop_map(|(source, destination, ports, protocol)| Packet {
        source,
        destination,
        ports,
        protocol,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn generated_patterns_select_what_a_naive_evaluator_selects(
        tree in tree(), packets in prop::collection::vec(packet(), 32),
    ) {
        let text = format!("[{}]", tree.text());
        match read(&text, Field::Address) {
            Ok(rules) => for packet in &packets {
                let selected = rules.rules.iter().any(|rule| rule.iter().all(|condition| condition_holds(condition, packet)));
                prop_assert_eq!(selected, tree.holds(packet), "{} {:?}", &text, packet);
            },
            // The same thing twice in a conjunction, or too many rules: refused whole, never read otherwise.
            Err(error) => prop_assert!(error.contains("twice") || error.contains("rules"), "{}: {}", &text, error),
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic_or_tell_a_value(text in "[\\[\\]()'a-z0-9:=., *\\\\]{0,60}|\\PC{0,40}") {
        if let Err(error) = read(&text, Field::Address) {
            prop_assert!(error.len() < 300);
        }
    }
}
