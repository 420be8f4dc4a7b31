use super::*;
use crate::prefixes::special::Special;
use crate::selectors::values::Written;
use serde_json::{Value, json};

mod model;
mod payload;

fn terms() -> OrderTerms {
    OrderTerms {
        measure: "m-1".to_owned(),
        standard: "s-1".to_owned(),
        acts: vec!["a-1".to_owned()],
        not_before: "2026-11-01T00:00:00+09:00".parse().unwrap(),
        not_after: "2027-02-01T00:00:00+09:00".parse().unwrap(),
        approved_facilities: Vec::new(),
        approved_machine_information: Vec::new(),
        party_prefixes: Vec::new(),
        payload_offsets: vec![0, 16],
        prefixes_excluded: Vec::new(),
        fields_excluded: Vec::new(),
        domestic_conditions: true,
    }
}

fn context(basis: Basis, terms: OrderTerms) -> CheckContext {
    CheckContext { order: Some(terms), ..CheckContext::laboratory(basis) }
}

fn rule(conditions: Value) -> Value {
    json!({"id": "r1", "act": "a-1", "reason": "why", "valid_until": "2027-01-01T00:00:00Z", "conditions": conditions})
}

fn set(rules: Value) -> SelectorSet {
    let set = json!({"measure": "m-1", "version": 7, "standard": "s-1", "rules": rules});
    SelectorSet::from_json(set.to_string().as_bytes()).unwrap()
}

/// A good rule's conditions.
fn good() -> Value {
    json!([
        {"item": "facility-address", "field": "source-address", "any": ["203.0.113.0/24", "2001:db8::/48"]},
        {"item": "aid", "field": "destination-port", "any": ["443", "8000-8999"]},
    ])
}

fn refusals(rules: Value, context: &CheckContext) -> Vec<String> {
    check(&set(rules), context).unwrap_err().iter().map(ToString::to_string).collect()
}

/// The only refusal of a set with one rule.
fn refusal(conditions: Value, context: &CheckContext) -> String {
    let mut refusals = refusals(json!([rule(conditions)]), context);
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    refusals.remove(0)
}

fn foreign() -> CheckContext {
    context(Basis::ForeignToForeign, terms())
}

#[test]
fn every_field_is_read_merged_and_put_in_its_place() {
    let conditions = json!([
        {"item": "facility-address", "field": "source-address", "any": ["203.0.113.7/24", "203.0.112.0/24", "203.0.113.1"]},
        {"item": "aid", "field": "destination-address", "any": ["198.51.100.1"]},
        {"item": "aid", "field": "address", "any": ["2001:db8::1"]},
        {"item": "aid", "field": "source-port", "any": ["1024-2048", "2000-3000", "3001"]},
        {"item": "aid", "field": "destination-port", "any": ["443"]},
        {"item": "aid", "field": "port", "any": ["53", "443"]},
        {"item": "aid", "field": "protocol", "any": ["udp", "tcp", "6"]},
        {"item": "aid", "field": "tcp-flags", "mask": "SYN,ACK", "value": "SYN"},
        {"item": "aid", "field": "ip-length", "range": [40, 60]},
        {"item": "aid", "field": "fragment", "any": ["later", "none"]},
    ]);
    let checked = check(&set(json!([rule(conditions)])), &foreign()).unwrap();
    let rule = &checked.rules[0];
    let source = rule.source_address.as_ref().unwrap();
    assert_eq!(source.item, AddressItem::FacilityAddress);
    assert_eq!(source.prefixes, ["203.0.112.0/23".parse::<IpNetwork>().unwrap()]);
    let entries: Vec<IpNetwork> =
        ["203.0.113.0/24", "203.0.112.0/24", "203.0.113.1/32"].map(|text| text.parse().unwrap()).into();
    assert_eq!(source.entries, entries, "as written: a pseudonym's exception is judged on these");
    assert_eq!(rule.destination_address.as_ref().unwrap().item, AddressItem::Aid);
    assert!(rule.address.is_some());
    assert_eq!(rule.source_port, Some(vec![1024..=3001]));
    assert_eq!(rule.destination_port, Some(vec![443..=443]));
    assert_eq!(rule.port, Some(vec![53..=53, 443..=443]));
    assert_eq!(rule.protocol, Some(vec![6, 17]));
    assert!(rule.tcp_flags.is_some_and(|flags| (flags.mask, flags.value) == (0x12, 0x02)));
    assert_eq!(rule.ip_length, Some(40..=60));
    assert_eq!(rule.fragment.as_ref().unwrap().len(), 2);
    use ConditionKind::{Address, Fragment, IpLength, Port, TcpFlags};
    assert_eq!(rule.counted, [Address, Port, TcpFlags, IpLength, Fragment]);
    assert_eq!((checked.version, checked.scope), (7, None));
    assert_eq!(checked.ends, ["2027-01-01T00:00:00Z".parse().unwrap()]);
}

#[test]
fn what_is_too_little_is_refused_by_rule_condition_and_field() {
    let facility = |any: &[&str]| json!({"item": "facility-address", "field": "source-address", "any": any});
    let port = json!({"item": "aid", "field": "port", "any": ["443"]});
    let tcp = json!({"item": "aid", "field": "protocol", "any": ["tcp"]});
    let one_address = facility(&["203.0.113.0/24"]);
    for (conditions, starts) in [
        (json!([one_address]), "rule \"r1\": conditions: 1 counted condition(s), 2 needed"),
        (json!([]), "rule \"r1\": conditions: 0 counted"),
        // One kind, however many sides.
        (
            json!([one_address, {"item": "aid", "field": "destination-address", "any": ["198.51.100.0/24"]}]),
            "rule \"r1\": conditions: 1 counted",
        ),
        (
            json!([facility(&["0.0.0.0/0"]), port]),
            "rule \"r1\": conditions[0] (source-address): does not count, it is trivial",
        ),
        (
            json!([facility(&["0.0.0.0/1", "128.0.0.0/1"]), port]),
            "rule \"r1\": conditions[0] (source-address): does not count, it is trivial",
        ),
        (
            json!([port, facility(&["::/1", "8000::/1"])]),
            "rule \"r1\": conditions[1] (source-address): does not count, it is trivial",
        ),
        (
            json!([facility(&["203.0.113.0/24", "::/0"]), port]),
            "rule \"r1\": conditions[0] (source-address): does not count",
        ),
        (
            json!([facility(&["16.0.0.0/8", "17.0.0.1"]), port]),
            "rule \"r1\": conditions[0] (source-address): does not count",
        ),
        (
            json!([one_address, {"item": "aid", "field": "port", "any": ["0-32768"]}]),
            "rule \"r1\": conditions[1] (port): does not count",
        ),
        (
            json!([one_address, {"item": "aid", "field": "port", "any": ["0-30000", "30000-65535"]}]),
            "rule \"r1\": conditions[1] (port): does not count",
        ),
        (
            json!([one_address, {"item": "aid", "field": "ip-length", "range": [0, 32768]}]),
            "rule \"r1\": conditions[1] (ip-length): does not count",
        ),
        (
            json!([one_address, {"item": "aid", "field": "tcp-flags", "mask": "", "value": ""}]),
            "rule \"r1\": conditions[1] (tcp-flags): does not count",
        ),
        (
            json!([one_address, {"item": "aid", "field": "fragment", "any": ["none", "first", "later"]}]),
            "rule \"r1\": conditions[1] (fragment): does not count",
        ),
        // Two that count, but neither is a facility's address or a command: a nation's web traffic.
        (
            json!([port, {"item": "aid", "field": "tcp-flags", "mask": "SYN", "value": "SYN"}]),
            "rule \"r1\": conditions: no counted condition is of item facility-address or command",
        ),
        (json!([port, tcp]), "rule \"r1\": conditions[1] (protocol): does not count, it stands beside ports"),
        (
            json!([port, {"item": "aid", "field": "address", "any": ["203.0.113.1"]}]),
            "rule \"r1\": conditions: no counted condition is of item facility-address or command",
        ),
        // The facility's address is trivial, another address counts: still no facility.
        (
            json!([facility(&["0.0.0.0/0"]), port, {"item": "aid", "field": "address", "any": ["203.0.113.1"]}]),
            "rule \"r1\": conditions[0] (source-address): does not count",
        ),
    ] {
        let refusal = refusal(conditions.clone(), &foreign());
        assert!(refusal.starts_with(starts), "{conditions}: {refusal}");
    }
    for enough in [
        json!([one_address, tcp]),
        json!([one_address, port, tcp]),
        json!([facility(&["16.0.0.0/8"]), port]),
        json!([one_address, {"item": "aid", "field": "port", "any": ["0-32767"]}]),
        json!([one_address, {"item": "aid", "field": "ip-length", "range": [0, 32767]}]),
        json!([one_address, {"item": "aid", "field": "fragment", "any": ["first", "later"]}]),
    ] {
        assert!(check(&set(json!([rule(enough.clone())])), &foreign()).is_ok(), "{enough}");
    }
}

#[test]
fn half_of_all_protocols_is_not_trivial_one_more_is() {
    let with = |last: u8| {
        let any: Vec<String> = (0..=last).map(|number| number.to_string()).collect();
        let address = json!({"item": "facility-address", "field": "address", "any": ["203.0.113.1"]});
        check(&set(json!([rule(json!([address, {"item": "aid", "field": "protocol", "any": any}]))])), &foreign())
    };
    assert!(with(127).is_ok());
    let refusals = with(128).unwrap_err();
    assert_eq!((refusals[0].condition, refusals[0].field.as_str()), (Some(1), "protocol"));
}

#[test]
fn malformed_conditions_are_refused_without_their_values() {
    for (condition, starts) in [
        (json!({"item": "command", "field": "port", "any": ["9443"]}), "item command does not go with this field"),
        (json!({"item": "facility-address", "field": "port", "any": ["9443"]}), "item facility-address does not go"),
        (json!({"item": "command", "field": "source-address", "any": ["198.51.100.9"]}), "item command does not go"),
        (json!({"item": "aid", "field": "port", "any": []}), "any is empty"),
        (json!({"item": "aid", "field": "port"}), "any is missing"),
        (json!({"item": "aid", "field": "port", "any": ["9443"], "mask": "SYN"}), "mask is not for port"),
        (json!({"item": "aid", "field": "port", "any": ["9443"], "offset": 3}), "offset is not for port"),
        (json!({"item": "aid", "field": "port", "any": ["443", "9443-943"]}), "any[1] is not a port"),
        (json!({"item": "aid", "field": "port", "any": ["+9443"]}), "any[0] is not a port"),
        (json!({"item": "aid", "field": "port", "any": ["94430"]}), "any[0] is not a port"),
        (
            json!({"item": "aid", "field": "destination-address", "any": ["198.51.100.9/33"]}),
            "any[0] is not an address",
        ),
        (
            json!({"item": "aid", "field": "destination-address", "any": ["::ffff:198.51.100.9"]}),
            "any[0] is an IPv4-mapped",
        ),
        (json!({"item": "aid", "field": "protocol", "any": ["tcp9443"]}), "any[0] is not a protocol"),
        (json!({"item": "aid", "field": "protocol", "any": ["256"]}), "any[0] is not a protocol"),
        (json!({"item": "aid", "field": "tcp-flags", "mask": "SYN", "value": "SYN,ACK"}), "value has a flag"),
        (json!({"item": "aid", "field": "tcp-flags", "mask": "SYN9443", "value": ""}), "mask: not a list"),
        (json!({"item": "aid", "field": "ip-length", "range": [60, 40]}), "range must be"),
        (json!({"item": "aid", "field": "ip-length", "range": [0, 65576]}), "range must be"),
        (json!({"item": "aid", "field": "fragment", "any": ["9443"]}), "any[0] is not a fragment state"),
        (
            json!({"item": "command", "field": "payload", "offset": 0, "bytes": "9443", "any": ["x"]}),
            "any is not for payload; it takes offset and bytes",
        ),
        (json!({"item": "command", "field": "payload", "bytes": "9443"}), "offset is missing"),
        (json!({"item": "command", "field": "payload", "offset": 0}), "bytes is missing"),
        (json!({"item": "command", "field": "payload", "offset": 0, "bytes": ""}), "bytes must be 1 to 32 bytes"),
        (
            json!({"item": "command", "field": "payload", "offset": 0, "bytes": "94".repeat(33)}),
            "bytes must be 1 to 32 bytes",
        ),
        (json!({"item": "command", "field": "payload", "offset": 0, "bytes": "944"}), "bytes is not pairs of hex"),
        (
            json!({"item": "command", "field": "payload", "offset": 0, "bytes": "9443", "mask": "ff"}),
            "mask is not as long as bytes",
        ),
        (
            json!({"item": "command", "field": "payload", "offset": 0, "bytes": "9443", "mask": "fg"}),
            "mask is not pairs of hex",
        ),
        (
            json!({"item": "command", "field": "payload", "offset": 0, "bytes": "9443", "mask": "0000"}),
            "mask looks at no bit",
        ),
        (json!({"item": "command", "field": "payload", "offset": 1025, "bytes": "9443"}), "offset is over 1024"),
        (
            json!({"item": "command", "field": "payload", "offset": 1, "bytes": "9443"}),
            "offset is not one of the order's",
        ),
        (
            json!({"item": "command", "field": "payload", "offset": 0, "bytes": "9443", "value": "SYN"}),
            "value is not for payload",
        ),
        (json!({"item": "aid", "field": "payload", "any": ["9443"]}), "item aid does not go"),
    ] {
        let field = condition["field"].as_str().unwrap().to_owned();
        let address = json!({"item": "facility-address", "field": "source-address", "any": ["203.0.113.0/24"]});
        let both = if field == "source-address" { json!([condition]) } else { json!([address, condition]) };
        let index = both.as_array().unwrap().len() - 1;
        let refusal = refusal(both, &foreign());
        assert!(refusal.starts_with(&format!("rule \"r1\": conditions[{index}] ({field}): {starts}")), "{refusal}");
        for value in ["9443", "198.51.100.9"] {
            assert!(!refusal.contains(value), "{refusal}");
        }
    }
}

#[test]
fn terms_of_set_and_rule_are_refused_by_name() {
    let good_rule = rule(good());
    let with = |key: &str, value: Value| {
        let mut rule = good_rule.clone();
        rule[key] = value;
        refusals(json!([rule]), &foreign()).join("; ")
    };
    for (key, value, starts) in [
        ("act", json!("a-2"), "rule \"r1\": act: "),
        ("reason", json!(" "), "rule \"r1\": reason: "),
        ("id", json!(""), "rule \"\": id: "),
        ("valid_until", json!("2027-02-01T00:00:00.000000001+09:00"), "rule \"r1\": valid_until: does not lie"),
        ("valid_until", json!("2026-11-01T00:00:00+09:00"), "rule \"r1\": valid_until: does not lie"),
        ("valid_until", json!("2027-01-01"), "rule \"r1\": valid_until: is not a moment"),
    ] {
        let refusal = with(key, value);
        assert!(refusal.starts_with(starts), "{key}: {refusal}");
    }
    assert_eq!(refusals(json!([]), &foreign()), ["rules: the set has none"]);
    assert_eq!(refusals(json!([good_rule, good_rule]), &foreign()), ["rules: id \"r1\" stands twice"]);
    let twice = json!([good()[0], good()[1], good()[1]]);
    assert!(
        refusal(twice, &foreign())
            .starts_with("rule \"r1\": conditions[2] (destination-port): this field stands twice")
    );

    let other = OrderTerms { measure: "m-2".to_owned(), standard: "s-2".to_owned(), ..terms() };
    let refusals = refusals(json!([good_rule]), &context(Basis::ForeignToForeign, other));
    assert!(refusals[0].starts_with("measure: \"m-1\" is another measure than the order's \"m-2\""), "{refusals:?}");
    assert!(refusals[1].starts_with("standard: "), "{refusals:?}");
}

#[test]
fn a_set_has_as_many_rules_as_the_kernel_or_the_approval_allows() {
    let rules = |count: usize| {
        let rules: Vec<Value> = (0..count)
            .map(|number| {
                let mut rule = rule(good());
                rule["id"] = json!(format!("r{number}"));
                rule
            })
            .collect();
        json!(rules)
    };
    assert_eq!(check(&set(rules(RULES_MAX)), &foreign()).unwrap().rules.len(), RULES_MAX);
    assert_eq!(refusals(rules(RULES_MAX + 1), &foreign()), ["rules: 257 are more than the 256 allowed"]);
    let fewer = CheckContext { rules_max: 3, ..foreign() };
    assert!(check(&set(rules(3)), &fewer).is_ok());
    assert_eq!(refusals(rules(4), &fewer), ["rules: 4 are more than the 3 allowed"]);
}

#[test]
fn what_the_approval_excludes_is_refused() {
    let terms = OrderTerms {
        fields_excluded: vec![Field::DestinationPort],
        prefixes_excluded: vec!["203.0.113.128/25".parse().unwrap()],
        ..terms()
    };
    let refusals = refusals(json!([rule(good())]), &context(Basis::ForeignToForeign, terms));
    assert!(refusals[0].starts_with("rule \"r1\": conditions[0] (source-address): holds addresses that approval"));
    assert!(
        refusals[1].starts_with("rule \"r1\": conditions[1] (destination-port): approval.conditions.fields_excluded")
    );
    let more = CheckContext { conditions_min: 3, ..foreign() };
    assert!(refusal(good(), &more).contains("2 counted condition(s), 3 needed"));
}

#[test]
fn domestic_addresses_in_conditions_need_the_orders_leave() {
    let table = CountryTable::from_csv(b"203.0.113.9,203.0.113.9,JP\n", None, Special::DocumentationAllowed).unwrap();
    let without = OrderTerms { domestic_conditions: false, ..terms() };
    let context_without = context(Basis::ForeignToForeign, without).with_country_table(table.clone());
    assert!(
        refusal(good(), &context_without).starts_with("rule \"r1\": conditions[0] (source-address): holds domestic")
    );
    assert!(check(&set(json!([rule(good())])), &foreign().with_country_table(table)).is_ok());
}

#[test]
fn an_agreements_scope_is_the_partys_prefixes() {
    let party: Vec<IpNetwork> = vec!["198.51.100.0/24".parse().unwrap()];
    let terms = OrderTerms { party_prefixes: party.clone(), ..terms() };
    let checked = check(&set(json!([rule(good())])), &context(Basis::Agreement, terms)).unwrap();
    assert_eq!(checked.scope, Some(party));
}

#[test]
fn under_an_approved_list_only_what_is_on_it_counts() {
    let approved = |basis| {
        let machine =
            Values::parse(Field::Port, Written { any: Some(&["443".into(), "80-90".into()]), ..Written::default() });
        let terms = OrderTerms {
            approved_facilities: vec!["203.0.113.0/24".parse().unwrap()],
            approved_machine_information: vec![(Field::Port, machine.unwrap())],
            ..terms()
        };
        context(basis, terms)
    };
    let address = |field: &str, any: &str| json!({"item": "facility-address", "field": field, "any": [any]});
    for (basis, conditions, counted) in [
        (Basis::ForeignToDomestic, json!([address("source-address", "203.0.113.7")]), Some(1)),
        (Basis::DomesticToForeign, json!([address("destination-address", "203.0.113.7")]), Some(1)),
        (Basis::ForeignToDomestic, json!([address("destination-address", "203.0.113.7")]), None),
        (Basis::DomesticToForeign, json!([address("source-address", "203.0.113.7")]), None),
        (Basis::ForeignToDomestic, json!([address("address", "203.0.113.7")]), None),
        (Basis::ForeignToDomestic, json!([address("source-address", "203.0.112.0/23")]), None),
        (Basis::ForeignToDomestic, json!([{"item": "aid", "field": "source-address", "any": ["203.0.113.7"]}]), None),
        (
            Basis::ForeignToDomestic,
            json!([address("source-address", "203.0.113.7"), {"item": "aid", "field": "port", "any": ["85", "443"]}]),
            Some(2),
        ),
        // What is not on the list may stand, it does not count.
        (
            Basis::ForeignToDomestic,
            json!([address("source-address", "203.0.113.7"), {"item": "aid", "field": "port", "any": ["91"]}]),
            Some(1),
        ),
        (
            Basis::ForeignToDomestic,
            json!([address("source-address", "203.0.113.7"), {"item": "aid", "field": "source-port", "any": ["443"]}]),
            Some(1),
        ),
        // Approved machine information alone names no facility.
        (Basis::ForeignToDomestic, json!([{"item": "aid", "field": "port", "any": ["443"]}]), None),
    ] {
        let result = check(&set(json!([rule(conditions.clone())])), &approved(basis));
        let result = result.ok().map(|checked| checked.rules[0].counted.len());
        assert_eq!(result, counted, "{basis} {conditions}");
    }
    let refusal = refusal(json!([address("destination-address", "203.0.113.7")]), &approved(Basis::ForeignToDomestic));
    assert!(refusal.contains("conditions[0] (destination-address)") && refusal.contains("approved list"), "{refusal}");
}

#[test]
fn one_condition_lies_within_another_or_not() {
    let flags = |mask: &str, value: &str| {
        let written = Written { mask: Some(mask), value: Some(value), ..Written::default() };
        Values::parse(Field::TcpFlags, written).unwrap()
    };
    assert!(flags("SYN,ACK", "SYN").is_within(&flags("SYN", "SYN")));
    assert!(!flags("SYN", "SYN").is_within(&flags("SYN,ACK", "SYN")));
    assert!(!flags("SYN,ACK", "ACK").is_within(&flags("SYN", "SYN")));
    let length = |range| Values::parse(Field::IpLength, Written { range: Some(range), ..Written::default() }).unwrap();
    assert!(length([40, 60]).is_within(&length([40, 61])));
    assert!(!length([40, 62]).is_within(&length([40, 61])));
    assert!(!length([40, 60]).is_within(&flags("SYN", "SYN")));
}

#[test]
fn the_laboratory_asks_for_neither_order_nor_times() {
    let mut other = rule(good());
    (other["act"], other["valid_until"]) = (json!("other"), json!("open"));
    let checked = check(&set(json!([other])), &CheckContext::laboratory(Basis::ForeignToForeign)).unwrap();
    assert_eq!((checked.ends, checked.scope), (Vec::new(), None));
    let one = json!([{"item": "facility-address", "field": "source-address", "any": ["203.0.113.0/24"]}]);
    let set = set(json!([rule(one)]));
    assert!(check(&set, &CheckContext::laboratory(Basis::ForeignToForeign)).is_err());
    assert!(check(&set, &CheckContext::laboratory(Basis::ForeignToDomestic)).is_ok());
}

#[test]
fn a_set_of_another_form_is_refused_by_key_and_place_without_values() {
    for (text, named) in [
        (r#"{"measure":"m","version":1,"standard":"s","rules":[],"secret":1}"#, "unknown field `secret`"),
        (r#"{"measure":"m","version":1,"rules":[]}"#, "missing field `standard`"),
        (r#"{"measure":"m","version":"198.51.100.9","standard":"s","rules":[]}"#, "expected u64"),
        (
            r#"{"measure":"m","version":1,"standard":"s","rules":[{"id":"r","act":"a","reason":"","valid_until":"","conditions":[{"item":"aid","field":"198.51.100.9","any":[]}]}]}"#,
            "expected one of `source-address`",
        ),
        ("{", "EOF"),
    ] {
        let error = SelectorSet::from_json(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("line 1, column ") && error.contains(named), "{error}");
        assert!(!error.contains("198.51.100.9"), "{error}");
    }
    let shown =
        format!("{:?} {:?}", set(json!([rule(good())])), check(&set(json!([rule(good())])), &foreign()).unwrap());
    assert!(!shown.contains("203.0.113") && !shown.contains("443"), "{shown}");
}

#[test]
fn a_rule_that_is_over_keeps_its_place_and_no_packet_satisfies_it() {
    let (mut first, second, mut third) = (rule(good()), rule(good()), rule(good()));
    (first["id"], first["valid_until"]) = (json!("r0"), json!("2026-12-01T00:00:00Z"));
    (third["id"], third["valid_until"]) = (json!("r2"), json!("2026-12-24T00:00:00Z"));
    let checked = check(&set(json!([first, second, third])), &context(Basis::ForeignToForeign, terms())).unwrap();
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let [one, two, last] = ["2026-12-01T00:00:00Z", "2026-12-24T00:00:00Z", "2027-01-01T00:00:00Z"].map(at);
    for (now, over, next, places) in [
        (at("2026-11-30T23:59:59.999Z"), 0, Some(one), vec![]),
        (one, 1, Some(two), vec![0]),
        (at("2026-12-23T00:00:00Z"), 1, Some(two), vec![0]),
        (two, 2, Some(last), vec![0, 2]),
        (last, 3, None, vec![0, 1, 2]),
    ] {
        assert_eq!((checked.over(now), checked.next_end(now), checked.last_end()), (over, next, Some(last)), "{now}");
        let left = checked.clone().at(now);
        assert_eq!(left.rules.len(), 3);
        for (place, (is, was)) in left.rules.iter().zip(&checked.rules).enumerate() {
            let is_over = places.contains(&place);
            assert_eq!(is == was, !is_over, "rule {place} at {now}");
            let of_none = is.address.as_ref().is_some_and(|address| address.prefixes.is_empty());
            assert_eq!((of_none, is.counted.is_empty(), &is.id), (is_over, is_over, &was.id), "rule {place} at {now}");
        }
    }
}
