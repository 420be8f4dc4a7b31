//! Chains of statements that are whole, altered, cut and reordered.

use super::*;
use crate::keys::SecretKey;
use std::fs;

fn statement(of: &str) -> Statement {
    Statement {
        version: VERSION,
        of: of.into(),
        number: 0,
        previous_sha256: String::new(),
        facility: "f-1".into(),
        map_instance: "00".into(),
        from: Timestamp::UNIX_EPOCH,
        to: Timestamp::UNIX_EPOCH,
        last: false,
        capacity_bits_per_second: 8_000,
        limit_ppm: 300_000,
        most_in_a_second: Some(Most { bytes: 300, window_ns: 1_000_000_000 }),
        most_in_a_minute: None,
        most_in_an_hour: None,
        counted: Counts::default(),
        totals: Counts { admitted_bytes: 300, ..Counts::default() },
    }
}

#[test]
fn a_chain_of_statements_goes_on_after_a_restart_and_every_alteration_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let key = SecretKey::generate("host").unwrap();
    let chain = directory.path().join("m-1");
    for _ in 0..3 {
        Store::open(directory.path(), "m-1", &key.public()).unwrap().append(statement("m-1"), &key).unwrap();
    }
    let read = read_all(&chain, &key.public()).unwrap();
    assert_eq!(read.iter().map(|statement| statement.number).collect::<Vec<_>>(), [1, 2, 3]);
    let other = SecretKey::generate("host").unwrap().public();
    read_all(&chain, &other).unwrap_err();

    let second = chain.join("00000002.note");
    let whole = fs::read(&second).unwrap();
    for at in 0..whole.len() {
        let mut altered = whole.clone();
        altered[at] ^= 1;
        fs::write(&second, &altered).unwrap();
        assert!(read_all(&chain, &key.public()).is_err(), "byte {at} altered");
    }
    fs::remove_file(&second).unwrap();
    let error = read_all(&chain, &key.public()).unwrap_err().to_string();
    assert!(error.contains("00000003.note") && error.contains("2 is missing"), "{error}");
    // Signed by the right key, but another one than its successor names.
    let mut swapped = statement("m-1");
    swapped.number = 2;
    let text = serde_json::to_string_pretty(&swapped).unwrap() + "\n";
    fs::write(&second, crate::keys::note::sign(&text, &key).unwrap()).unwrap();
    read_all(&chain, &key.public()).unwrap_err();
    fs::write(&second, &whole).unwrap();
    read_all(&chain, &key.public()).unwrap();
}

#[test]
fn the_limit_itself_is_not_exceeded_and_a_byte_more_is() {
    let mut at_the_limit = statement("m-1");
    assert!(!at_the_limit.exceeded());
    at_the_limit.most_in_a_minute = Some(Most { bytes: 18_001, window_ns: 60_000_000_000 });
    assert!(at_the_limit.exceeded());
}

#[test]
fn counters_that_began_anew_count_whole() {
    let before = Counts { admitted_bytes: 10, observed_packets: 7, ..Counts::default() };
    let now = Counts { admitted_bytes: 4, observed_packets: 9, ..Counts::default() };
    let since = now.since(&before);
    assert_eq!((since.admitted_bytes, since.observed_packets), (4, 2));
}
