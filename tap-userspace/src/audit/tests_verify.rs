//! Verification under its own promises: whatever byte is altered is noticed, and the bad entry or tile is named.

use super::tests::{Made, SECOND, START, directory, leaf, snapshot};
use super::*;
use crate::keys::{PublicKey, SecretKey};
use std::path::Path;

fn verified(made: &Made) -> Result<verify::Verified, LogError> {
    verify::verify(made.path(), &made.key().public())
}

fn append(log: &Log, unix_ns: u64, number: u64) {
    log.append_at(unix_ns, &leaf(number)).unwrap();
}

/// Bits that are flipped in a byte: the lowest decides between look-alikes in base64 and digits.
const BITS: [u8; 2] = [0x01, 0x20];

#[test]
fn every_byte_of_checkpoint_tiles_and_entries_that_is_flipped_is_noticed() {
    let made = Made::with(5);
    verified(&made).unwrap();
    let files = snapshot(made.path());
    let mut flipped = 0;
    for (name, bytes) in files.iter().filter(|(name, _)| name != Path::new("lock")) {
        for position in 0..bytes.len() {
            for bit in BITS {
                let mut altered = bytes.clone();
                altered[position] ^= bit;
                std::fs::write(made.path().join(name), altered).unwrap();
                assert!(verified(&made).is_err(), "{} byte {position} ^ {bit}", name.display());
                flipped += 1;
            }
        }
        std::fs::write(made.path().join(name), bytes).unwrap();
    }
    verified(&made).unwrap();
    assert!(flipped > 7_000, "{flipped}: bundles and tiles of every earlier size are looked at too");
}

#[test]
fn bytes_of_a_log_over_several_tiles_are_noticed_and_named() {
    let made = Made::with(513 + 7);
    verified(&made).unwrap();
    let refusal = |name: &str, position: usize| {
        let path = made.path().join(name);
        let bytes = std::fs::read(&path).unwrap();
        let mut altered = bytes.clone();
        altered[position] ^= 1;
        std::fs::write(&path, altered).unwrap();
        let refused = verified(&made).unwrap_err().to_string();
        std::fs::write(&path, bytes).unwrap();
        refused
    };
    for (name, position, words) in [
        ("tile/0/000", 32 * 5, "the hash of entry 5 was altered"),
        ("tile/0/001", 8_191, "the hash of entry 511 was altered"),
        ("tile/1/000.p/2", 33, "the hash of tile/0/001 was altered"),
        ("tile/1/000.p/1", 3, "tile/1/000.p/1: is not the beginning of tile/1/000.p/2"),
        ("tile/entries/000", 30, "entry 0 was altered"),
        ("tile/entries/002.p/8", 0, "is no entry bundle from byte"),
        ("tile/entries/002.p/7", 20, "is not the beginning of tile/entries/002.p/8"),
        ("checkpoint", 0, "checkpoint"),
    ] {
        let refused = refusal(name, position);
        assert!(refused.contains(words) && refused.contains(name), "{name}: {refused}");
    }
    let full = std::fs::read(made.path().join("tile/0/000")).unwrap();
    for position in (0..full.len()).step_by(97) {
        refusal("tile/0/000", position);
    }
    std::fs::write(made.path().join("tile/0/stray"), "").unwrap();
    assert!(verified(&made).unwrap_err().to_string().contains("is no file of a log"));
    std::fs::remove_file(made.path().join("tile/0/stray")).unwrap();
    std::fs::remove_file(made.path().join("tile/entries/001")).unwrap();
    assert!(verified(&made).unwrap_err().to_string().contains("tile/entries/001: is missing"));
}

#[test]
fn a_log_written_anew_by_its_own_key_is_not_the_continuation_of_what_was_witnessed() {
    let made = Made::with(5);
    let old = made.checkpoint();
    made.open().unwrap().append_at(START + 9 * SECOND, &leaf(5)).unwrap();
    let now = verified(&made).unwrap();
    verify::continues(made.path(), &now, &old).unwrap();
    // The same key, another entry: only who has seen the earlier checkpoint can tell.
    std::fs::remove_dir_all(made.path().join("tile")).unwrap();
    std::fs::remove_file(made.path().join("checkpoint")).unwrap();
    let log = made.open().unwrap();
    (0..7).for_each(|number| append(&log, START + number, number + u64::from(number == 2)));
    let anew = verified(&made).unwrap();
    let refused = verify::continues(made.path(), &anew, &old).unwrap_err().to_string();
    assert!(refused.contains("entries were altered"), "{refused}");
    let longer = checkpoint::Checkpoint { size: 900, ..old };
    let refused = verify::continues(made.path(), &anew, &longer).unwrap_err().to_string();
    assert!(refused.contains("entries are gone"), "{refused}");
}

#[test]
fn a_proof_stands_alone_and_every_altered_byte_of_it_is_noticed() {
    let made = Made::with(300);
    let key = made.key().public();
    let old = made.checkpoint();
    let log = made.open().unwrap();
    (300..310).for_each(|number| append(&log, START + number * SECOND, number));
    for (proof, old) in [
        (proof::inclusion(made.path(), 299).unwrap(), None),
        (proof::inclusion(made.path(), 0).unwrap(), None),
        (proof::consistency(made.path(), 300).unwrap(), Some(&old)),
    ] {
        let text = proof.text();
        let check = |text: &str| proof::Proof::parse(text, "proof")?.verify(&key, old, "proof");
        assert_eq!(check(&text).unwrap(), made.checkpoint());
        for position in 0..text.len() {
            for bit in BITS {
                let mut altered = text.clone().into_bytes();
                altered[position] ^= bit;
                let Ok(altered) = String::from_utf8(altered) else { continue };
                assert!(check(&altered).is_err(), "byte {position} ^ {bit}: {altered}");
            }
        }
    }
    let refused = proof::inclusion(made.path(), 310).unwrap_err().to_string();
    assert!(refused.contains("no entry 310: the log has 310"), "{refused}");
    let consistency = proof::consistency(made.path(), 300).unwrap();
    assert!(consistency.verify(&key, None, "proof").unwrap_err().to_string().contains("--old"));
}

#[test]
fn a_witness_cosigns_what_only_grew_and_nothing_else() {
    let made = Made::with(4);
    let (log, key) = (made.key().public(), SecretKey::generate("witness").unwrap());
    let kept = directory();
    let ask = |old| {
        let request = proof::consistency(made.path(), old).unwrap();
        let witness = witness::Witness::open(kept.path()).unwrap();
        witness.cosign(&request, &log, &key, 1_800_000_000).map(|line| request.checkpoint + &line)
    };
    let refused = ask(2).unwrap_err().to_string();
    assert!(refused.contains("has size 0: ask with `gwtap audit prove --old 0`"), "{refused}");
    let cosigned = ask(0).unwrap();
    assert_eq!(cosignature::verify(&cosigned, &key.public(), "checkpoint").unwrap(), 1_800_000_000);
    assert_eq!(checkpoint::Checkpoint::verify(&cosigned, &log, "checkpoint").unwrap(), made.checkpoint());
    ask(4).unwrap();
    made.open().unwrap().append_at(START + 60 * SECOND, &leaf(4)).unwrap();
    ask(0).unwrap_err();
    ask(4).unwrap();
    // A request for inclusion is none, and a branch of the log is refused for ever.
    let witness = witness::Witness::open(kept.path()).unwrap();
    witness.cosign(&proof::inclusion(made.path(), 0).unwrap(), &log, &key, 1).unwrap_err();
    assert_eq!(witness.last(&log).unwrap().size, 5);
    drop(witness);
    std::fs::remove_dir_all(made.path().join("tile")).unwrap();
    std::fs::remove_file(made.path().join("checkpoint")).unwrap();
    let branch = made.open().unwrap();
    (0..6).for_each(|number| append(&branch, START + number, number + 1));
    drop(branch);
    let refused = ask(5).unwrap_err().to_string();
    assert!(refused.contains("the proof does not hold"), "{refused}");
}

#[test]
fn every_byte_of_a_cosigned_checkpoint_that_is_flipped_is_noticed() {
    let made = Made::with(2);
    let (log, key) = (made.key().public(), SecretKey::generate("witness").unwrap());
    let note = std::fs::read_to_string(made.path().join("checkpoint")).unwrap();
    let cosigned = format!("{note}{}", cosignature::cosign(&note, &key, 1_800_000_000).unwrap());
    let check = |text: &str| {
        checkpoint::Checkpoint::verify(text, &log, "checkpoint")?;
        cosignature::verify(text, &key.public(), "checkpoint")
    };
    check(&cosigned).unwrap();
    for position in 0..cosigned.len() {
        for bit in BITS {
            let mut altered = cosigned.clone().into_bytes();
            altered[position] ^= bit;
            let Ok(altered) = String::from_utf8(altered) else { continue };
            assert!(check(&altered).is_err(), "byte {position} ^ {bit}: {altered}");
        }
    }
}

#[test]
fn a_checkpoint_of_another_log_or_key_is_refused() {
    let made = Made::with(1);
    let stranger = SecretKey::generate("other.log").unwrap();
    assert!(verify::verify(made.path(), &stranger.public()).is_err());
    let same_name = SecretKey::generate("test.log").unwrap();
    let refused = verify::verify(made.path(), &same_name.public()).unwrap_err().to_string();
    assert!(refused.contains("not signed by test.log"), "{refused}");
    let parsed = PublicKey::parse(&made.key().public().to_string(), "key").unwrap();
    verify::verify(made.path(), &parsed).unwrap();
    // Extension lines, leading zeros, a missing newline: not what the log writes.
    for text in ["test.log\n1\nAAAA\n", "test.log\n01\n", "", "\n1\nx\n"] {
        assert_eq!(checkpoint::Checkpoint::parse(text), None, "{text:?}");
    }
    let text = made.checkpoint().text();
    assert!(checkpoint::Checkpoint::parse(&text).is_some());
    assert_eq!(checkpoint::Checkpoint::parse(&format!("{text}extension\n")), None);
    assert_eq!(checkpoint::Checkpoint::parse(&text.replace("\n1\n", "\n01\n")), None);
}
