use super::*;
use crate::order::Basis;
use crate::prefixes::special::Special;
use crate::selectors::check::OrderTerms;
use serde_json::{Value, json};

mod patterns;

const LIST: Format = Format::List;

fn moment(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    moment("2026-12-01T00:00:00Z")
}

pub(super) fn context() -> CheckContext {
    let terms = OrderTerms {
        measure: "m-1".to_owned(),
        standard: "s-1".to_owned(),
        acts: vec!["a-1".to_owned()],
        not_before: moment("2026-11-01T00:00:00+09:00"),
        not_after: moment("2027-02-01T00:00:00+09:00"),
        approved_facilities: Vec::new(),
        approved_machine_information: Vec::new(),
        party_prefixes: Vec::new(),
        payload_offsets: vec![0, 16],
        prefixes_excluded: vec!["198.18.7.0/24".parse().unwrap()],
        fields_excluded: Vec::new(),
        domestic_conditions: true,
    };
    CheckContext { order: Some(terms), ..CheckContext::laboratory(Basis::ForeignToForeign) }
}

fn terms() -> Terms {
    Terms {
        version: 7,
        act: "a-1".to_owned(),
        reason: "request 17".to_owned(),
        valid_until: moment("2027-01-31T00:00:00+09:00"),
        address_field: Field::Address,
        and: vec![Condition::any(Item::Aid, Field::DestinationPort, vec!["443".to_owned()])],
        ends_by_day: false,
    }
}

fn warnings() -> Warnings {
    Warnings::new(Special::DocumentationAllowed)
}

struct Made {
    set: Value,
    tally: Tally,
    rules: usize,
}

impl Made {
    fn counts(&self) -> [u64; 5] {
        let tally = &self.tally;
        [tally.read(), tally.loaded, tally.merged, tally.held_count(), tally.refused_count()]
    }

    fn reasons(&self) -> Vec<(&str, u64)> {
        self.tally.refused.iter().map(|(text, reason)| (text.as_str(), reason.count)).collect()
    }

    fn values(&self, rule: usize, field: &str) -> Value {
        let conditions = self.set["rules"][rule]["conditions"].as_array().unwrap();
        conditions
            .iter()
            .find(|condition| condition["field"] == field)
            .map_or(Value::Null, |found| found["any"].clone())
    }
}

fn made(format: Format, bytes: &[u8], terms: &Terms, warnings: &mut Warnings) -> Made {
    let input = Input { name: "feed", format, bytes };
    let imported = import(&[input], terms, &context(), warnings, now(), &mut |_, _| ()).unwrap();
    let set = imported.set.map_or(Value::Null, |bytes| {
        let set = SelectorSet::from_json(&bytes).unwrap();
        check(&set, &context()).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    });
    Made { set, rules: imported.report.rules, tally: imported.report.sources[0].clone() }
}

fn list(text: &str) -> Made {
    made(LIST, text.as_bytes(), &terms(), &mut warnings())
}

#[test]
fn a_plain_list_is_one_rule_and_every_line_is_accounted_for() {
    let made = list(
        "# a comment\n198.51.100.7\n203.0.113.0/28 ; a second\n\nnonsense\n198.51.100.7\r\n198.51.100.7/32\n2001:db8::1\n\
         198.18.7.9\n::ffff:1.2.3.4\n",
    );
    assert_eq!(made.counts(), [8, 3, 2, 1, 2], "{:?}", made.tally);
    assert_eq!(made.values(0, "address"), json!(["198.51.100.7", "203.0.113.0/28", "2001:db8::1"]));
    assert_eq!(made.values(0, "destination-port"), json!(["443"]));
    assert_eq!(made.rules, 1);
    assert_eq!(made.tally.held[warning::SPECIAL_PURPOSE].places, [Place::Line(9)]);
    let shown = Report { rules: 1, sources: vec![made.tally.clone()], overrides_unused: 0 }.to_string();
    assert!(shown.contains("8 read: 3 loaded, 2 merged, 1 held back, 2 refused"), "{shown}");
    assert!(shown.contains("is not an address or prefix: line 5"), "{shown}");
    for value in ["nonsense", "198.", "203."] {
        assert!(!shown.contains(value), "{shown}");
    }
    let source = &made.set["provenance"]["sources"][0];
    assert_eq!((&source["read"], &source["loaded"], &source["refused"]), (&json!(8), &json!(3), &json!(2)));
}

#[test]
fn too_few_conditions_and_what_the_order_excludes_are_refused_entry_by_entry() {
    let bare = Terms { and: Vec::new(), ..terms() };
    let none = made(LIST, b"198.51.100.7\n203.0.113.9\n", &bare, &mut warnings());
    assert_eq!((none.counts(), none.set), ([2, 0, 0, 0, 2], Value::Null));
    let reason = none.tally.refused.keys().next().unwrap();
    assert!(reason.contains("1 counted condition(s), 2 needed"), "{reason}");

    let mut no_special = Warnings::new(Special::DocumentationAllowed);
    no_special
        .add_overrides(
            json!([{"entry": "198.18.7.9", "list": warning::SPECIAL_PURPOSE, "reason": "why", "by": "author"}])
                .to_string()
                .as_bytes(),
        )
        .unwrap();
    let lines = "198.51.100.1\n198.51.100.2\n198.18.7.9\n198.51.100.3\n198.51.100.4\n";
    let one_bad = made(LIST, lines.as_bytes(), &terms(), &mut no_special);
    assert_eq!(one_bad.counts(), [5, 4, 0, 0, 1]);
    let (text, reason) = one_bad.tally.refused.iter().next().unwrap();
    assert!(text.contains("prefixes_excluded"), "{text}");
    assert_eq!(reason.places, [Place::Line(3)]);
}

#[test]
fn prefixes_that_are_too_wide_only_together_are_all_refused() {
    let mut words = Vec::new();
    let mut lines = String::new();
    for third in 0..160 {
        words.push(
            json!({"entry": format!("{third}.0.0.0/15"), "list": warning::OVER_WIDE, "reason": "why", "by": "author"}),
        );
        lines += &format!("{third}.0.0.0/15\n");
    }
    let mut warnings = warnings();
    warnings.add_overrides(json!(words).to_string().as_bytes()).unwrap();
    let made = made(LIST, lines.as_bytes(), &terms(), &mut warnings);
    // 0/8, 10/8 and 127/8 are special-purpose besides; the others are over 1/256 of the family together.
    assert_eq!((made.counts(), &made.set), ([160, 0, 0, 3, 157], &Value::Null));
    assert!(made.reasons()[0].0.contains("1 counted condition(s)"), "{:?}", made.reasons());
}

#[test]
fn a_table_names_fields_as_a_set_does() {
    let text = "source-address,destination-port,protocol,payload,payload-offset,valid-until\n\
        198.51.100.1 198.51.100.2,443 8000-8999,tcp,,,\n\
        198.51.100.3,443 8000-8999,tcp,,,2026-12-24T00:00:00Z\n\
        198.51.100.4,443 8000-8999,tcp,,,2027-06-01T00:00:00Z\n\
        198.51.100.5,,,504F5354,16,\n\
        198.51.100.6,,,504F5354,5,\n\
        198.51.100.7,443,tcp,,,2026-11-30T00:00:00Z\n\
        198.51.100.8,70000,tcp,,,\n\
        198.51.100.9,443\n\
        ,,,,,\n\
        198.51.100.10,,,,16,\n";
    let made = made(Format::Csv, text.as_bytes(), &terms(), &mut warnings());
    assert_eq!(made.counts(), [9, 4, 0, 0, 5], "{:?}", made.tally);
    assert_eq!(made.rules, 3, "{}", made.set);
    assert_eq!(made.values(0, "source-address"), json!(["198.51.100.1", "198.51.100.2", "198.51.100.4"]));
    // An end of its own that is earlier makes a rule of its own; a later one is cut to the import's.
    assert_eq!(made.set["rules"][0]["valid_until"], "2027-01-30T15:00:00Z");
    assert_eq!(made.set["rules"][1]["valid_until"], "2026-12-24T00:00:00Z");
    assert_eq!(made.set["rules"][2]["conditions"][2]["bytes"], "504f5354");
    let reasons = made.reasons();
    for reason in
        ["offset is not one of", "valid_until: is over", "any[0] is not a port", "has 2 cells", "need payload"]
    {
        assert!(reasons.iter().any(|(text, count)| text.contains(reason) && *count == 1), "{reason}: {reasons:?}");
    }
    for (header, complaint) in
        [("address,colour\n", "column 2 is none"), ("address,address\n", "column 2 stands twice")]
    {
        let input = Input { name: "feed", format: Format::Csv, bytes: header.as_bytes() };
        let error = import(&[input], &terms(), &context(), &mut warnings(), now(), &mut |_, _| ()).err().unwrap();
        assert!(error.to_string().contains(complaint), "{error}");
    }
}

#[test]
fn ends_of_one_day_become_one_rule_that_ends_when_the_day_begins() {
    let text = "address,valid-until\n198.51.100.1,2026-12-24T10:00:00Z\n198.51.100.2,2026-12-24T11:00:00Z\n\
        198.51.100.3,2026-12-01T05:00:00Z\n198.51.100.4,2027-06-01T00:00:00Z\n";
    let terms = Terms { ends_by_day: true, ..terms() };
    let made = made(Format::Csv, text.as_bytes(), &terms, &mut warnings());
    let ends: Vec<_> = made.set["rules"].as_array().unwrap().iter().map(|rule| rule["valid_until"].clone()).collect();
    assert_eq!(ends, ["2026-12-23T15:00:00Z", "2026-12-01T05:00:00Z", "2027-01-30T15:00:00Z"]);
    assert_eq!(made.values(0, "address"), json!(["198.51.100.1", "198.51.100.2"]));
}

fn bundle(objects: Value) -> Vec<u8> {
    json!({"type": "bundle", "id": "bundle--1", "objects": objects}).to_string().into_bytes()
}

fn indicator(number: usize, pattern: &str) -> Value {
    json!({"type": "indicator", "spec_version": "2.1", "pattern_type": "stix", "id": format!("indicator--{number}"),
           "valid_from": "2026-01-01T00:00:00Z", "pattern": pattern})
}

#[test]
fn a_bundle_s_indicators_become_rules_or_are_refused_by_name() {
    let mut late = indicator(3, "[ipv4-addr:value = '198.51.100.3']");
    late["valid_from"] = json!("2027-01-01T00:00:00Z");
    let mut revoked = indicator(4, "[ipv4-addr:value = '198.51.100.4']");
    revoked["revoked"] = json!(true);
    let mut sigma = indicator(5, "[ipv4-addr:value = '198.51.100.5']");
    sigma["pattern_type"] = json!("sigma");
    let mut ends = indicator(6, "[ipv4-addr:value = '198.51.100.6']");
    ends["valid_until"] = json!("2026-12-10T00:00:00Z");
    let objects = json!([
        {"type": "malware", "id": "malware--1", "pattern": 5},
        indicator(1, "[ipv4-addr:value = '198.51.100.1'] OR [ipv6-addr:value = '2001:db8::9']"),
        indicator(2, "[network-traffic:dst_ref.value = '198.51.100.2' AND network-traffic:dst_port IN (8080, 8443)]"),
        late, revoked, sigma, ends,
        indicator(7, "[ipv4-addr:value = '198.51.100.7'] FOLLOWEDBY [ipv4-addr:value = '198.51.100.8']"),
        indicator(8, "[network-traffic:src_payload_ref.payload_bin MATCHES '^GET']"),
        indicator(9, "[ipv4-addr:value = '198.51.100.9' OR domain-name:value = 'canary.example']"),
        indicator(10, "[ipv4-addr:value = '198.51.100.1']"),
    ]);
    let made = made(Format::Stix, &bundle(objects), &terms(), &mut warnings());
    assert_eq!(made.counts(), [10, 3, 1, 0, 6], "{:?}", made.tally);
    assert_eq!(made.rules, 3);
    assert_eq!(made.values(0, "address"), json!(["198.51.100.1", "2001:db8::9"]));
    assert_eq!(made.values(1, "destination-port"), json!(["8080", "8443"]));
    assert_eq!(made.set["rules"][2]["valid_until"], "2026-12-10T00:00:00Z");
    let reasons: Vec<_> = made.reasons().into_iter().map(|(text, _)| text.to_owned()).collect();
    for reason in ["FOLLOWEDBY", "MATCHES", "domain-name:value", "revoked", "valid_from", "pattern_type"] {
        assert!(reasons.iter().any(|text| text.contains(reason)), "{reason}: {reasons:?}");
    }
    assert!(!reasons.iter().any(|text| text.contains("canary") || text.contains("198.")), "{reasons:?}");
    assert_eq!(made.tally.skipped["objects that are no indicators"], 1);
}

#[test]
fn an_entry_of_several_rules_is_in_the_set_whole_or_not_at_all() {
    let objects = json!([
        indicator(1, "[ipv4-addr:value = '198.51.100.1']"),
        // The second alternative's payload is at an offset the order allows, but nothing narrows it: the port is missing.
        indicator(2, "[ipv4-addr:value = '198.51.100.2'] OR [network-traffic:src_payload_ref.payload_bin = h'00']"),
    ]);
    let bare = Terms { and: vec![Condition::any(Item::Aid, Field::Protocol, vec!["tcp".to_owned()])], ..terms() };
    let made = made(Format::Stix, &bundle(objects), &bare, &mut warnings());
    assert_eq!(made.counts(), [2, 1, 0, 0, 1], "{:?}", made.tally);
    assert_eq!(made.values(0, "address"), json!(["198.51.100.1"]), "nothing of the refused one is left");
    assert_eq!(made.rules, 1);
}

#[test]
fn an_event_s_attributes_count_with_to_ids_alone_and_its_times_do_not() {
    let attribute = |number: usize, kind: &str, value: &str, to_ids: Value| {
        json!({"uuid": format!("u-{number}"), "type": kind, "value": value, "to_ids": to_ids,
               "valid_until": "2026-12-02T00:00:00Z", "last_seen": "2020-01-01T00:00:00Z"})
    };
    let mut deleted = attribute(6, "ip-dst", "198.51.100.6", json!(true));
    deleted["deleted"] = json!(true);
    let event = json!({"Event": {"Attribute": [
        attribute(1, "ip-dst", "198.51.100.1", json!(true)),
        attribute(2, "ip-src", "198.51.100.2", json!("1")),
        attribute(3, "ip-dst", "198.51.100.3", json!(false)),
        attribute(4, "ip-dst|port", "198.51.100.4|8443", json!(true)),
        attribute(5, "domain", "canary.example", json!(true)),
        deleted,
    ], "Object": [{"name": "ip-port", "Attribute": [attribute(7, "ip-dst", "198.51.100.7", json!(true))]},
                  {"name": "gone", "deleted": true, "Attribute": [attribute(8, "ip-dst", "198.51.100.8", json!(true))]}]}});
    for wrong in ["[[]]", "{}", "[{}]", "[5]", "{\"Event\": []}", "{\"response\": {\"Event\": 1}}", "{"] {
        let error = misp::read(wrong.as_bytes()).err();
        assert!(error.is_some() || wrong == "[[]]", "{wrong}");
    }
    for file in [event.clone(), json!({"response": [event]}), json!([event]), event["Event"].clone()] {
        let made = made(Format::Misp, file.to_string().as_bytes(), &terms(), &mut warnings());
        assert_eq!(made.counts(), [7, 4, 0, 0, 3], "{:?}", made.tally);
        assert_eq!(made.values(0, "destination-address"), json!(["198.51.100.1", "198.51.100.7"]));
        assert_eq!(made.values(1, "source-address"), json!(["198.51.100.2"]));
        assert_eq!(made.values(2, "destination-port"), json!(["8443"]));
        for rule in made.set["rules"].as_array().unwrap() {
            assert_eq!(rule["valid_until"], "2027-01-30T15:00:00Z");
        }
    }
}

#[test]
fn a_warning_list_holds_back_until_a_person_says_why() {
    let lists = || {
        let mut warnings = warnings();
        warnings.add("own networks", b"203.0.113.0/24 # ours\n2001:db8:5::/48\n").unwrap();
        let published = json!({"name": "A CDN", "type": "cidr", "list": ["198.51.100.0/25"], "version": 1});
        warnings.add("file", published.to_string().as_bytes()).unwrap();
        warnings
    };
    let lines = b"198.51.100.9\n198.51.100.200\n203.0.112.0/23\n9.0.0.0/15\n2001:db8:5::1\n2001:db8::/32\n";
    let first = made(LIST, lines, &terms(), &mut lists());
    assert_eq!(first.counts(), [6, 1, 0, 5, 0], "{:?}", first.tally);
    let held: Vec<_> = first.tally.held.iter().map(|(list, reason)| (list.as_str(), reason.count)).collect();
    assert_eq!(held, [("A CDN", 1), ("over-wide prefixes", 2), ("own networks", 2)]);

    let word =
        |entry: &str, list: &str| json!({"entry": entry, "list": list, "reason": "rented by it", "by": "author"});
    let mut overridden = lists();
    let words = json!([
        word("198.51.100.9", "A CDN"),
        word("9.0.0.0/15", "over-wide prefixes"),
        word("198.51.100.77", "A CDN")
    ]);
    overridden.add_overrides(words.to_string().as_bytes()).unwrap();
    let input = Input { name: "feed", format: LIST, bytes: lines };
    let imported = import(&[input], &terms(), &context(), &mut overridden, now(), &mut |_, _| ()).unwrap();
    assert_eq!((imported.report.sources[0].loaded, imported.report.overrides_unused), (3, 1));
    let set: Value = serde_json::from_slice(&imported.set.unwrap()).unwrap();
    let kept = set["provenance"]["overrides"].as_array().unwrap();
    assert_eq!(kept.len(), 2);
    assert_eq!(
        (&kept[0]["list"], &kept[0]["reason"], &kept[0]["by"]),
        (&json!("A CDN"), &json!("rented by it"), &json!("author"))
    );

    for (words, complaint) in [
        (
            json!([{"entry": "198.51.100.9", "list": "A CDN", "reason": " ", "by": "author"}]),
            "person's name (by) and reason",
        ),
        (json!([word("198.51.100.9", "another")]), "none of the lists"),
        (json!([word("all", "A CDN")]), "not an address"),
    ] {
        let error = lists().add_overrides(words.to_string().as_bytes()).unwrap_err();
        assert!(error.contains(complaint), "{error}");
    }
    for list in [&b"198.51.100.0/25\nexample.org\n"[..], br#"{"name":"n","type":"hostname","list":["a.b"]}"#] {
        assert!(lists().add("n", list).is_err(), "a list that is not understood whole");
    }
}

#[test]
fn a_set_without_a_reason_for_an_override_is_refused_by_the_tap_too() {
    let mut made = list("198.51.100.7\n").set;
    made["provenance"]["overrides"] = json!([{"entry": "198.51.100.7", "list": "l", "reason": "", "by": "author"}]);
    let set = SelectorSet::from_json(made.to_string().as_bytes()).unwrap();
    let refusals = check(&set, &context()).unwrap_err();
    assert_eq!(refusals[0].field, "provenance.overrides[0]");
}

#[test]
fn a_format_is_told_by_name_and_beginning() {
    for (name, bytes, format) in [
        ("a.txt", &b"198.51.100.1\n"[..], Format::List),
        ("A.CSV", b"address\n", Format::Csv),
        ("a.json", b"\n {\"id\": 1, \"type\" : \"bundle\"}", Format::Stix),
        ("a.json", b"{\"Event\": {}}", Format::Misp),
        ("a.json", b"[]", Format::Misp),
    ] {
        assert_eq!(Format::guess(name, bytes), format, "{name}");
    }
}
