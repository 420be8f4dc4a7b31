//! Extension by a chained order (Art. 19).

use super::super::chain::{extends, is_live};
use super::*;

/// An order from November to February, and one from `from` until `until` that names `previous`.
fn pair(basis: Basis, previous: Option<&str>, from: &str, until: &str) -> (Order, String) {
    let first = text(basis);
    let hash = hex::encode(keys::sha256(first.as_bytes()));
    let previous = previous.unwrap_or(&hash);
    let next = first
        .replace("2027-02-01T00:00:00+09:00", until)
        .replace("2026-11-01T00:00:00+09:00", from)
        .replace("acts =", &format!("previous = \"{previous}\"\nacts ="));
    (parse_unsigned(&first).unwrap(), next)
}

#[test]
fn an_extension_goes_on_where_its_order_ends() {
    for basis in Basis::ALL {
        for from in ["2027-02-01T00:00:00+09:00", "2027-01-31T23:59:59.999999999+09:00", "2027-01-15T00:00:00+09:00"] {
            let (first, next) = pair(basis, None, from, "2027-04-01T00:00:00+09:00");
            let next = parse_unsigned(&next).unwrap();
            extends(&first, &next).unwrap();
            let both = [first.clone(), next];
            for (now, live) in [
                ("2026-10-31T23:59:59.999999999+09:00", false),
                ("2026-11-01T00:00:00+09:00", true),
                ("2027-02-01T00:00:00+09:00", true),
                ("2027-03-31T23:59:59.999999999+09:00", true),
                ("2027-04-01T00:00:00+09:00", false),
            ] {
                assert_eq!(is_live(&both, moment(now)).is_ok(), live, "{now}");
            }
            assert!(is_live(&[first], moment("2027-02-01T00:00:00+09:00")).is_err(), "without it the tap stops");
        }
    }
}

#[test]
fn what_is_no_extension_is_refused_by_field() {
    let refused = |next: &str, says: &str| {
        let first = parse_unsigned(&text(Basis::ForeignToForeign)).unwrap();
        let error = parse_unsigned(next).and_then(|next| extends(&first, &next)).unwrap_err().to_string();
        assert!(error.starts_with(says), "{says}: {error}");
    };
    let of = |previous: Option<&str>, from: &str, until: &str| pair(Basis::ForeignToForeign, previous, from, until).1;
    let (from, until) = ("2027-02-01T00:00:00+09:00", "2027-08-01T00:00:00+09:00");
    let good = of(None, from, until);
    extends(&parse_unsigned(&text(Basis::ForeignToForeign)).unwrap(), &parse_unsigned(&good).unwrap()).unwrap();

    refused(&of(Some(HOST), from, until), "measure.previous: is not ");
    refused(&good.replace("previous =", "#"), "measure.previous: is missing");
    refused(&of(None, "2027-02-01T00:00:00.000000001+09:00", until), "measure.not_before: ");
    refused(&of(None, from, "2027-08-01T00:00:00.000000001+09:00"), "measure.not_after: over the 6 calendar months");
    refused(&of(None, "2026-10-31T00:00:00+09:00", "2027-03-01T00:00:00+09:00"), "measure.not_before: is before");
    refused(&of(None, "2027-01-01T00:00:00+09:00", from), "measure.not_after: extends nothing");
    for (replaced, by, says) in [
        ("id = \"m-1\"", "id = \"m-2\"", "measure.id: "),
        ("[\"a-1\"]", "[\"a-1\", \"a-2\"]", "measure.acts: "),
        ("share_ppm = 300000", "share_ppm = 250000", "facility: "),
        ("interface = \"eth1\"", "interface = \"eth2\"", "facility: "),
        ("standard = \"s-1\"", "standard = \"s-2\"", "selection: "),
        ("key_epoch_days = 7", "key_epoch_days = 8", "addresses: "),
        ("192.0.2.1:4739", "192.0.2.2:4739", "receiving_facility: "),
        ("[approval.conditions]\n", "[approval.conditions]\nrules_at_most = 9\n", "approval.conditions: "),
    ] {
        let other = good.replace(replaced, by);
        assert_ne!(other, good, "{replaced}");
        refused(&other, says);
    }
    let other_basis = pair(Basis::DomesticToForeign, None, from, "2027-04-01T00:00:00+09:00").1;
    let first = hex::encode(parse_unsigned(&text(Basis::ForeignToForeign)).unwrap().sha256);
    let of_its_own = hex::encode(parse_unsigned(&text(Basis::DomesticToForeign)).unwrap().sha256);
    refused(&other_basis.replace(&of_its_own, &first), "measure.basis: ");
}

#[test]
fn an_order_ends_with_a_signers_key() {
    let (keys, mut roots) = keys();
    let note = signed(&text(Basis::ForeignToForeign), &keys, &Role::ALL);
    let public = |role| keys.iter().find(|(of, _)| *of == role).unwrap().1.public();
    let end = moment("2026-12-24T00:00:00+09:00");
    roots.revoke(&public(Role::Commission), Some(end));
    // A role that the basis does not ask for ends nothing.
    roots.revoke(&public(Role::Party), Some(moment("2026-11-02T00:00:00+09:00")));
    let at = |now: &str| verify(&note, &roots.at(moment(now)));
    assert_eq!(at("2026-12-01T00:00:00+09:00").unwrap().signed_until, Some(end));
    let late = at("2026-12-24T00:00:00+09:00").unwrap_err().to_string();
    assert!(late.starts_with("signatures: none by a commission key"), "{late}");
}
