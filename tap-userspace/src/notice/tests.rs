//! Receipts, the outbox and acknowledgements, with every way in which they may be wrong.

use super::book::Book;
use super::endpoint::Commission;
use super::outbox::{Outbox, OutboxError, read_all};
use super::*;
use std::path::Path;

mod several;

const SENDER: &str = "receiving-1";

fn key(name: &str) -> SecretKey {
    SecretKey::generate(name).unwrap()
}

fn again(key: &SecretKey) -> SecretKey {
    SecretKey::parse(&key.encode(), "test").unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn receipt_of(host: &SecretKey, measure: &str, event: Event) -> Receipt {
    Receipt {
        version: VERSION,
        host_key: host.public().to_string(),
        measure: measure.into(),
        facility: "facility-1".into(),
        order_sha256: "ab".repeat(32),
        chain_sha256: String::new(),
        time: at(0),
        event,
        totals: Totals { observed_packets: 9, selected_packets: 3, exported_records: 3 },
    }
}

fn day_of(host: &SecretKey, number: u64) -> Receipt {
    receipt_of(host, "m-1", Event::Day { day: day(number) })
}

struct Kit {
    store: tempfile::TempDir,
    host: SecretKey,
    facility: SecretKey,
    commission: SecretKey,
}

impl Kit {
    fn new() -> Self {
        let store = tempfile::tempdir().unwrap();
        Self { store, host: key("mirror-1"), facility: key(SENDER), commission: key("commission") }
    }

    fn open(&self) -> Result<Outbox, OutboxError> {
        Outbox::open(self.store.path(), SENDER, again(&self.facility), self.commission.public())
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.store.path().join(outbox::DIRECTORY).join(name)
    }

    fn answer(&self, notice: &Notice, text: &str) -> Acknowledgement {
        Acknowledgement {
            version: VERSION,
            sender: notice.sender.clone(),
            number: notice.number,
            notice_sha256: digest(text),
            time: at(9),
        }
    }

    fn kept(&self) -> Vec<outbox::Kept> {
        read_all(&self.file(""), &self.facility.public(), &self.commission.public()).unwrap()
    }
}

#[test]
fn a_day_is_japans() {
    assert_eq!(day(day_number(0)).to_string(), "1970-01-01");
    // Midnight in Japan is 15:00 UTC the day before.
    let midnight = u64::try_from("2027-11-30T15:00:00Z".parse::<Timestamp>().unwrap().as_nanosecond()).unwrap();
    assert_eq!(day(day_number(midnight)).to_string(), "2027-12-01");
    assert_eq!(day(day_number(midnight - 1)).to_string(), "2027-11-30");
}

#[test]
fn a_receipt_is_its_own_hosts_and_every_altered_byte_is_noticed() {
    let (host, other) = (key("mirror-1"), key("mirror-2"));
    let id = crate::keys::sha256(&host.public().bytes);
    let other_id = crate::keys::sha256(&other.public().bytes);
    let given = day_of(&host, 20_000);
    let note = sign(&given, &host).unwrap();
    assert_eq!(receipt(&note, &id).unwrap(), given);
    assert!(receipt(&note, &other_id).is_err(), "another host's stream");
    assert!(receipt(&sign(&given, &other).unwrap(), &id).is_err(), "another key");
    for index in 0..note.len() {
        let mut bytes = note.clone().into_bytes();
        bytes[index] ^= 1;
        let altered = String::from_utf8(bytes);
        assert!(altered.is_err() || receipt(&altered.unwrap(), &id).is_err(), "byte {index}");
    }
}

#[test]
fn a_subject_is_numbered_once_however_often_it_is_said() {
    let kit = Kit::new();
    let mut outbox = kit.open().unwrap();
    let ended = receipt_of(&kit.host, "m-1", Event::Ended { by: "order".into() });
    let opened = receipt_of(&kit.host, "m-1", Event::Opened { not_after: at(99) });
    let second = receipt_of(&kit.host, "m-2", Event::Day { day: day(20_000) });
    let said = [&opened, &day_of(&kit.host, 20_000), &day_of(&kit.host, 20_000), &second, &ended, &ended];
    let numbered: Vec<_> = said.iter().map(|receipt| outbox.take(receipt, "aa", at(1)).unwrap()).collect();
    assert_eq!(numbered, [0, 2, 0, 2, 2, 0]);
    // A restart has the same book.
    drop(outbox);
    let mut outbox = kit.open().unwrap();
    assert!(said.iter().all(|receipt| outbox.take(receipt, "aa", at(2)).unwrap() == 0));
    assert_eq!(outbox.take(&day_of(&kit.host, 20_001), "aa", at(2)).unwrap(), 2);
    let numbers: Vec<_> = kit.kept().iter().map(|kept| kept.notice.number).collect();
    assert_eq!(numbers, (1..=8).collect::<Vec<_>>());
    let mut book = Book::default();
    let subject = book.due("m-1", &Occasion::End("ab".repeat(32))).remove(0);
    book.number(subject.clone()).unwrap();
    assert!(book.number(subject).is_err());
}

#[test]
fn an_acknowledgement_that_is_false_older_or_anothers_does_not_count() {
    let kit = Kit::new();
    let mut outbox = kit.open().unwrap();
    outbox.take(&day_of(&kit.host, 20_000), "aa", at(0)).unwrap();
    let (notice, text) = outbox.next().unwrap();
    let right = kit.answer(&notice, &text);
    let wrong = [
        Acknowledgement { number: 2, ..right.clone() },
        Acknowledgement { number: 0, ..right.clone() },
        Acknowledgement { notice_sha256: digest("another"), ..right.clone() },
        Acknowledgement { sender: "receiving-2".into(), ..right.clone() },
        Acknowledgement { version: 2, ..right.clone() },
    ];
    for wrong in wrong {
        assert!(outbox.acknowledge(&notice, &sign(&wrong, &kit.commission).unwrap()).is_err(), "{wrong:?}");
    }
    let signed = sign(&right, &kit.commission).unwrap();
    assert!(outbox.acknowledge(&notice, &sign(&right, &kit.facility).unwrap()).is_err(), "another key");
    assert!(outbox.acknowledge(&notice, &sign(&right, &key("commission")).unwrap()).is_err(), "another key, same name");
    assert!(outbox.acknowledge(&notice, "thank you").is_err());
    for index in 0..signed.len() {
        let mut bytes = signed.clone().into_bytes();
        bytes[index] ^= 1;
        let altered = String::from_utf8(bytes).unwrap_or_default();
        assert!(outbox.acknowledge(&notice, &altered).is_err(), "byte {index}");
    }
    assert_eq!(outbox.waiting(at(-1)), (2, 0));
    assert_eq!(outbox.waiting(at(1)), (2, 2));
    outbox.acknowledge(&notice, &signed).unwrap();
    // The acknowledgement of the first is none of the second.
    let (second, _) = outbox.next().unwrap();
    assert_eq!(second.number, 2);
    assert!(outbox.acknowledge(&second, &signed).is_err());
    assert_eq!((kit.open().unwrap().waiting(at(1)), kit.open().unwrap().acknowledged()), ((1, 1), 1));
}

#[test]
fn a_write_cut_off_at_any_byte_is_written_anew_and_no_number_is_lost() {
    let kit = Kit::new();
    let whole = {
        let mut outbox = kit.open().unwrap();
        outbox.take(&day_of(&kit.host, 20_000), "aa", at(0)).unwrap();
        std::fs::read(kit.file("00000002.note")).unwrap()
    };
    for end in 0..=whole.len() {
        // Killed while it wrote: the second has no name yet.
        drop(std::fs::remove_file(kit.file("00000002.note")));
        std::fs::write(kit.file("00000002.note.new"), &whole[..end]).unwrap();
        let mut outbox = kit.open().unwrap();
        assert_eq!(outbox.take(&day_of(&kit.host, 20_000), "aa", at(0)).unwrap(), 1, "cut off at {end}");
        assert_eq!(kit.kept().len(), 2);
    }
}

#[test]
fn a_gap_an_altered_byte_or_another_key_is_named() {
    let kit = Kit::new();
    let mut outbox = kit.open().unwrap();
    for number in 0..2 {
        outbox.take(&day_of(&kit.host, 20_000 + number), "aa", at(0)).unwrap();
    }
    let broken = |named: &str| {
        let error = kit.open().unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    };
    let text = std::fs::read(kit.file("00000002.note")).unwrap();
    for index in 0..text.len() {
        let mut altered = text.clone();
        altered[index] ^= 1;
        std::fs::write(kit.file("00000002.note"), altered).unwrap();
        assert!(kit.open().is_err(), "byte {index}");
    }
    broken("00000002.note");
    std::fs::remove_file(kit.file("00000002.note")).unwrap();
    broken("00000002.note: it is missing");
    std::fs::write(kit.file("00000002.note"), text).unwrap();
    assert!(Outbox::open(kit.store.path(), "receiving-2", again(&kit.facility), kit.commission.public()).is_err());
    assert!(Outbox::open(kit.store.path(), SENDER, key(SENDER), kit.commission.public()).is_err());
    kit.open().unwrap();
}

#[test]
fn what_cannot_be_written_is_said_and_has_no_number() {
    let kit = Kit::new();
    let mut outbox = kit.open().unwrap();
    // A directory stands where the second notice would be written.
    std::fs::create_dir(kit.file("00000002.note.new")).unwrap();
    let error = outbox.take(&day_of(&kit.host, 20_000), "aa", at(0)).unwrap_err().to_string();
    assert!(error.contains("00000002.note") && error.contains("nothing is acknowledged"), "{error}");
    std::fs::remove_dir(kit.file("00000002.note.new")).unwrap();
    assert_eq!(outbox.take(&day_of(&kit.host, 20_000), "aa", at(0)).unwrap(), 1);
    // Nor is an answer taken that cannot be kept.
    let (notice, text) = outbox.next().unwrap();
    let signed = sign(&kit.answer(&notice, &text), &kit.commission).unwrap();
    std::fs::create_dir(kit.file("00000001.ack.new")).unwrap();
    assert!(outbox.acknowledge(&notice, &signed).is_err());
    assert_eq!(outbox.next().unwrap().0.number, 1);
    std::fs::remove_dir(kit.file("00000001.ack.new")).unwrap();
    outbox.acknowledge(&notice, &signed).unwrap();
    assert_eq!(outbox.next().unwrap().0.number, 2);
}

fn commission(kit: &Kit, directory: &Path) -> Commission {
    Commission::new(directory.to_owned(), again(&kit.commission), kit.facility.public()).unwrap()
}

#[test]
fn the_stand_in_takes_numbers_in_order_and_repetitions_alike() {
    let kit = Kit::new();
    let mut outbox = kit.open().unwrap();
    outbox.take(&day_of(&kit.host, 20_000), "aa", at(0)).unwrap();
    let texts: Vec<_> = kit.kept().into_iter().map(|kept| kept.text).collect();
    let directory = tempfile::tempdir().unwrap();
    let books = commission(&kit, directory.path());
    assert!(books.take(&texts[1], at(1)).is_err(), "the first is missing");
    assert!(books.take(&sign(&kit.kept()[0].notice, &kit.host).unwrap(), at(1)).is_err(), "another key");
    let first = books.take(&texts[0], at(1)).unwrap();
    assert_eq!(books.take(&texts[0], at(1)).unwrap(), first);
    let other = Notice { time: at(77), ..kit.kept()[0].notice.clone() };
    assert!(books.take(&sign(&other, &kit.facility).unwrap(), at(1)).is_err(), "two notices of one number");
    let (notice, _) = outbox.next().unwrap();
    outbox.acknowledge(&notice, &first).unwrap();
    // It goes on from its directory.
    let second = commission(&kit, directory.path()).take(&texts[1], at(2)).unwrap();
    let (notice, _) = outbox.next().unwrap();
    outbox.acknowledge(&notice, &second).unwrap();
    assert!(outbox.next().is_none());
}

#[test]
fn an_end_that_no_tap_says_is_concluded_from_the_opening_once() {
    let kit = Kit::new();
    let wait = jiff::SignedDuration::from_secs(60);
    let opened = |measure: &str, order: &str, second: i64| Receipt {
        order_sha256: order.repeat(32),
        ..receipt_of(&kit.host, measure, Event::Opened { not_after: at(second) })
    };
    let mut outbox = kit.open().unwrap();
    for receipt in
        [opened("m-1", "ab", 100), opened("m-2", "ab", 100), opened("m-2", "cd", 1_000), opened("m-2", "ab", 100)]
    {
        assert_eq!(outbox.take(&receipt, "00", at(1)).unwrap(), 0);
    }
    assert!(!outbox.has_unsaid_end(wait, at(160)), "a tap has a while to say it itself");
    drop(outbox);
    let mut outbox = kit.open().unwrap();
    assert!(outbox.has_unsaid_end(wait, at(161)), "the end is known across a restart");
    assert_eq!(outbox.conclude(wait, at(161)).unwrap(), 2, "m-2 was extended");
    drop(outbox);
    let mut outbox = kit.open().unwrap();
    assert_eq!(outbox.conclude(wait, at(162)).unwrap(), 0, "once");
    let said = receipt_of(&kit.host, "m-1", Event::Ended { by: "order".into() });
    assert_eq!(outbox.take(&said, "00", at(170)).unwrap(), 0, "what the tap says later is the same");
    assert_eq!(outbox.conclude(wait, at(1_061)).unwrap(), 2);
    let kept = kit.kept();
    let ends: Vec<_> = kept.iter().map(|kept| (kept.notice.measure.as_str(), kept.notice.occasion.clone())).collect();
    let end = |order: &str| Occasion::End(order.repeat(32));
    assert_eq!(ends, [("m-1", end("ab")), ("m-1", end("ab")), ("m-2", end("cd")), ("m-2", end("cd"))]);
}
