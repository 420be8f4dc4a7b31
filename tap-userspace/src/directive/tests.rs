//! Directives: who gives them, which are taken, and that nothing ever widens.

use super::restriction::Restriction;
use super::*;
use crate::keys::note::sign;
use crate::keys::roles::TrustedKey;
use crate::keys::{SecretKey, sha256};
use crate::order::Order;
use proptest::prelude::*;

const HOST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// An order of 300,000 ppm from November to February, and one that extends it until May.
fn chain() -> Vec<Order> {
    let text = |window: &str| {
        format!(
            "[measure]\nid = \"m-1\"\nbasis = \"foreign-to-foreign\"\nacts = [\"a-1\"]\n{window}\n\
             [approval]\nid = \"c-1\"\n\
             [facility]\nid = \"f-1\"\ncapacity_bits_per_second = 10000000000\nshare_ppm = 300000\nsampling_ppm = 1000000\n\
             [[facility.tap]]\nhost_key = \"{HOST}\"\ninterface = \"eth1\"\nshare_ppm = 200000\n\
             [selection]\nstandard = \"s-1\"\n\
             [addresses]\ncountry_table_sha256 = \"{HOST}\"\ncountry_table_oldest_date = \"2026-10-01\"\n\
             clear_addresses = true\nprefix_preserving = false\ndomestic_conditions = false\nkey_epoch_days = 7\n\
             [receiving_facility]\nendpoint = \"192.0.2.1:4739\"\nnames = [\"a.example\"]\nsealing_key = \"{HOST}\"\n"
        )
    };
    let first = text("not_before = \"2026-11-01T00:00:00+09:00\"\nnot_after = \"2027-02-01T00:00:00+09:00\"");
    let second = text(&format!(
        "previous = \"{}\"\nnot_before = \"2027-02-01T00:00:00+09:00\"\nnot_after = \"2027-05-01T00:00:00+09:00\"",
        hex::encode(sha256(first.as_bytes()))
    ));
    [first, second].map(|text| crate::order::parse_unsigned(&text).unwrap()).into()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-12-01T00:00:00+09:00")
}

fn directive(number: u64, kind: Kind) -> Directive {
    Directive {
        measure: "m-1".into(),
        order_sha256: chain()[0].sha256,
        number,
        kind,
        reason: "decision \"12\" of the Commission".into(),
        issued: now(),
    }
}

fn kinds() -> [Kind; 3] {
    [Kind::Stop, Kind::LowerShare(100_000), Kind::Shorten(at("2027-01-01T00:00:00+09:00"))]
}

fn keys() -> (Vec<(Role, SecretKey)>, TrustRoots) {
    let mut roots = TrustRoots::default();
    let keys: Vec<_> = Role::ALL.map(|role| (role, SecretKey::generate(role.name()).unwrap())).into();
    for (role, key) in &keys {
        roots.add(TrustedKey { name: role.to_string(), role: *role, public: key.public() }).unwrap();
    }
    (keys, roots)
}

#[test]
fn only_the_commission_gives_directives() {
    let (keys, roots) = keys();
    for kind in kinds() {
        let directive = directive(1, kind);
        for (role, key) in &keys {
            let note = sign(&directive.text(), key).unwrap();
            match (role, verify(&note, &roots)) {
                (Role::Commission, taken) => assert_eq!(taken.unwrap(), directive),
                (_, taken) => assert!(matches!(taken, Err(DirectiveError::Signer)), "{role}: {taken:?}"),
            }
        }
        let stranger = sign(&directive.text(), &SecretKey::generate("commission").unwrap()).unwrap();
        assert!(matches!(verify(&stranger, &roots), Err(DirectiveError::Signer)));
        assert!(matches!(verify(&directive.text(), &roots), Err(DirectiveError::Note(KeyError::Unsigned))));
    }
}

#[test]
fn a_directive_altered_by_any_bit_of_any_byte_is_refused() {
    let (keys, roots) = keys();
    let commission = &keys.iter().find(|(role, _)| *role == Role::Commission).unwrap().1;
    for kind in kinds() {
        let note = sign(&directive(7, kind).text(), commission).unwrap();
        verify(&note, &roots).unwrap();
        for index in 0..note.len() {
            for bit in 0..8 {
                let mut altered = note.clone().into_bytes();
                altered[index] ^= 1 << bit;
                let taken = String::from_utf8(altered).ok().map(|altered| verify(&altered, &roots));
                assert!(!matches!(taken, Some(Ok(_))), "{kind}: byte {index}, bit {bit}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_by_field() {
    let good = directive(1, Kind::LowerShare(100_000)).text();
    for (from, to, says) in [
        ("number = 1", "number = 0", "number: is 0"),
        ("share_ppm = 100000", "share_ppm = 0", "share_ppm: 0 is not from 1"),
        ("share_ppm = 100000", "share_ppm = 1000001", "share_ppm: 1000001 is not"),
        ("kind = \"lower-share\"", "kind = \"raise-share\"", "kind: unknown kind"),
        ("kind = \"lower-share\"", "kind = \"stop\"", "kind: stop takes no value"),
        ("share_ppm = 100000\n", "", "kind: stop takes no value, lower-share takes"),
        ("issued = \"", "issued = \"x", "issued: is not a moment"),
        ("number = 1", "number = 1\nunless = 1", "unknown field"),
    ] {
        let broken = good.replacen(from, to, 1);
        assert_ne!(broken, good, "{from}");
        let error = Directive::parse_unsigned(&broken).unwrap_err().to_string();
        assert!(error.contains(says), "{from}: {error}");
    }
    let many = Directive { reason: "x".repeat(REASON_BYTES_MAX + 1), ..directive(1, Kind::Stop) };
    assert!(Directive::parse_unsigned(&many.text()).unwrap_err().to_string().starts_with("reason: "));

    let taken = |directive: &Directive| Restriction::default().directed(directive, "note", &chain(), now());
    for (wrong, says) in [
        (Directive { measure: "m-2".into(), ..directive(1, Kind::Stop) }, "measure: "),
        (Directive { order_sha256: [0; 32], ..directive(1, Kind::Stop) }, "order_sha256: "),
        (Directive { issued: at("2026-12-01T00:00:01+09:00"), ..directive(1, Kind::Stop) }, "issued: "),
        (directive(1, Kind::LowerShare(300_000)), "share_ppm: 300000 is not below 300000"),
        (directive(1, Kind::Shorten(at("2027-05-01T00:00:00+09:00"))), "not_after: "),
    ] {
        let error = taken(&wrong).unwrap_err().to_string();
        assert!(error.starts_with(says), "{says}: {error}");
    }
    // One about the order that extends the first is one about the measure.
    taken(&Directive { order_sha256: chain()[1].sha256, ..directive(1, Kind::Stop) }).unwrap();
}

#[test]
fn a_tap_keeps_its_part_of_what_is_left() {
    let lowered = Restriction { share_ppm: Some(100_001), ..Restriction::default() };
    assert_eq!(lowered.tap_share_ppm(200_000, 300_000), 66_667);
    assert_eq!(lowered.tap_share_ppm(1, 300_000), 0, "rounded down: it gets no lease");
    assert_eq!(Restriction::default().tap_share_ppm(200_000, 300_000), 200_000);
    let higher = Restriction { share_ppm: Some(400_000), ..Restriction::default() };
    assert_eq!(higher.tap_share_ppm(200_000, 300_000), 200_000, "never above the order");
}

#[test]
fn the_carrier_takes_back_its_own_switch_and_no_directive() {
    let left = Restriction::default().killed("ticket", now()).killed("another", now());
    assert_eq!(left.refusal().unwrap(), "the carrier's kill switch: ticket");
    assert_eq!(left.release().refusal(), None);
    let left = left.directed(&directive(1, Kind::Stop), "note", &chain(), now()).unwrap();
    assert!(left.release().refusal().unwrap().starts_with("stopped by a directive of the Commission"));
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        1 => Just(Kind::Stop),
        4 => (1_u32..400_000).prop_map(Kind::LowerShare),
        4 => (0_i64..200).prop_map(|days| {
            Kind::Shorten(at("2026-11-15T00:00:00+09:00") + jiff::SignedDuration::from_hours(24 * days))
        }),
    ]
}

proptest! {
    #[test]
    fn no_sequence_of_directives_ever_widens(offers in prop::collection::vec((1_u64..12, any_kind()), 0..20)) {
        let chain = chain();
        let end = chain[1].measure.not_after.as_nanosecond();
        let mut left = Restriction::default();
        // A naive book beside it: numbers, least share, earliest end.
        let (mut highest, mut share, mut last, mut stopped) = (0, 300_000, end, false);
        for (number, kind) in offers {
            let offered = left.directed(&directive(number, kind), "note", &chain, now());
            let narrows = match kind {
                Kind::Stop => true,
                Kind::LowerShare(to) => to < share,
                Kind::Shorten(to) => to.as_nanosecond() < last,
            };
            prop_assert_eq!(offered.is_ok(), number > highest && narrows);
            if let Ok(next) = offered {
                highest = number;
                match kind {
                    Kind::Stop => stopped = true,
                    Kind::LowerShare(to) => share = to,
                    Kind::Shorten(to) => last = to.as_nanosecond(),
                }
                prop_assert!(next.tap_share_ppm(200_000, 300_000) <= left.tap_share_ppm(200_000, 300_000));
                left = next;
            }
            prop_assert_eq!(left.number, highest);
            prop_assert_eq!(left.share_ppm.unwrap_or(300_000), share);
            prop_assert_eq!(left.not_after_ns.map_or(end, i128::from), last);
            prop_assert_eq!(left.refusal().is_some(), stopped);
            // What was kept is what comes back.
            let kept: Restriction = serde_json::from_str(&serde_json::to_string(&left).unwrap()).unwrap();
            prop_assert_eq!(&kept, &left);
        }
    }

    #[test]
    fn shares_of_all_taps_stay_within_what_is_left(taps in prop::collection::vec(1_u32..40_000, 1..8), left in 1_u32..300_000) {
        let facility: u32 = taps.iter().sum();
        let lowered = Restriction { share_ppm: Some(left), ..Restriction::default() };
        let sum: u32 = taps.iter().map(|tap| lowered.tap_share_ppm(*tap, facility)).sum();
        prop_assert!(sum <= left.min(facility));
    }
}
