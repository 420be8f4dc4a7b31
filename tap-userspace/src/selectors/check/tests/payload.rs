//! Payload conditions: what they are, what they need beside them, what an approved list allows.

use super::*;

fn command(offset: u16, bytes: &str, mask: Option<&str>) -> Value {
    let mut condition = json!({"item": "command", "field": "payload", "offset": offset, "bytes": bytes});
    if let Some(mask) = mask {
        condition["mask"] = json!(mask);
    }
    condition
}

/// Command information is an Art. 22(2) item of its own: with a port it is enough, without a facility's address.
#[test]
fn a_payload_condition_counts_and_is_put_in_its_place() {
    let port = json!({"item": "aid", "field": "port", "any": ["80"]});
    let set = set(json!([rule(json!([port, command(16, "504F5354", Some("ffdf00ff"))]))]));
    let checked = check(&set, &foreign()).unwrap();
    assert_eq!(checked.rules[0].counted, [ConditionKind::Port, ConditionKind::Payload]);
    let values = checked.rules[0].payload.as_ref().unwrap();
    assert_eq!((values.offset, &values.bytes[..]), (16, &[0x50, 0x4f, 0, 0x54][..]));
    assert_eq!(values.mask, [0xff, 0xdf, 0, 0xff]);
    let shown = format!("{set:?} {checked:?} {:?}", checked.rules);
    assert!(!["504f", "504F", "80, 79", "\"POST"].iter().any(|trace| shown.contains(trace)), "{shown}");
    // In the laboratory there is no order to name offsets.
    let set = self::set(json!([rule(json!([port, command(1024, "50", None)]))]));
    let checked = check(&set, &CheckContext::laboratory(Basis::ForeignToForeign)).unwrap();
    assert_eq!(checked.rules[0].payload.as_ref().unwrap().mask, [0xff]);
}

#[test]
fn a_payload_condition_needs_an_address_or_a_port_beside_it() {
    let alone = "needs an address or port condition beside it";
    let others = [
        json!({"item": "aid", "field": "protocol", "any": ["tcp"]}),
        json!({"item": "facility-address", "field": "address", "any": ["0.0.0.0/0"]}),
        json!({"item": "aid", "field": "port", "any": ["0-40000"]}),
    ];
    for other in others {
        let length = json!({"item": "aid", "field": "ip-length", "range": [40, 60]});
        let found = refusal(json!([other, command(0, "9443", None), length]), &foreign());
        assert!(found.contains(alone) && found.contains("conditions[1] (payload)"), "{found}");
    }
    let found = refusal(json!([good()[0], command(0, "94", None), command(16, "43", None)]), &foreign());
    assert!(found.contains("this field stands twice"), "{found}");
}

/// Under Art. 35(2) command information counts where the approval names it, and one that asks for more is within it.
#[test]
fn under_an_approved_list_a_payload_condition_must_be_on_it() {
    let approved = |offset, bytes: &str, mask| {
        let written = Written { offset: Some(offset), bytes: Some(bytes), mask, ..Default::default() };
        let values = Values::parse(Field::Payload, written).unwrap();
        let terms = OrderTerms { approved_machine_information: vec![(Field::Payload, values)], ..terms() };
        context(Basis::ForeignToDomestic, terms)
    };
    let conditions = |condition| json!([{"item": "aid", "field": "port", "any": ["80"]}, condition]);
    let on_the_list = approved(16, "5000", Some("f000"));
    for condition in [command(16, "5000", Some("f000")), command(16, "5734", None), command(16, "50ff33", None)] {
        let checked = check(&set(json!([rule(conditions(condition))])), &on_the_list).unwrap();
        assert_eq!(checked.rules[0].counted, [ConditionKind::Payload]);
    }
    for condition in [
        command(16, "60ff", None),
        command(16, "50", None),
        command(0, "5000", None),
        command(16, "5000", Some("7000")),
        command(16, "50", Some("f0")),
    ] {
        let found = refusal(conditions(condition), &on_the_list);
        assert!(found.contains("is not on the order's approved list"), "{found}");
    }
}
