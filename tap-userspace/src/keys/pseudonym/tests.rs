use super::*;

const DAY: i64 = 86_400;

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn secret(number: u8) -> SealingSecret {
    SealingSecret::new(&[number; 32]).unwrap()
}

fn key() -> PseudonymKey {
    PseudonymKey::generate("m-1", 3, time(DAY), time(31 * DAY)).unwrap()
}

#[test]
fn every_recipient_opens_what_was_sealed_and_nobody_else() {
    let key = key();
    let text = key.seal(&[secret(1).public(), secret(2).public()]).unwrap();
    for own in [1, 2] {
        let opened = PseudonymKey::open(&text, &secret(own)).unwrap();
        assert_eq!(opened.secrets.deterministic, key.secrets.deterministic);
        assert_eq!(opened.secrets.prefix, key.secrets.prefix);
        assert_eq!((opened.measure.as_str(), opened.epoch), ("m-1", 3));
        assert_eq!((opened.not_before, opened.not_after), (time(DAY), time(31 * DAY)));
    }
    let error = PseudonymKey::open(&text, &secret(3)).unwrap_err().to_string();
    assert!(error.contains(&secret(3).public().hex()), "{error}");
    assert!(!text.contains(&hex::encode(key.secrets.deterministic)));
}

#[test]
fn whatever_is_altered_is_refused() {
    let text = key().seal(&[secret(1).public()]).unwrap();
    let ciphertext = text.split("ciphertext = \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let encapsulated = text.split("encapsulated = \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let turned = |hex: &str| hex.chars().rev().collect::<String>();
    for (from, to) in [
        ("measure = \"m-1\"", "measure = \"m-2\""),
        ("epoch = 3", "epoch = 4"),
        ("1970-01-02T", "1970-01-01T"),
        ("1970-02-01T", "1971-02-01T"),
        (ciphertext.as_str(), turned(&ciphertext).as_str()),
        (encapsulated.as_str(), turned(&encapsulated).as_str()),
    ] {
        let altered = text.replacen(from, to, 1);
        assert_ne!(altered, text);
        let error = PseudonymKey::open(&altered, &secret(1)).unwrap_err();
        assert!(matches!(error, PseudonymKeyError::Altered), "{from}: {error}");
    }
    for (from, to, says) in [
        ("version = 1", "version = 2", "version"),
        ("epoch = 3", "epoch = 3\nmore = 1", "more"),
        ("epoch = 3", "epoch = -1", "epoch"),
        ("1970-02-01T", "1970-01-01T", "not_after"),
        ("encapsulated = \"", "encapsulated = \"zz", "sealed.encapsulated"),
    ] {
        let error = PseudonymKey::open(&text.replacen(from, to, 1), &secret(1)).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_key_is_used_in_its_epoch_and_for_its_measure_alone() {
    let key = key();
    assert!(key.check("m-1", time(DAY), 30).is_ok());
    assert!(key.check("m-1", time(31 * DAY - 1), 30).is_ok());
    for (measure, now, days, says) in [
        ("m-1", DAY - 1, 30, "epoch 3 is valid from"),
        ("m-1", 31 * DAY, 30, "epoch 3 is valid from"),
        ("m-2", DAY, 30, "measure"),
        ("m-1", DAY, 29, "key_epoch_days"),
    ] {
        let error = key.check(measure, time(now), days).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    assert!(PseudonymKey::generate("", 0, time(0), time(1)).is_err());
    assert!(PseudonymKey::generate("m", 0, time(1), time(1)).is_err());
    assert!(key.seal(&[]).is_err());
}

#[test]
fn equal_halves_of_a_prefix_key_are_refused() {
    assert!(PseudonymSecrets::new(&[1; SECRET_BYTES]).is_none());
}

#[test]
fn no_key_is_shown() {
    let shown = format!("{:?} {:?}", key(), secret(0x5a));
    assert!(!shown.contains("5a5a") && shown.contains("redacted"), "{shown}");
}

#[test]
fn key_files_that_are_none_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("host.seal.key");
    std::fs::write(&path, "5a").unwrap();
    assert!(SealingSecret::read(&path).unwrap_err().to_string().contains("host.seal.key"));
    std::fs::write(&path, format!("{}\n", "5a".repeat(32))).unwrap();
    let public = SealingSecret::read(&path).unwrap().public();
    std::fs::write(&path, public.hex()).unwrap();
    assert_eq!(SealingPublic::read(&path).unwrap().hex(), public.hex());
}
