//! Several taps of one measure, receipts that do not count, and those that were stored before anybody was to be told.

use super::super::intake::{Intake, Measures, Said};
use super::*;
use jiff::SignedDuration;
use std::sync::{Arc, Mutex};

const WAIT: SignedDuration = SignedDuration::from_secs(60);
const FIRST: &str = "ab";
const SECOND: &str = "cd";

/// What `host` says at `second`, under the order `order` of the chain that begins with `chain`.
fn said(host: &SecretKey, (chain, order): (&str, &str), second: i64, event: Event) -> Receipt {
    Receipt {
        order_sha256: order.repeat(32),
        chain_sha256: chain.repeat(32),
        time: at(second),
        ..receipt_of(host, "m-1", event)
    }
}

fn opened(until: i64) -> Event {
    Event::Opened { not_after: at(until) }
}

fn ended() -> Event {
    Event::Ended { by: "order".into() }
}

fn ends(kit: &Kit) -> Vec<String> {
    let ends = kit.kept().into_iter().filter(|kept| kept.notice.kind == Kind::Selection);
    ends.map(|kept| match kept.notice.occasion {
        Occasion::End(order) => order[..2].to_owned(),
        Occasion::Day(day) => day.to_string(),
    })
    .collect()
}

#[test]
fn two_taps_with_different_ends_make_one_notice_at_the_last() {
    let other = key("mirror-2");
    // One is extended and the other is not; or both have one order, and one of them says nothing more.
    for (second_order, until, numbered) in [(SECOND, 1_000, [0, 2]), (FIRST, 100, [2, 0])] {
        let kit = Kit::new();
        let mut outbox = kit.open().unwrap();
        let mut take = |receipt: &Receipt| outbox.take(receipt, "00", at(1)).unwrap();
        let begin = [
            said(&kit.host, (FIRST, FIRST), 1, opened(100)),
            said(&other, (FIRST, FIRST), 1, opened(100)),
            said(&other, (FIRST, second_order), 50, opened(until)),
        ];
        assert_eq!(begin.iter().map(&mut take).sum::<u64>(), 0);
        let first = said(&kit.host, (FIRST, FIRST), 100, ended());
        let last = said(&other, (FIRST, second_order), until, ended());
        assert_eq!([take(&first), take(&last)], numbered);
        // Again, as after a restart, in any order.
        assert_eq!([take(&last), take(&first), take(&begin[0]), take(&begin[2]), take(&first)], [0; 5]);
        drop(outbox);
        let mut outbox = kit.open().unwrap();
        assert_eq!(outbox.take(&first, "00", at(2_000)).unwrap(), 0);
        assert_eq!(outbox.conclude(WAIT, at(9_000)).unwrap(), 0);
        assert_eq!(ends(&kit), [second_order]);
    }
}

#[test]
fn a_measure_stopped_on_one_tap_goes_on_with_the_other_until_that_ends_too() {
    let (kit, other) = (Kit::new(), key("mirror-2"));
    let mut outbox = kit.open().unwrap();
    for host in [&kit.host, &other] {
        outbox.take(&said(host, (FIRST, FIRST), 1, opened(100)), "00", at(1)).unwrap();
    }
    let stopped = Event::Ended { by: "directive".into() };
    assert_eq!(outbox.take(&said(&kit.host, (FIRST, FIRST), 20, stopped), "00", at(20)).unwrap(), 0);
    drop(outbox);
    // The other is dead: its order's end is its end.
    let mut outbox = kit.open().unwrap();
    assert!(!outbox.has_unsaid_end(WAIT, at(160)));
    assert!(outbox.has_unsaid_end(WAIT, at(161)));
    assert_eq!(outbox.conclude(WAIT, at(161)).unwrap(), 2);
    assert_eq!(outbox.take(&said(&other, (FIRST, FIRST), 170, ended()), "00", at(170)).unwrap(), 0);
    assert_eq!(ends(&kit), [FIRST]);
}

#[test]
fn an_end_that_nobody_said_is_not_lost_when_the_measure_is_ordered_anew() {
    let kit = Kit::new();
    let mut outbox = kit.open().unwrap();
    outbox.take(&said(&kit.host, (FIRST, FIRST), 1, opened(100)), "00", at(1)).unwrap();
    // Another order of the same name, which extends nothing.
    outbox.take(&said(&kit.host, (SECOND, SECOND), 110, opened(1_000)), "00", at(110)).unwrap();
    assert_eq!(outbox.conclude(WAIT, at(161)).unwrap(), 2);
    assert_eq!(outbox.take(&said(&kit.host, (SECOND, SECOND), 1_000, ended()), "00", at(1_000)).unwrap(), 2);
    assert_eq!(ends(&kit), [FIRST, SECOND]);
}

#[test]
fn an_end_is_numbered_also_when_the_crash_came_between_its_two_files() {
    let kit = Kit::new();
    let mut outbox = kit.open().unwrap();
    outbox.take(&said(&kit.host, (FIRST, FIRST), 1, opened(1_000)), "00", at(1)).unwrap();
    std::fs::create_dir(kit.file("00000001.note.new")).unwrap();
    let end = said(&kit.host, (FIRST, FIRST), 20, ended());
    outbox.take(&end, "00", at(20)).unwrap_err();
    drop(outbox);
    std::fs::remove_dir(kit.file("00000001.note.new")).unwrap();
    assert_eq!(kit.open().unwrap().take(&end, "00", at(21)).unwrap(), 2);
    assert_eq!(ends(&kit), [FIRST]);
}

fn any() -> Measures {
    Box::new(|_, _| true)
}

/// An intake over the kit's store, told or not.
fn intake(kit: &Kit, is_told: bool, measures: Measures) -> Intake {
    let outbox = is_told.then(|| Arc::new(Mutex::new(kit.open().unwrap())));
    Intake::new(kit.store.path(), outbox, measures)
}

fn stored(said: &[Said]) -> Result<Vec<Said>, OutboxError> {
    Ok(said.to_vec())
}

fn never() -> Result<Vec<Said>, OutboxError> {
    panic!("the store is read although everything in it was noticed")
}

#[test]
fn what_does_not_count_is_set_aside_once_and_the_rest_goes_on() {
    let (kit, other) = (Kit::new(), key("mirror-2"));
    let id = crate::keys::sha256(&kit.host.public().bytes);
    let note = |receipt: &Receipt, key: &SecretKey| (id, sign(receipt, key).unwrap());
    let good = day_of(&kit.host, 20_000);
    let bad = [
        (id, "no note at all".to_owned()),
        note(&good, &other),
        note(&Receipt { version: 2, ..good.clone() }, &kit.host),
        note(&Receipt { measure: "m".repeat(65), ..good.clone() }, &kit.host),
        note(&Receipt { order_sha256: "12".into(), ..good.clone() }, &kit.host),
        note(&Receipt { measure: "m-2".into(), ..good.clone() }, &kit.host),
    ];
    let own: fn() -> Measures = || Box::new(|_, measure| measure == "m-1");
    let all: Vec<Said> = bad.iter().cloned().chain([note(&good, &kit.host)]).collect();
    let intake_of = intake(&kit, true, own());
    intake_of.catch_up(|| stored(&[])).unwrap();
    for _ in 0..2 {
        intake_of.take(&all).unwrap();
        assert_eq!((kit.kept().len(), intake_of.set_aside()), (2, bad.len() as u64));
    }
    drop(intake_of);
    // The measure is the host's after all: what was set aside counts at the next start, once.
    for _ in 0..2 {
        let intake = intake(&kit, true, any());
        intake.catch_up(never).unwrap();
        assert_eq!((kit.kept().len(), intake.set_aside()), (4, bad.len() as u64 - 1));
    }
    // What cannot be set aside is not passed over.
    std::fs::remove_dir_all(kit.store.path().join("set-aside")).unwrap();
    std::fs::write(kit.store.path().join("set-aside"), "a file").unwrap();
    intake(&kit, true, any()).take(&bad).unwrap_err();
}

#[test]
fn what_was_stored_before_anybody_was_to_be_told_is_noticed_then() {
    let (kit, other) = (Kit::new(), key("mirror-2"));
    let note =
        |host: &SecretKey, receipt: &Receipt| (crate::keys::sha256(&host.public().bytes), sign(receipt, host).unwrap());
    // As a store gives it: host after host.
    let all = [
        note(&kit.host, &said(&kit.host, (FIRST, FIRST), 1, opened(100))),
        note(&kit.host, &said(&kit.host, (FIRST, FIRST), 100, ended())),
        note(&other, &said(&other, (FIRST, FIRST), 1, opened(100))),
        note(&other, &said(&other, (FIRST, SECOND), 50, opened(1_000))),
        note(&other, &said(&other, (FIRST, SECOND), 1_000, ended())),
    ];
    let silent = intake(&kit, false, any());
    silent.catch_up(never).unwrap();
    silent.take(&all).unwrap();
    assert_eq!(silent.set_aside(), 0);
    intake(&kit, true, any()).catch_up(|| stored(&all)).unwrap();
    assert_eq!(ends(&kit), [SECOND]);
    intake(&kit, true, any()).catch_up(never).unwrap();
    // The table was taken out for a while: what came meanwhile is noticed when it is back, and nothing twice.
    intake(&kit, false, any()).catch_up(never).unwrap();
    let more: Vec<Said> = all.iter().cloned().chain([note(&kit.host, &day_of(&kit.host, 20_000))]).collect();
    intake(&kit, true, any()).catch_up(|| stored(&more)).unwrap();
    assert_eq!(ends(&kit), [SECOND.to_owned(), day(20_000).to_string()]);
}
