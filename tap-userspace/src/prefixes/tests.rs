use super::*;
use proptest::prelude::*;
use std::net::Ipv4Addr;

fn networks(texts: &[&str]) -> Vec<IpNetwork> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn prefixes_merge_into_as_few_as_possible() {
    for (given, merged) in [
        (&["10.0.0.0/9", "10.128.0.0/9"][..], &["10.0.0.0/8"][..]),
        (&["10.1.2.3/24", "10.1.2.0/25"], &["10.1.2.0/24"]),
        (&["0.0.0.0/1", "128.0.0.0/1"], &["0.0.0.0/0"]),
        (&["::/1", "8000::/1", "1.2.3.4/32"], &["1.2.3.4/32", "::/0"]),
        (&["255.255.255.255/32", "255.255.255.254/32"], &["255.255.255.254/31"]),
        (&["10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32"], &["10.0.0.1/32", "10.0.0.2/31"]),
        (&["ffff::/16", "fffe::/16"], &["fffe::/15"]),
        (&[], &[]),
    ] {
        assert_eq!(merge(networks(given)), networks(merged), "{given:?}");
    }
}

#[test]
fn a_share_is_of_the_union_and_exact() {
    for (prefixes, over) in [
        (&["10.0.0.0/8"][..], false),
        (&["10.0.0.0/8", "11.0.0.0/32"], true),
        (&["10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16"], false),
        (&["0.0.0.0/0"], true),
        (&["0.0.0.0/1", "128.0.0.0/1"], true),
        (&["2400::/8"], false),
        (&["2400::/8", "::/128"], true),
        (&["::/0"], true),
        (&["::/1", "8000::/1"], true),
        (&[], false),
    ] {
        assert_eq!(over_share_of_family(&networks(prefixes), TRIVIAL_ADDRESS_DIVISOR), over, "{prefixes:?}");
    }
}

#[test]
fn leaving_a_scope_is_seen_to_the_address() {
    let scope = networks(&["203.0.113.0/25", "203.0.113.128/25"]);
    assert!(!leaves(&networks(&["203.0.113.0/24"]), &scope));
    assert!(leaves(&networks(&["203.0.113.0/24", "203.0.114.0/32"]), &scope));
    assert!(leaves(&networks(&["2001:db8::1/128"]), &scope));
}

#[test]
fn every_special_purpose_prefix_is_one() {
    for text in special::SPECIAL_PURPOSE.iter().chain(special::DOCUMENTATION) {
        let prefix: IpNetwork = text.parse().unwrap();
        assert_eq!(prefix.network(), prefix.ip(), "{text}: host bits are zero");
    }
}

/// Prefixes of at least /22 within 10.0.0.0/22: few enough addresses to look at each of them.
fn small() -> impl Strategy<Value = Vec<IpNetwork>> {
    prop::collection::vec((0_u32..1024, 22_u8..=32), 0..12).prop_map(|entries| {
        entries
            .into_iter()
            .map(|(host, length)| IpNetwork::new(Ipv4Addr::from(0x0a00_0000 + host).into(), length).unwrap())
            .collect()
    })
}

fn holds(prefixes: &[IpNetwork], host: u32) -> bool {
    prefixes.iter().any(|prefix| prefix.contains(Ipv4Addr::from(0x0a00_0000 + host).into()))
}

proptest! {
    /// The model asks every address of every prefix as it was written.
    #[test]
    fn merge_intersect_and_leaves_agree_with_a_look_at_every_address(one in small(), other in small()) {
        let (merged, both) = (merge(one.clone()), intersect(&one, &other));
        for host in 0..1024 {
            prop_assert_eq!(holds(&merged, host), holds(&one, host));
            prop_assert_eq!(holds(&both, host), holds(&one, host) && holds(&other, host));
        }
        prop_assert_eq!(leaves(&one, &other), (0..1024).any(|host| holds(&one, host) && !holds(&other, host)));
        for pair in merged.windows(2) {
            prop_assert!(pair[0].broadcast() < pair[1].network(), "sorted and disjoint");
            let joined = merge(pair.to_vec());
            prop_assert_eq!(joined.len(), 2, "no two make one prefix");
        }
        // 1024 addresses are 2^10 of 2^32: one in 2^22 holds as many.
        let count = (0..1024_u128).filter(|host| holds(&one, u32::try_from(*host).unwrap())).count();
        prop_assert_eq!(over_share_of_family(&one, 1 << 23), count > 512);
    }
}
