use super::*;
use crate::prefixes::special::{DOCUMENTATION, SPECIAL_PURPOSE};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

use AddressClass::{Domestic, Foreign, Unlisted};

fn class(table: &CountryTable, address: &str) -> AddressClass {
    table.class(address.parse().unwrap())
}

fn csv(text: &str) -> CountryTable {
    CountryTable::from_csv(text.as_bytes(), None, Special::TakenOut).unwrap()
}

#[test]
fn ranges_merge_into_japan_and_elsewhere() {
    let table =
        csv("# a comment\n1.0.0.0,1.0.0.255,AU\n1.0.1.0,1.0.3.255,CN\n1.0.16.0,1.0.31.255,JP\n2400::,2400:f::,JP\n");
    assert_eq!(
        table.ranges4,
        [(0x0100_0000, 0x0100_03ff, Foreign), (0x0100_1000, 0x0100_1fff, Domestic)],
        "AU and CN are one range of elsewhere"
    );
    assert_eq!(class(&table, "1.0.15.255"), Unlisted);
    assert_eq!(class(&table, "1.0.16.0"), Domestic);
    assert_eq!(class(&table, "2400:f::"), Domestic);
    assert_eq!(class(&table, "2400:f::1"), Unlisted);
}

#[test]
fn special_purpose_ranges_are_unlisted_whatever_the_table_says() {
    let everything = "0.0.0.0,255.255.255.255,AU\n::,ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff,JP\n";
    let table = csv(everything);
    for prefix in SPECIAL_PURPOSE.iter().chain(DOCUMENTATION) {
        let prefix: IpNetwork = prefix.parse().unwrap();
        for address in [prefix.network(), prefix.broadcast()] {
            assert_eq!(table.class(address), Unlisted, "{address}");
        }
    }
    assert_eq!((class(&table, "9.255.255.255"), class(&table, "11.0.0.0")), (Foreign, Foreign));
    let table = CountryTable::from_csv(everything.as_bytes(), None, Special::DocumentationAllowed).unwrap();
    assert_eq!(class(&table, "203.0.113.7"), Foreign);
    assert_eq!(class(&table, "2001:db8::1"), Domestic);
    assert_eq!(class(&table, "192.168.0.1"), Unlisted);
}

#[test]
fn lines_that_contradict_each_other_list_nothing() {
    let table = csv("17.87.0.0,17.87.31.255,CN\n17.87.8.0,17.87.8.255,JP\n17.87.8.128,17.87.9.0,US\n");
    assert_eq!(class(&table, "17.87.7.255"), Foreign);
    assert_eq!(class(&table, "17.87.8.0"), Unlisted);
    assert_eq!(class(&table, "17.87.9.0"), Foreign);
}

#[test]
fn wrong_lines_are_refused_by_number() {
    for (line, named) in [
        ("1.0.0.0,1.0.0.255", "first,last,CC"),
        ("1.0.0.0,1.0.0.255,JP,x", "first,last,CC"),
        ("1.0.0.0,1.0.0.255,jp", "jp"),
        ("1.0.0.0,1.0.0.256,JP", "1.0.0.256"),
        ("1.0.0.0,::1,JP", "families"),
        ("1.0.0.1,1.0.0.0,JP", "ends before"),
        ("!allow-documentation", "first,last,CC"),
    ] {
        let error = CountryTable::from_csv(format!("\n{line}\n").as_bytes(), None, Special::TakenOut).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("line 2") && error.contains(named), "{line}: {error}");
    }
    assert!(matches!(CountryTable::from_csv(b"# none\n", None, Special::TakenOut), Err(TableError::Empty)));
    let compressed = CountryTable::from_csv(b"\xfd7zXZ", None, Special::TakenOut).unwrap_err().to_string();
    assert!(compressed.contains("compressed"), "{compressed}");
}

#[test]
fn the_digest_is_that_of_the_bytes() {
    let table = csv("1.0.16.0,1.0.31.255,JP\n");
    assert_eq!(table.sha256, sha256(b"1.0.16.0,1.0.31.255,JP\n"));
    assert_ne!(table.sha256, csv("1.0.16.0,1.0.31.255,JP\n\n").sha256);
}

#[test]
fn excluded_prefixes_are_unlisted_and_domestic_ones_are_found() {
    let table = csv("1.0.0.0,1.0.255.255,JP\n2.0.0.0,2.0.0.255,FR\n2400::,2400::ffff,JP\n");
    let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNetwork>>();
    let cut = table.without(&networks(&["1.0.1.0/24", "2400::/127"]));
    assert_eq!(
        (class(&cut, "1.0.0.255"), class(&cut, "1.0.1.0"), class(&cut, "1.0.2.0")),
        (Domestic, Unlisted, Domestic)
    );
    assert_eq!((class(&cut, "2400::1"), class(&cut, "2400::2"), class(&cut, "2.0.0.1")), (Unlisted, Domestic, Foreign));
    assert_eq!(cut.sha256, table.sha256);
    for (prefixes, domestic) in [
        (&["2.0.0.0/8"][..], false),
        (&["2.0.0.0/8", "1.0.255.255/32"], true),
        (&["0.0.0.0/0"], true),
        (&["2400::/128"], true),
        (&["2400::/16"], true),
        (&["2401::/32"], false),
        (&["1.1.0.0/16"], false),
    ] {
        assert_eq!(table.names_domestic(&crate::prefixes::merge(networks(prefixes))), domestic, "{prefixes:?}");
    }
}

#[test]
fn delegated_statistics_are_read() {
    let text = "2.3|apnic|20260601|5|19830613|20260531|+1000\napnic|*|ipv4|*|4|summary\n\
        apnic|JP|asn|173|1|20020801|allocated|A91A7381\napnic|JP|ipv4|1.0.16.0|4096|20110412|allocated|A9230\n\
        apnic|AU|ipv4|1.0.0.0|768|20110811|assigned|A91\napnic|AP|ipv4|1.1.0.0|256|20110811|assigned|A91\n\
        apnic||ipv4|1.2.0.0|256||available|\napnic|JP|ipv6|2001:200::|35|19990813|allocated|A91\n\
        2|ripencc|1|1|19830705|20260530|+0200\nripencc|FR|ipv6|2001:660::|32|19990826|allocated|x\n";
    let table = CountryTable::from_delegated(text.as_bytes()).unwrap();
    assert_eq!(table.date, Some(jiff::civil::date(2026, 5, 30)));
    assert_eq!(table.ranges4, [(0x0100_0000, 0x0100_02ff, Foreign), (0x0100_1000, 0x0100_1fff, Domestic)]);
    assert_eq!(class(&table, "2001:200:1fff::"), Domestic);
    assert_eq!(class(&table, "2001:200:2000::"), Unlisted);
    assert_eq!(class(&table, "2001:660::"), Foreign);
    for (line, named) in [
        ("apnic|JP|ipv4|255.255.255.0|257|20110412|allocated|A", "beyond"),
        ("apnic|JP|ipv4|1.0.0.0|0|20110412|allocated|A", "0 addresses"),
        ("apnic|JP|ipv6|2001::|129|20110412|allocated|A", "prefix length"),
        ("1.0.0.0,1.0.0.255,AU", "not a line"),
    ] {
        let error = CountryTable::from_delegated(line.as_bytes()).err().unwrap().to_string();
        assert!(error.contains("line 1") && error.contains(named), "{error}");
    }
}

#[test]
fn with_flags_the_most_specific_prefix_wins() {
    let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNetwork>>();
    let table = CountryTable::from_flags(
        &networks(&["192.168.0.0/16", "2001:db8::/32"]),
        &networks(&["192.168.1.0/24", "0.0.0.0/0"]),
        Unlisted,
    )
    .unwrap();
    assert_eq!(class(&table, "192.168.0.1"), Domestic);
    assert_eq!(class(&table, "192.168.1.1"), Foreign);
    assert_eq!(class(&table, "224.0.0.1"), Foreign, "special ranges are replaced too");
    assert_eq!(class(&table, "2001:db9::"), Unlisted);
    let table = CountryTable::from_flags(&networks(&["192.168.7.9/16"]), &[], Foreign).unwrap();
    assert_eq!((class(&table, "192.168.0.0"), class(&table, "::1")), (Domestic, Foreign));
    let same = networks(&["10.0.0.0/8"]);
    let error = CountryTable::from_flags(&same, &networks(&["10.1.2.3/8"]), Foreign).unwrap_err();
    assert!(error.to_string().contains("10.0.0.0/8"), "{error}");
}

proptest! {
    /// Against a model that looks at every line for every address, over a family squeezed into 256 addresses.
    #[test]
    fn the_table_agrees_with_a_look_at_every_line(
        lines in prop::collection::vec((0_u8..=255, 0_u8..=255, prop::bool::ANY), 1..20),
    ) {
        let text: String = lines.iter().map(|(a, b, japan)| {
            let (first, last, code) = (a.min(b), a.max(b), if *japan { "JP" } else { "KR" });
            format!("9.9.9.{first},9.9.9.{last},{code}\n2400::{first:x},2400::{last:x},{code}\n")
        }).collect();
        let table = CountryTable::from_csv(text.as_bytes(), None, Special::TakenOut);
        for host in 0..=255_u8 {
            let says = |wanted: bool| lines.iter().any(|(a, b, japan)| {
                *japan == wanted && (a.min(b)..=a.max(b)).contains(&&host)
            });
            let expected = match (says(true), says(false)) {
                (true, false) => Domestic,
                (false, true) => Foreign,
                _ => Unlisted,
            };
            let class = |address: IpAddr| table.as_ref().map_or(Unlisted, |table| table.class(address));
            prop_assert_eq!(class(Ipv4Addr::new(9, 9, 9, host).into()), expected);
            prop_assert_eq!(class(Ipv6Addr::new(0x2400, 0, 0, 0, 0, 0, 0, host.into()).into()), expected);
        }
        if let Ok(table) = table {
            for pair in table.ranges4.windows(2) {
                prop_assert!(pair[0].1 < pair[1].0, "sorted and disjoint");
                prop_assert!(pair[0].2 != pair[1].2 || pair[0].1 + 1 < pair[1].0, "merged");
            }
        }
    }
}
