use super::window::months_later;
use super::*;
use crate::keys::{SecretKey, note::sign, roles::TrustedKey};
use crate::prefixes::country::CountryTable;
use crate::prefixes::special::Special;

const HOST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const TABLE: &[u8] = b"1.0.0.0,1.0.0.255,AU\n1.0.16.0,1.0.31.255,JP\n";

/// A good order of a basis.
fn text(basis: Basis) -> String {
    let authority = if basis == Basis::Agreement {
        "[notification]\nid = \"n-1\""
    } else {
        "[approval]\nid = \"c-1\"\n[approval.conditions]"
    };
    let list = match basis {
        Basis::Agreement => "party_prefixes = [\"1.0.16.0/20\"]",
        Basis::ForeignToForeign => "",
        Basis::ForeignToDomestic | Basis::DomesticToForeign => "approved_facilities = [\"1.0.0.0/24\"]",
    };
    let digest = hex::encode(keys::sha256(TABLE));
    format!(
        "[measure]\nid = \"m-1\"\nbasis = \"{basis}\"\nacts = [\"a-1\"]\n\
         not_before = \"2026-11-01T00:00:00+09:00\"\nnot_after = \"2027-02-01T00:00:00+09:00\"\n{authority}\n\
         [facility]\nid = \"f-1\"\ncapacity_bits_per_second = 10000000000\nshare_ppm = 300000\nsampling_ppm = 1000000\n\
         [[facility.tap]]\nhost_key = \"{HOST}\"\ninterface = \"eth1\"\nshare_ppm = 200000\n\
         [selection]\nstandard = \"s-1\"\n{list}\n\
         [addresses]\ncountry_table_sha256 = \"{digest}\"\ncountry_table_oldest_date = \"2026-10-01\"\n\
         clear_addresses = true\nprefix_preserving = false\ndomestic_conditions = false\nkey_epoch_days = 7\n\
         [receiving_facility]\nendpoint = \"192.0.2.1:4739\"\nnames = [\"collector.example\"]\nsealing_key = \"{HOST}\"\n"
    )
}

fn moment(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Keys for every role, with their trust roots.
fn keys() -> (Vec<(Role, SecretKey)>, TrustRoots) {
    let mut roots = TrustRoots::default();
    let keys: Vec<_> = Role::ALL.map(|role| (role, SecretKey::generate(role.name()).unwrap())).into();
    for (role, key) in &keys {
        roots.add(TrustedKey { name: role.to_string(), role: *role, public: key.public() }).unwrap();
    }
    (keys, roots)
}

fn signed(text: &str, keys: &[(Role, SecretKey)], roles: &[Role]) -> String {
    keys.iter()
        .filter(|(role, _)| roles.contains(role))
        .fold(text.to_owned(), |note, (_, key)| sign(&note, key).unwrap())
}

#[test]
fn calendar_months_are_japans() {
    for (start, months, end) in [
        ("2026-08-31T00:00:00+09:00", 6, "2027-02-28T00:00:00+09:00"),
        ("2027-08-31T00:00:00+09:00", 6, "2028-02-29T00:00:00+09:00"),
        ("2026-12-31T23:59:59.999999999+09:00", 6, "2027-06-30T23:59:59.999999999+09:00"),
        ("2026-11-30T12:34:56+09:00", 3, "2027-02-28T12:34:56+09:00"),
        ("2026-02-28T00:00:00+09:00", 6, "2026-08-28T00:00:00+09:00"),
        ("2026-12-15T08:00:00+09:00", 3, "2027-03-15T08:00:00+09:00"),
        // The last of August in UTC, the first of September in Japan.
        ("2026-08-31T15:00:00Z", 6, "2027-03-01T00:00:00+09:00"),
        // The last of August in Japan, whatever offset it is written with.
        ("2026-08-31T10:00:00-04:00", 6, "2027-02-28T14:00:00Z"),
    ] {
        assert_eq!(months_later(moment(start), months), Some(moment(end)), "{start} + {months}");
    }
    assert_eq!(months_later(Timestamp::MAX, 6), None);
}

#[test]
fn each_basis_has_its_longest_period_to_the_nanosecond() {
    for (basis, last, over) in [
        (Basis::ForeignToForeign, "2027-02-28T00:00:00+09:00", "2027-02-28T00:00:00.000000001+09:00"),
        (Basis::ForeignToDomestic, "2026-11-30T00:00:00+09:00", "2026-11-30T00:00:00.000000001+09:00"),
        (Basis::DomesticToForeign, "2026-11-30T00:00:00+09:00", "2026-12-01T00:00:00+09:00"),
    ] {
        let with = |end: &str| {
            let text = text(basis).replace("2026-11-01T00:00:00+09:00", "2026-08-31T00:00:00+09:00");
            parse_unsigned(&text.replace("2027-02-01T00:00:00+09:00", end))
        };
        assert!(with(last).is_ok(), "{basis}");
        let error = with(over).unwrap_err().to_string();
        assert!(error.starts_with("measure.not_after: over the"), "{basis}: {error}");
        assert!(with("2026-08-31T00:00:00+09:00").unwrap_err().to_string().starts_with("measure.not_after: "));
    }
    let long = text(Basis::Agreement).replace("2027-02-01", "2036-02-01");
    assert!(parse_unsigned(&long).is_ok(), "an agreement has its own period");
}

#[test]
fn the_window_is_half_open() {
    let order = parse_unsigned(&text(Basis::ForeignToForeign)).unwrap();
    for (now, live) in [
        ("2026-10-31T23:59:59.999999999+09:00", Err("measure.not_before: not yet valid")),
        ("2026-11-01T00:00:00+09:00", Ok(())),
        ("2027-01-31T23:59:59.999999999+09:00", Ok(())),
        ("2027-02-01T00:00:00+09:00", Err("measure.not_after: expired")),
    ] {
        let result = order.is_live(moment(now)).map_err(|error| error.to_string());
        match live {
            Ok(()) => assert_eq!(result, Ok(()), "{now}"),
            Err(start) => assert!(result.clone().is_err_and(|error| error.starts_with(start)), "{now}: {result:?}"),
        }
    }
}

#[test]
fn an_order_is_read_whole() {
    let conditions = "ends_by = 2027-02-01T00:00:00+09:00\nshare_at_most = 300000\nsampling_at_most = 1000000\n\
        conditions_at_least = 3\nprefixes_excluded = [\"9.9.9.0/24\"]\nfields_excluded = [\"ip-length\"]\n\
        retention_at_most = 365\nrules_at_most = 8\nno_clear_address = false\n";
    let text = text(Basis::ForeignToDomestic)
        .replace("[approval.conditions]\n", &format!("[approval.conditions]\n{conditions}"))
        .replace(
            "[addresses]",
            "payload_offsets = [0, 8]\n[[selection.approved_machine_information]]\nfield = \"port\"\nany = [\"443\"]\n\
             [[selection.approved_machine_information]]\nfield = \"payload\"\noffset = 8\nbytes = \"504f\"\n[addresses]",
        );
    let order = parse_unsigned(&text).unwrap();
    assert_eq!(order.sha256, keys::sha256(text.as_bytes()));
    assert_eq!(order.measure.basis, Basis::ForeignToDomestic);
    assert_eq!(order.facility.taps[0].share_ppm, 200_000);
    assert_eq!(order.conditions_min(), 3, "the approval asks for more than the Act's 1");
    assert_eq!(order.prefixes_excluded(), ["9.9.9.0/24".parse().unwrap()]);
    assert_eq!(order.selection.approved_machine_information.len(), 2);
    assert_eq!(order.selection.payload_offsets, [0, 8]);
    assert!(!format!("{order:?}").contains("50, 4f") && !format!("{order:?}").contains("80, 79"));
    let conditions = order.approval.unwrap().conditions;
    assert_eq!((conditions.retention_at_most, conditions.rules_at_most), (Some(365), Some(8)));
    assert_eq!(conditions.fields_excluded, [Field::IpLength]);
}

/// Each case: basis, what is replaced, by what, and how the refusal begins.
#[test]
fn every_broken_rule_is_refused_by_field() {
    use Basis::{Agreement, DomesticToForeign, ForeignToDomestic, ForeignToForeign};
    let cases: &[(Basis, &str, &str, &str)] = &[
        (ForeignToForeign, "share_ppm = 300000", "share_ppm = 300001", "facility.share_ppm: 300001 is over the 300000"),
        (ForeignToForeign, "share_ppm = 300000", "share_ppm = 0.3", "line 13: facility.share_ppm: "),
        (ForeignToForeign, "share_ppm = 300000", "share_ppm = 0", "facility.share_ppm: "),
        (ForeignToDomestic, "share_ppm = 300000", "share_ppm = 1000001", "facility.share_ppm: "),
        (ForeignToForeign, "sampling_ppm = 1000000", "sampling_ppm = 1000001", "facility.sampling_ppm: "),
        (ForeignToForeign, "share_ppm = 200000", "share_ppm = 300001", "facility.tap: the shares add up"),
        (ForeignToForeign, "capacity_bits_per_second = 10000000000", "capacity_bits_per_second = 0", "facility.cap"),
        (ForeignToForeign, "[facility]\n", "[facility]\ncolour = 3\n", "line 11: facility.colour: unknown field"),
        (ForeignToForeign, "[facility]\n", "[facility.extra]\n", "line 10: facility"),
        (
            ForeignToForeign,
            "[approval.conditions]\n",
            "[approval.conditions]\nlast_at_most = 3\n",
            "line 10: approval.conditions.last_at_most: unknown field",
        ),
        (
            ForeignToForeign,
            "[approval.conditions]\n",
            "[approval.conditions]\nends_by = 3\n",
            "line 10: approval.conditions.ends_by: ",
        ),
        (ForeignToForeign, "id = \"m-1\"", "id = \"m 1\"", "measure.id: "),
        (ForeignToForeign, "id = \"m-1\"\n", "", "line 1: measure: missing field `id`"),
        (ForeignToForeign, "[\"a-1\"]", "[]", "measure.acts: "),
        (ForeignToForeign, "[\"a-1\"]", "[\"a-1\", \"a-1\"]", "measure.acts: "),
        (
            ForeignToForeign,
            "basis = \"foreign-to-foreign\"",
            "basis = \"domestic-to-domestic\"",
            "measure.basis: unknown",
        ),
        (ForeignToForeign, "2026-11-01T00:00:00+09:00", "2026-11-01T00:00:00", "measure.not_before: "),
        (ForeignToForeign, "acts =", "previous = \"abc\"\nacts =", "measure.previous: "),
        (ForeignToForeign, HOST, "0011", "facility.tap[0].host_key: "),
        (ForeignToForeign, "eth1", "eth1/../x", "facility.tap[0].interface: "),
        (ForeignToForeign, "[approval]\nid = \"c-1\"\n[approval.conditions]", "", "approval: is missing"),
        (ForeignToForeign, "[approval]\n", "[notification]\nid = \"n-1\"\n[approval]\n", "notification: "),
        (Agreement, "[notification]\nid = \"n-1\"", "", "notification: is missing"),
        (Agreement, "[notification]\n", "[approval]\nid = \"c-1\"\n[notification]\n", "approval: "),
        (Agreement, "party_prefixes = [\"1.0.16.0/20\"]", "", "selection.party_prefixes: is missing"),
        (
            ForeignToForeign,
            "standard = \"s-1\"",
            "standard = \"s-1\"\nparty_prefixes = [\"1.0.0.0/24\"]",
            "selection.party_prefixes: ",
        ),
        (
            ForeignToForeign,
            "standard = \"s-1\"",
            "standard = \"s-1\"\napproved_facilities = [\"1.0.0.0/24\"]",
            "selection.approved_facilities: ",
        ),
        (
            ForeignToForeign,
            "standard = \"s-1\"",
            "standard = \"s-1\"\npayload_offsets = [0, 1025]",
            "selection.payload_offsets: 1025 is over 1024",
        ),
        (ForeignToDomestic, "approved_facilities = [\"1.0.0.0/24\"]", "", "selection.approved_facilities: is missing"),
        (DomesticToForeign, "approved_facilities = [\"1.0.0.0/24\"]", "", "selection.approved_facilities: is missing"),
        (DomesticToForeign, "1.0.0.0/24", "1.0.0.1/24", "selection.approved_facilities: 1.0.0.1/24 has host bits"),
        (ForeignToForeign, "key_epoch_days = 7", "key_epoch_days = 32", "addresses.key_epoch_days: "),
        (ForeignToForeign, "\"2026-10-01\"", "\"October\"", "addresses.country_table_oldest_date: "),
        (ForeignToForeign, "192.0.2.1:4739", "192.0.2.1", "receiving_facility.endpoint: "),
        (ForeignToForeign, "[\"collector.example\"]", "[]", "receiving_facility.names: "),
    ];
    for (basis, from, to, starts) in cases {
        let good = text(*basis);
        assert!(parse_unsigned(&good).is_ok(), "{basis}");
        let broken = good.replacen(from, to, 1);
        assert_ne!(good, broken, "{from} stands in the order");
        let error = parse_unsigned(&broken).map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with(starts), "{basis}, {from} -> {to}: {error}");
    }
}

#[test]
fn conditions_of_the_approval_bind_the_order() {
    for (condition, starts) in [
        (
            "share_at_most = 299999",
            "facility.share_ppm: 300000 is over the 299999 of approval.conditions.share_at_most",
        ),
        ("sampling_at_most = 999999", "facility.sampling_ppm: "),
        ("ends_by = \"2027-01-31T23:59:59+09:00\"", "measure.not_after: is after approval.conditions.ends_by"),
        ("no_clear_address = true", "addresses.clear_addresses: "),
        ("conditions_at_least = 8", "approval.conditions.conditions_at_least: "),
        ("rules_at_most = 0", "approval.conditions.rules_at_most: "),
        ("retention_at_most = 0", "approval.conditions.retention_at_most: "),
        ("prefixes_excluded = [\"1.0.0.128/25\"]", "selection.approved_facilities: 1.0.0.0/24 is excluded"),
        ("prefixes_excluded = [\"1.0.0.1/25\"]", "approval.conditions.prefixes_excluded: "),
        ("fields_excluded = [\"colour\"]", "line 10: approval.conditions.fields_excluded: unknown variant"),
    ] {
        let text = text(Basis::ForeignToDomestic)
            .replace("[approval.conditions]\n", &format!("[approval.conditions]\n{condition}\n"));
        let error = parse_unsigned(&text).map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with(starts), "{condition}: {error}");
    }
}

#[test]
fn shares_of_several_hosts_add_up_and_no_port_stands_twice() {
    let tap = format!("[[facility.tap]]\nhost_key = \"{HOST}\"\ninterface = \"eth2\"\nshare_ppm = 100000\n[selection]");
    let two = text(Basis::ForeignToForeign).replace("[selection]", &tap);
    assert_eq!(parse_unsigned(&two).unwrap().facility.taps.len(), 2);
    let over = parse_unsigned(&two.replace("100000\n[sel", "100001\n[sel")).unwrap_err().to_string();
    assert!(over.starts_with("facility.tap: the shares add up to 300001"), "{over}");
    let twice = parse_unsigned(&two.replace("eth2", "eth1")).unwrap_err().to_string();
    assert!(twice.starts_with("facility.tap[1].interface: "), "{twice}");
}

#[test]
fn every_role_of_the_basis_must_sign() {
    let (keys, roots) = keys();
    for basis in Basis::ALL {
        let text = text(basis);
        assert!(verify(&signed(&text, &keys, basis.signers()), &roots).is_ok(), "{basis}");
        assert!(verify(&signed(&text, &keys, &Role::ALL), &roots).is_ok(), "more signatures do no harm");
        for missing in basis.signers() {
            let rest: Vec<_> = Role::ALL.into_iter().filter(|role| role != missing).collect();
            let error = verify(&signed(&text, &keys, &rest), &roots).unwrap_err().to_string();
            assert!(error.starts_with(&format!("signatures: none by a {missing} key")), "{basis}: {error}");
        }
        let unsigned = verify(&text, &roots).unwrap_err().to_string();
        assert!(unsigned.starts_with("signatures: unsigned"), "{unsigned}");
    }
}

#[test]
fn an_order_altered_by_any_byte_is_refused() {
    let (keys, roots) = keys();
    let note = signed(&text(Basis::ForeignToForeign), &keys, Basis::ForeignToForeign.signers());
    assert!(verify(&note, &roots).is_ok());
    for index in 0..note.len() {
        let mut altered = note.clone().into_bytes();
        altered[index] ^= 2;
        if let Ok(altered) = String::from_utf8(altered) {
            assert!(verify(&altered, &roots).is_err(), "byte {index}");
        }
    }
}

#[test]
fn an_order_is_admitted_for_its_own_host_port_and_table() {
    let order = parse_unsigned(&text(Basis::ForeignToForeign)).unwrap();
    let (now, host, table) = (moment("2026-12-01T00:00:00Z"), HOST.parse().unwrap(), keys::sha256(TABLE));
    assert_eq!(order.admit(now, &host, "eth1", &table).unwrap().share_ppm, 200_000);
    let refusal = |result: Result<&Tap, OrderError>| result.unwrap_err().to_string();
    let other: HostKeyId = HOST.replace("00", "01").parse().unwrap();
    assert!(refusal(order.admit(now, &other, "eth1", &table)).starts_with("facility.tap.host_key: no entry"));
    assert!(refusal(order.admit(now, &host, "eth2", &table)).starts_with("facility.tap.interface: "));
    assert!(refusal(order.admit(now, &host, "eth1", &[0; 32])).starts_with("addresses.country_table_sha256: "));
    let late = moment("2027-02-01T00:00:00+09:00");
    assert!(refusal(order.admit(late, &host, "eth1", &table)).starts_with("measure.not_after: expired"));
}

#[test]
fn a_country_table_must_be_the_named_one_and_new_enough() {
    let order = parse_unsigned(&text(Basis::ForeignToForeign)).unwrap();
    let table = |bytes: &[u8], date| CountryTable::from_csv(bytes, date, Special::TakenOut).unwrap();
    let date = |day| Some(jiff::civil::date(2026, 10, day));
    assert!(order.admit_country_table(&table(TABLE, date(1))).is_ok());
    for (bytes, date, starts) in [
        (TABLE, Some(jiff::civil::date(2026, 9, 30)), "addresses.country_table_oldest_date: "),
        (TABLE, None, "addresses.country_table_oldest_date: "),
        (&b"1.0.0.0,1.0.0.255,AU\n"[..], date(1), "addresses.country_table_sha256: "),
    ] {
        let error = order.admit_country_table(&table(bytes, date)).unwrap_err().to_string();
        assert!(error.starts_with(starts), "{error}");
    }
}

#[test]
fn bases_select_their_one_direction() {
    use tap_common::path::direction::Direction;
    for (basis, direction, least) in [
        (Basis::Agreement, Direction::ForeignToDomestic, 2),
        (Basis::ForeignToForeign, Direction::ForeignToForeign, 2),
        (Basis::ForeignToDomestic, Direction::ForeignToDomestic, 1),
        (Basis::DomesticToForeign, Direction::DomesticToForeign, 1),
    ] {
        assert_eq!((basis.directions(), basis.conditions_min()), (1 << direction as u32, least), "{basis}");
        assert_eq!(basis.name().parse(), Ok(basis));
    }
}

#[test]
fn a_full_draft_is_a_good_order_and_an_empty_one_is_not() {
    for basis in Basis::ALL {
        let list = |wanted: bool| if wanted { vec!["1.0.0.0/24".to_owned()] } else { Vec::new() };
        let draft = template::Draft {
            measure: "m-1".to_owned(),
            basis: Some(basis),
            acts: vec!["a-1".to_owned()],
            not_before: "2026-11-01T00:00:00+09:00".to_owned(),
            not_after: "2027-02-01T00:00:00+09:00".to_owned(),
            previous: Some(HOST.to_owned()),
            authority: "c-1".to_owned(),
            conditions: vec!["rules_at_most = 4".to_owned()],
            facility: "f-1".to_owned(),
            capacity_bits_per_second: 1_000_000_000,
            share_ppm: 300_000,
            sampling_ppm: 500_000,
            taps: vec![(HOST.to_owned(), "eth1".to_owned(), 300_000)],
            standard: "s-1".to_owned(),
            approved_facilities: list(basis.has_approved_list()),
            party_prefixes: list(basis == Basis::Agreement),
            country_table_sha256: HOST.to_owned(),
            country_table_oldest_date: "2026-10-01".to_owned(),
            key_epoch_days: 7,
            endpoint: "[::1]:4739".to_owned(),
            names: vec!["collector.example".to_owned()],
            sealing_key: HOST.to_owned(),
            ..template::Draft::default()
        };
        let order = parse_unsigned(&draft.text()).unwrap();
        assert_eq!((order.measure.basis, order.measure.previous.is_some()), (basis, true));
        assert!(parse_unsigned(&template::Draft { basis: Some(basis), ..Default::default() }.text()).is_err());
    }
}

mod act;
mod extension;
