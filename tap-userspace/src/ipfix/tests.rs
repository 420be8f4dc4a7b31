use proptest::prelude::*;

use super::decode::{self, Body, DecodeError, Reason, Templates};
use super::element as e;
use super::encode::{self, Anonymisation, RuleTable, SelectorStatistics};
use super::message::{HEADER_BYTES, OBSERVATION_DOMAIN, message};
use super::template::{self, RecordTemplate};
use super::typed::{self, Acknowledgement, Identity};
use crate::limits::BODY_BYTES_MAX;
use crate::path::{AddressKind, ExportedAddress, PseudonymisedRecord, UnixNs};

fn address() -> impl Strategy<Value = ExportedAddress> {
    const KINDS: &[AddressKind] = &[AddressKind::Clear, AddressKind::Deterministic, AddressKind::PrefixPreserving];
    (any::<[u8; 16]>(), proptest::sample::select(KINDS)).prop_map(|(bytes, kind)| ExportedAddress { bytes, kind })
}

fn record() -> impl Strategy<Value = PseudonymisedRecord> {
    let who = (0..4_000_000_000_000_000_000u64, address(), address(), any::<Option<u16>>(), any::<Option<u16>>());
    let what =
        (any::<u8>(), any::<Option<u8>>(), prop_oneof![Just(4u8), Just(6u8)], 0..5u8, any::<u32>(), any::<u32>());
    let rest =
        (0..3u8, any::<bool>(), any::<u8>(), any::<u64>(), any::<[u64; 4]>(), any::<u32>(), any::<u64>(), any::<u32>());
    (who, what, rest).prop_map(|(who, what, rest)| PseudonymisedRecord {
        time: UnixNs(who.0),
        source: who.1,
        destination: who.2,
        source_port: who.3,
        destination_port: who.4,
        protocol: what.0,
        tcp_flags: what.1,
        ip_version: what.2,
        direction: what.3,
        line_bytes: what.4,
        ip_length: what.5,
        fragment: rest.0,
        sliced: rest.1,
        measure: rest.2,
        generation: rest.3,
        rules: rest.4,
        cpu: rest.5,
        sequence: rest.6,
        key_epoch: rest.7,
    })
}

fn session() -> (Vec<u8>, Templates) {
    let sets = encode::session_sets(Anonymisation::Deterministic);
    let bytes = message(1, 0, OBSERVATION_DOMAIN, &sets.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    let mut templates = Templates::default();
    decode::message(&bytes, &mut templates).unwrap();
    (bytes, templates)
}

fn identity() -> Identity {
    Identity { host: [1; 32], spool: [2; 16], sequence: 7, first_sequence: 3 }
}

/// A whole message of `records` with its identity.
fn example(records: &[PseudonymisedRecord]) -> Vec<u8> {
    let mut sets = vec![encode::identity_set(&identity())];
    sets.extend(encode::record_sets(records, RecordTemplate::Psamp, &[4; 16]));
    message(1, 0, OBSERVATION_DOMAIN, &sets.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap()
}

fn decoded(sets: &[Vec<u8>], templates: &mut Templates) -> Vec<PseudonymisedRecord> {
    let mut records = Vec::new();
    for body in sets {
        for set in decode::sets(body, 0, OBSERVATION_DOMAIN, templates).unwrap() {
            let Body::Data(template, data) = set.body else { panic!("no data: {:?}", set.id) };
            for data in &data {
                match typed::instance(&template, data).unwrap() {
                    Some(instance) => assert_eq!(instance, [4; 16]),
                    None => records.extend(typed::record(&template, data).unwrap()),
                }
            }
        }
    }
    records
}

proptest! {
    #[test]
    fn records_come_back_as_they_went(
        records in proptest::collection::vec(record(), 0..40),
        flow: bool,
    ) {
        let (_, mut templates) = session();
        let template = if flow { RecordTemplate::Flow } else { RecordTemplate::Psamp };
        prop_assert_eq!(decoded(&encode::record_sets(&records, template, &[4; 16]), &mut templates), records);
    }

    #[test]
    fn arbitrary_octets_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (_, mut templates) = session();
        let _result = decode::message(&bytes, &mut templates);
        let _result = decode::sets(&bytes, 16, OBSERVATION_DOMAIN, &mut templates);
    }

    #[test]
    fn one_wrong_octet_never_panics_and_an_error_names_an_octet_of_the_message(
        record in record(), at in 0..200usize, xor in 1..=255u8,
    ) {
        let (_, mut templates) = session();
        let mut bytes = example(&[record]);
        let length = bytes.len();
        bytes[at % length] ^= xor;
        match decode::message(&bytes, &mut templates) {
            Ok(message) => for (template, data) in message.records() {
                let _typed = (typed::record(template, data), typed::identity(template, data), typed::rule(template, data));
            },
            Err(error) => prop_assert!(error.offset <= length, "{}", error),
        }
    }

    #[test]
    fn wrong_octets_in_the_templates_never_panic(at in 0..4_000usize, xor in 1..=255u8, record in record()) {
        let (mut bytes, _) = session();
        let length = bytes.len();
        bytes[at % length] ^= xor;
        let mut templates = Templates::default();
        let _result = decode::message(&bytes, &mut templates);
        if let Ok(message) = decode::message(&example(&[record]), &mut templates) {
            for (template, data) in message.records() {
                let _typed = (typed::record(template, data), typed::identity(template, data), typed::rule(template, data));
            }
        }
    }

    #[test]
    fn a_truncated_message_is_an_error_at_its_length(record in record(), cut in 1..170usize) {
        let (_, mut templates) = session();
        let bytes = example(&[record]);
        let short = &bytes[..bytes.len() - cut.min(bytes.len())];
        let error = decode::message(short, &mut templates).unwrap_err();
        prop_assert_eq!(error.offset, if short.len() < HEADER_BYTES { short.len() } else { 2 });
    }
}

#[test]
fn bodies_fit_a_message_and_lose_nothing() {
    let (_, mut templates) = session();
    let one = PseudonymisedRecord {
        time: UnixNs(1_700_000_000_123_456_789),
        source: ExportedAddress { bytes: [1; 16], kind: AddressKind::Deterministic },
        destination: ExportedAddress { bytes: [2; 16], kind: AddressKind::Deterministic },
        source_port: None,
        destination_port: None,
        protocol: 17,
        tcp_flags: None,
        ip_version: 6,
        direction: 1,
        line_bytes: 84,
        ip_length: 60,
        fragment: 2,
        sliced: false,
        measure: 0,
        generation: 1,
        rules: [1, 0, 0, 1 << 63],
        cpu: 3,
        sequence: 0,
        key_epoch: 0,
    };
    let records: Vec<_> = (0..2_000)
        .map(|sequence| {
            let mut record = one;
            record.sequence = sequence;
            record
        })
        .collect();
    let bodies = encode::record_sets(&records, RecordTemplate::Flow, &[4; 16]);
    assert!(bodies.len() > 1 && bodies.iter().all(|body| body.len() <= BODY_BYTES_MAX));
    assert_eq!(decoded(&bodies, &mut templates), records);
    let count = |body: &Vec<u8>| decode::count_records(body, OBSERVATION_DOMAIN, &templates).unwrap();
    let counts: Vec<_> = bodies.iter().map(count).collect();
    assert_eq!(counts.iter().map(|count| count.packets).sum::<u32>(), 2_000);
    let record_bytes = RecordTemplate::Flow.template().record_bytes_min();
    assert_eq!(bodies.iter().map(|body| body.len() / record_bytes).sum::<usize>(), 2_000);
    // An instance record stands in each body.
    assert!(counts.iter().all(|count| count.all == count.packets + 1));
    assert!(encode::record_sets(&[], RecordTemplate::Psamp, &[4; 16]).is_empty());
}

#[test]
fn identity_acknowledgement_refusal_and_rules_come_back() {
    let (_, mut templates) = session();
    for template in template::receiver() {
        templates.insert(OBSERVATION_DOMAIN, template);
    }
    let acknowledged = Acknowledgement { host: [1; 32], spool: [2; 16], through: u64::MAX };
    let rules: Vec<String> = (0..256).map(|rule| format!("rule-{rule}-{}", "x".repeat(300))).collect();
    let table = RuleTable { measure: 1, measure_id: "m-1", generation: 9, set_sha256: [5; 32], rules: &rules };
    let mut sets = vec![
        encode::identity_set(&identity()),
        encode::acknowledgement_set(std::slice::from_ref(&acknowledged)),
        encode::refusal_set("unknown host"),
    ];
    let tables = encode::rule_table(&table);
    assert!(tables.len() > 1 && tables.iter().all(|body| body.len() <= BODY_BYTES_MAX));
    sets.extend(tables);

    let (mut found, mut ids) = (Vec::new(), Vec::new());
    for body in &sets {
        for set in decode::sets(body, 0, OBSERVATION_DOMAIN, &mut templates).unwrap() {
            let Body::Data(template, data) = set.body else { panic!("no data") };
            for data in &data {
                found.extend(typed::identity(&template, data).unwrap().map(|is| assert_eq!(is, identity())));
                found.extend(typed::acknowledgement(&template, data).unwrap().map(|is| assert_eq!(is, acknowledged)));
                found.extend(typed::refusal(&template, data).unwrap().map(|is| assert_eq!(is, "unknown host")));
                if let Some(rule) = typed::rule(&template, data).unwrap() {
                    assert_eq!((rule.measure, rule.generation, rule.set_sha256), (1, 9, [5; 32]));
                    assert_eq!((usize::from(rule.index), rule.measure_id.as_str()), (ids.len(), "m-1"));
                    ids.push(rule.id);
                }
                assert_eq!(typed::record(&template, data).unwrap(), None);
            }
        }
    }
    assert_eq!(found.len(), 3);
    assert_eq!(ids, rules);
}

#[test]
fn selector_rates_are_there_in_every_customary_way() {
    let (_, mut templates) = session();
    let statistics =
        SelectorStatistics { id: 1, name: "flow hash", sampling_ppm: 250_000, observed: 1_000, selected: 251 };
    let bodies = encode::selector_statistics(&[statistics]);
    let sets = decode::sets(&bodies[0], 0, OBSERVATION_DOMAIN, &mut templates).unwrap();
    let Body::Data(template, data) = &sets[0].body else { panic!("no data") };
    let of = |element| decode::value(template, &data[0], &element).unwrap().to_vec();
    assert_eq!(of(e::SAMPLING_PROBABILITY), 0.25f64.to_be_bytes());
    assert_eq!((of(e::SAMPLING_PACKET_INTERVAL), of(e::SAMPLING_PACKET_SPACE)), (vec![0, 0, 0, 1], vec![0, 0, 0, 3]));
    assert_eq!(of(e::SAMPLING_INTERVAL), vec![0, 0, 0, 4]);
    assert_eq!(of(e::SELECTOR_ID_TOTAL_PKTS_SELECTED), 251u64.to_be_bytes());
    assert_eq!(of(e::SELECTOR_NAME), b"flow hash");
}

#[test]
fn an_error_names_the_octet() {
    let mut templates = Templates::default();
    let bad = |sets: &[u8], templates: &mut Templates| {
        decode::message(&message(1, 0, 1, &[sets]).unwrap(), templates).unwrap_err()
    };
    // A set that claims more than there is; its content begins at octet 20.
    let error = bad(&[1, 0, 0, 9], &mut templates);
    assert_eq!(error.offset, 20);
    assert_eq!(error.to_string(), "octet 20: 5 octets are needed for a set, 0 are there");
    assert_eq!(bad(&[1, 0, 0, 3], &mut templates), DecodeError { offset: 18, reason: Reason::SetLength(3) });
    assert_eq!(bad(&[0, 4, 0, 4], &mut templates), DecodeError { offset: 16, reason: Reason::SetId(4) });
    // A field of length 0 would make records without end.
    let zero = bad(&[0, 2, 0, 12, 1, 0, 0, 1, 0, 4, 0, 0], &mut templates);
    assert_eq!(zero, DecodeError { offset: 26, reason: Reason::FieldLength(4) });
    let scope = bad(&[0, 3, 0, 14, 1, 0, 0, 1, 0, 2, 0, 4, 0, 1], &mut templates);
    assert_eq!(scope.reason, Reason::Scope { scope: 2, fields: 1 });
    // Data of a template that was never announced is no error: it is kept as it is.
    let unknown = message(1, 0, 1, &[&[1, 44, 0, 6, 1, 2]]).unwrap();
    assert!(matches!(decode::message(&unknown, &mut templates).unwrap().sets[0].body, Body::Unknown));
}

#[test]
fn a_template_is_withdrawn_alone_or_with_all_of_its_kind() {
    let (_, mut templates) = session();
    let withdraw = |id: u16, set: u16| {
        let mut bytes = vec![0, u8::try_from(set).unwrap(), 0, 8];
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes
    };
    decode::sets(&withdraw(template::ID_PSAMP, 2), 0, OBSERVATION_DOMAIN, &mut templates).unwrap();
    assert!(templates.get(OBSERVATION_DOMAIN, template::ID_PSAMP).is_none());
    decode::sets(&withdraw(3, 3), 0, OBSERVATION_DOMAIN, &mut templates).unwrap();
    let left: Vec<u16> = templates.of_domain(OBSERVATION_DOMAIN).map(|template| template.id).collect();
    assert_eq!(left, [template::ID_FLOW]);
}
