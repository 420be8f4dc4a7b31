use super::*;
use crate::selectors::rule::{AddressItem, AddressValues, CheckedRule};
use ipnetwork::IpNetwork;
use proptest::prelude::*;
use std::str::FromStr;

const VECTORS: &str = include_str!("../../../../tests/vectors/ipcrypt.json");
const BOOT_TO_UNIX_NS: i64 = 1_000_000_000_000_000_000;

fn key_of(deterministic: [u8; 16], prefix: [u8; 32]) -> PseudonymKey {
    let time = |second| Timestamp::from_second(second).unwrap();
    let mut key = PseudonymKey::generate("m-1", 3, time(1_000_000_000), time(1_000_086_400)).unwrap();
    (key.secrets.deterministic, key.secrets.prefix) = (deterministic, prefix);
    key
}

fn key() -> PseudonymKey {
    key_of([1; 16], std::array::from_fn(|byte| u8::try_from(byte).unwrap()))
}

fn bytes(address: &str) -> [u8; 16] {
    match IpAddr::from_str(address).unwrap() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn record(source: &str, destination: &str, direction: Direction, rules: &[usize]) -> Record {
    let mut mask = [0; 4];
    rules.iter().for_each(|rule| mask[rule / 64] |= 1 << (rule % 64));
    Record {
        kind: tap_common::abi::record::KIND_RECORD,
        length: 120,
        cpu: 2,
        sequence: 9,
        time_ns: 5,
        generation: 7,
        rules: mask,
        source: bytes(source),
        destination: bytes(destination),
        source_port: 443,
        destination_port: 51000,
        protocol: 6,
        tcp_flags: 0x12,
        ip_version: if source.contains(':') { 6 } else { 4 },
        direction: direction as u8,
        line_bytes: 98,
        ip_length: 60,
        fragment: 0,
        measure: 0,
        flags: FLAG_PORTS | FLAG_TCP_FLAGS,
        reserved: 0,
    }
}

fn rule(source: &[&str], destination: &[&str], either: &[&str]) -> CheckedRule {
    let values = |entries: &[&str]| {
        let entries: Vec<IpNetwork> = entries.iter().map(|entry| entry.parse().unwrap()).collect();
        let item = AddressItem::FacilityAddress;
        (!entries.is_empty()).then(|| AddressValues { item, prefixes: entries.clone(), entries })
    };
    CheckedRule {
        source_address: values(source),
        destination_address: values(destination),
        address: values(either),
        ..CheckedRule::without_conditions("r".into(), "a".into())
    }
}

fn kinds(rules: &[CheckedRule], record: &Record) -> (AddressKind, AddressKind) {
    let mut pseudonymiser = Pseudonymiser::new(&[key()], PseudonymMode::Deterministic, BOOT_TO_UNIX_NS);
    pseudonymiser.set_policy(7, Arc::new(ClearPolicy::from_rules(rules, true)));
    let made = pseudonymiser.pseudonymise(record).unwrap();
    for (end, clear) in [(made.source, record.source), (made.destination, record.destination)] {
        assert_eq!(end.kind == Clear, end.bytes == clear);
    }
    (made.source.kind, made.destination.kind)
}

use AddressKind::{Clear, Deterministic};
use Direction::{DomesticToForeign, ForeignToDomestic, ForeignToForeign};

#[test]
fn known_answers() {
    let vectors: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
    let mut seen = 0;
    for (name, mode) in
        [("ipcrypt-deterministic", PseudonymMode::Deterministic), ("ipcrypt-pfx", PseudonymMode::PrefixPreserving)]
    {
        for vector in vectors[name].as_array().unwrap() {
            let text = |field: &str| vector[field].as_str().unwrap();
            let secret = hex::decode(text("key")).unwrap();
            let mut key = key();
            match mode {
                PseudonymMode::Deterministic => key.secrets.deterministic = secret.try_into().unwrap(),
                PseudonymMode::PrefixPreserving => key.secrets.prefix = secret.try_into().unwrap(),
            }
            let pseudonymiser = Pseudonymiser::new(&[key], mode, BOOT_TO_UNIX_NS);
            let made = pseudonymiser.pseudonymise(&record(text("ip"), text("ip"), ForeignToForeign, &[])).unwrap();
            assert_eq!(made.source.bytes, bytes(text("encrypted_ip")), "{name} {}", text("ip"));
            assert_eq!(made.destination.bytes, made.source.bytes);
            seen += 1;
        }
    }
    assert_eq!(seen, 21);
}

#[test]
fn the_other_fields_pass_and_absent_ones_are_absent() {
    let pseudonymiser = Pseudonymiser::new(&[key()], PseudonymMode::Deterministic, BOOT_TO_UNIX_NS);
    let mut record = record("203.0.113.1", "198.51.100.1", ForeignToForeign, &[0, 255]);
    let made = pseudonymiser.pseudonymise(&record).unwrap();
    assert_eq!((made.time, made.key_epoch), (UnixNs(1_000_000_000_000_000_005), 3));
    assert_eq!((made.source_port, made.destination_port, made.tcp_flags), (Some(443), Some(51000), Some(0x12)));
    assert_eq!((made.protocol, made.ip_version, made.line_bytes, made.ip_length, made.sliced), (6, 4, 98, 60, false));
    assert_eq!((made.rules, made.generation, made.cpu, made.sequence), (record.rules, 7, 2, 9));
    record.flags = FLAG_SLICED;
    record.fragment = 2;
    let made = pseudonymiser.pseudonymise(&record).unwrap();
    assert_eq!((made.source_port, made.destination_port, made.tcp_flags), (None, None, None));
    assert!(made.sliced && made.fragment == 2);
}

#[test]
fn only_a_foreign_end_that_a_fired_rule_names_narrowly_is_clear() {
    let rules = [
        rule(&["203.0.113.0/24"], &[], &[]),
        rule(&["192.0.2.0/23"], &["198.51.100.7/32"], &[]),
        rule(&[], &[], &["203.0.113.5/32", "2001:db8:1::/48", "2001:db8:2::/47"]),
    ];
    for (source, destination, direction, fired, expected) in [
        // Named as the source by a rule that fired; the other end is nobody's.
        ("203.0.113.1", "198.51.100.1", ForeignToForeign, &[0][..], (Clear, Deterministic)),
        ("203.0.113.1", "198.51.100.1", ForeignToDomestic, &[0], (Clear, Deterministic)),
        // The rule did not fire.
        ("203.0.113.1", "198.51.100.1", ForeignToForeign, &[1], (Deterministic, Deterministic)),
        ("203.0.113.1", "198.51.100.1", ForeignToForeign, &[], (Deterministic, Deterministic)),
        // Domestic: never, whatever names it.
        ("203.0.113.1", "198.51.100.7", DomesticToForeign, &[0, 1], (Deterministic, Clear)),
        ("203.0.113.1", "198.51.100.7", ForeignToDomestic, &[0, 1], (Clear, Deterministic)),
        // Named on the other side only.
        ("198.51.100.7", "203.0.113.1", ForeignToForeign, &[0, 1], (Deterministic, Deterministic)),
        // /23 and /47 are too wide, /48 is not.
        ("192.0.2.1", "198.51.100.7", ForeignToForeign, &[1], (Deterministic, Clear)),
        ("2001:db8:2::1", "2001:db8:1::1", ForeignToForeign, &[2], (Deterministic, Clear)),
        // An entry on either side counts for the end that it matches.
        ("203.0.113.5", "203.0.113.5", ForeignToForeign, &[2], (Clear, Clear)),
        ("203.0.113.6", "203.0.113.5", ForeignToForeign, &[2], (Deterministic, Clear)),
    ] {
        let record = record(source, destination, direction, fired);
        assert_eq!(kinds(&rules, &record), expected, "{source} {destination} {direction:?} {fired:?}");
    }
}

#[test]
fn merged_prefixes_do_not_count_entries_do() {
    // Two /25 entries clear, also where the kernel matches their union /24; two /24 that merge to a /23 clear as well.
    let mut narrow = rule(&["192.0.2.0/25", "192.0.2.128/25"], &[], &[]);
    narrow.source_address.as_mut().unwrap().prefixes = vec!["192.0.2.0/24".parse().unwrap()];
    let mut wide = rule(&["203.0.112.0/23"], &[], &[]);
    wide.source_address.as_mut().unwrap().prefixes =
        vec!["203.0.112.0/24".parse().unwrap(), "203.0.113.0/24".parse().unwrap()];
    let rules = [narrow, wide];
    let of = |source| kinds(&rules, &record(source, "198.51.100.1", ForeignToForeign, &[0, 1])).0;
    assert_eq!((of("192.0.2.1"), of("192.0.2.200"), of("203.0.113.1")), (Clear, Clear, Deterministic));
}

#[test]
fn aids_and_an_order_that_clears_nothing_clear_nothing() {
    let mut aid = rule(&["203.0.113.0/24"], &[], &[]);
    aid.source_address.as_mut().unwrap().item = AddressItem::Aid;
    let record = record("203.0.113.1", "198.51.100.1", ForeignToForeign, &[0]);
    assert_eq!(kinds(&[aid], &record).0, Deterministic);

    let mut pseudonymiser = Pseudonymiser::new(&[key()], PseudonymMode::Deterministic, BOOT_TO_UNIX_NS);
    let rules = [rule(&["203.0.113.0/24"], &[], &[])];
    let source_kind = |pseudonymiser: &Pseudonymiser| pseudonymiser.pseudonymise(&record).unwrap().source.kind;
    pseudonymiser.set_policy(7, Arc::new(ClearPolicy::from_rules(&rules, false)));
    assert_eq!(source_kind(&pseudonymiser), Deterministic);
    // Another generation's policy is not this one's.
    pseudonymiser.set_policy(8, Arc::new(ClearPolicy::from_rules(&rules, true)));
    assert_eq!(source_kind(&pseudonymiser), Deterministic);
    pseudonymiser.set_policy(7, Arc::new(ClearPolicy::from_rules(&rules, true)));
    assert_eq!(source_kind(&pseudonymiser), Clear);
    pseudonymiser.forget_policies_before(8);
    assert_eq!(source_kind(&pseudonymiser), Deterministic);
}

#[test]
fn a_record_that_the_kernel_never_writes_does_not_leave() {
    let pseudonymiser = Pseudonymiser::new(&[key()], PseudonymMode::Deterministic, BOOT_TO_UNIX_NS);
    let good = record("203.0.113.1", "198.51.100.1", ForeignToForeign, &[0]);
    assert!(pseudonymiser.pseudonymise(&good).is_ok());
    for direction in [0, 4, 5, 255] {
        let error = pseudonymiser.pseudonymise(&Record { direction, ..good }).unwrap_err();
        assert_eq!(error, PseudonymiseError::Direction(direction));
    }
    let error = |record| pseudonymiser.pseudonymise(&record).unwrap_err();
    assert_eq!(error(Record { ip_version: 5, ..good }), PseudonymiseError::IpVersion(5));
    assert_eq!(error(Record { source: [1; 16], ..good }), PseudonymiseError::Family);
    assert_eq!(error(Record { time_ns: u64::MAX, ..good }), PseudonymiseError::Time(u64::MAX));
}

fn at(pseudonymiser: &Pseudonymiser, time_ns: u64) -> Result<PseudonymisedRecord, PseudonymiseError> {
    let record = record("203.0.113.1", "198.51.100.1", ForeignToForeign, &[]);
    pseudonymiser.pseudonymise(&Record { time_ns, ..record })
}

#[test]
fn a_key_covers_its_epoch_alone_and_is_erased_after_it() {
    const DAY_NS: u64 = 86_400_000_000_000;
    let mut following = key_of([2; 16], [0; 32]);
    following.epoch = 4;
    following.not_before = key().not_after;
    following.not_after = Timestamp::from_second(1_000_172_800).unwrap();
    let mut pseudonymiser = Pseudonymiser::new(&[following, key()], PseudonymMode::Deterministic, BOOT_TO_UNIX_NS);
    let (last, first) = (at(&pseudonymiser, DAY_NS - 1).unwrap(), at(&pseudonymiser, DAY_NS).unwrap());
    assert_eq!((last.key_epoch, first.key_epoch), (3, 4));
    assert_ne!(last.source.bytes, first.source.bytes);
    let behind = u64::try_from(BOOT_TO_UNIX_NS).unwrap() + 2 * DAY_NS;
    assert_eq!(at(&pseudonymiser, 2 * DAY_NS).unwrap_err(), PseudonymiseError::NoKey(behind));
    pseudonymiser.erase_keys_until(key().not_after);
    assert!(at(&pseudonymiser, DAY_NS - 1).is_err() && at(&pseudonymiser, DAY_NS).is_ok());
    pseudonymiser.set_boot_to_unix_ns(-1);
    assert_eq!(at(&pseudonymiser, 0).unwrap_err(), PseudonymiseError::Time(0));
}

#[test]
fn debug_forms_show_neither_addresses_nor_selectors_nor_keys() {
    let policy = ClearPolicy::from_rules(&[rule(&["203.0.113.0/24"], &[], &[])], true);
    let mut pseudonymiser = Pseudonymiser::new(&[key()], PseudonymMode::Deterministic, BOOT_TO_UNIX_NS);
    pseudonymiser.set_policy(7, Arc::new(policy.clone()));
    let record = record("203.0.113.1", "198.51.100.1", ForeignToForeign, &[0]);
    let made = pseudonymiser.pseudonymise(&record).unwrap();
    let shown = format!("{record:?} {made:?} {policy:?} {pseudonymiser:?}");
    for secret in ["203", "113", "198, 51", "cb00", "[1, 1"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

fn network() -> impl Strategy<Value = IpNetwork> {
    // Few distinct bits, so that entries nest and touch; the ends of the address space too.
    let ipv4 = (prop_oneof![Just(0_u32), Just(u32::MAX), Just(0xcb00_7100)], 0..1024_u32, 20..=32_u8)
        .prop_map(|(base, low, length)| (IpAddr::from((base ^ low).to_be_bytes()), length));
    let ipv6 = (prop_oneof![Just(0_u128), Just(u128::MAX)], 0..1024_u128, any::<bool>(), 40..=128_u8).prop_map(
        |(base, low, high, length)| (IpAddr::from((base ^ (low << if high { 78 } else { 0 })).to_be_bytes()), length),
    );
    prop_oneof![ipv4, ipv6].prop_map(|(address, length)| {
        let network = IpNetwork::new(address, length).unwrap();
        IpNetwork::new(network.network(), length).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// The sorted ranges say what a scan of every entry says.
    #[test]
    fn look_ups_equal_a_scan(
        rules in prop::collection::vec(prop::collection::vec((network(), 0..3_u8), 0..12), 1..5),
        addresses in prop::collection::vec((network(), any::<bool>()), 1..20),
        fired in 0..32_u64,
    ) {
        let checked: Vec<CheckedRule> = rules.iter().map(|entries| {
            let on = |side: u8| -> Vec<String> {
                entries.iter().filter(|(_, at)| *at == side).map(|(entry, _)| entry.to_string()).collect()
            };
            let sides: Vec<Vec<String>> = (0..3).map(on).collect();
            let texts: Vec<Vec<&str>> = sides.iter().map(|side| side.iter().map(String::as_str).collect()).collect();
            rule(&texts[0], &texts[1], &texts[2])
        }).collect();
        let policy = ClearPolicy::from_rules(&checked, true);
        for (network, last) in addresses {
            let address = if last { network.broadcast() } else { network.network() };
            for (side, number) in [(Side::Source, 0), (Side::Destination, 1)] {
                let expected = rules.iter().enumerate().any(|(index, entries)| {
                    fired >> index & 1 == 1 && entries.iter().any(|(entry, at)| {
                        let least = if entry.is_ipv4() { 24 } else { 48 };
                        (*at == number || *at == 2) && entry.prefix() >= least && entry.contains(address)
                    })
                });
                let found = match address {
                    IpAddr::V4(address) => policy.clears_ipv4(address.into(), side, &[fired, 0, 0, 0]),
                    IpAddr::V6(address) => policy.clears_ipv6(address.into(), side, &[fired, 0, 0, 0]),
                };
                prop_assert_eq!(found, expected);
            }
        }
    }

    /// Equal prefixes stay equal, the first bit that differs still differs, and the family stays.
    #[test]
    fn prefixes_are_preserved(one in any::<u32>(), other in any::<u32>()) {
        let pseudonymiser = Pseudonymiser::new(&[key()], PseudonymMode::PrefixPreserving, BOOT_TO_UNIX_NS);
        let texts = [one, other].map(|address| Ipv4Addr::from(address).to_string());
        let made = pseudonymiser.pseudonymise(&record(&texts[0], &texts[1], ForeignToForeign, &[])).unwrap();
        let pseudonyms = [made.source, made.destination].map(|end| {
            assert_eq!(end.kind, AddressKind::PrefixPreserving);
            u32::from(Ipv6Addr::from(end.bytes).to_ipv4_mapped().unwrap())
        });
        prop_assert_eq!((one ^ other).leading_zeros(), (pseudonyms[0] ^ pseudonyms[1]).leading_zeros());
    }

    /// Whoever has the key gets the address back: a pseudonym is reversible (Art. 24(2)), and no two addresses share one.
    #[test]
    fn pseudonyms_are_reversible(address in any::<u128>()) {
        let pseudonymiser = Pseudonymiser::new(&[key()], PseudonymMode::Deterministic, BOOT_TO_UNIX_NS);
        let text = Ipv6Addr::from(address).to_string();
        let record = Record { ip_version: 6, ..record(&text, &text, ForeignToForeign, &[]) };
        let mut back = pseudonymiser.pseudonymise(&record).unwrap().source.bytes;
        Ipcrypt::new([1; 16]).decrypt_ip16(&mut back);
        prop_assert_eq!(back, record.source);
    }
}
