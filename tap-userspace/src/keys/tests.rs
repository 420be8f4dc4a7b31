use super::note::{sign, text, verify};
use super::roles::TrustedKey;
use super::*;
use std::os::unix::fs::PermissionsExt;

/// The key pair that the signed-note documentation uses throughout.
const SPECIFIED_SECRET: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const SPECIFIED_PUBLIC: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

fn roots(keys: &[(&SecretKey, Role)]) -> TrustRoots {
    let mut roots = TrustRoots::default();
    for (key, role) in keys {
        roots.add(TrustedKey { name: role.to_string(), role: *role, public: key.public() }).unwrap();
    }
    roots
}

#[test]
fn the_specified_pair_is_read_and_written_back() {
    let secret = SecretKey::parse(SPECIFIED_SECRET, "test").unwrap();
    assert_eq!(secret.public(), PublicKey::parse(SPECIFIED_PUBLIC, "test").unwrap());
    assert_eq!(secret.encode().as_str(), SPECIFIED_SECRET);
    assert_eq!(secret.public().to_string(), SPECIFIED_PUBLIC);
    assert!(!format!("{secret:?}").contains("AYEKFALVFGyNhPJEMzD1QIDr"));
}

#[test]
fn a_note_is_verified_by_whole_keys_and_each_signature_counts_once() {
    let (first, second) = (SecretKey::generate("one").unwrap(), SecretKey::generate("two").unwrap());
    let roots = roots(&[(&first, Role::Government), (&second, Role::Commission)]);
    let note = sign("a\n\nb\n", &first).unwrap();
    let note = sign(&note, &first).unwrap();
    let verified = verify(&note, &roots).unwrap();
    assert_eq!((verified.text.as_str(), verified.signers.len()), ("a\n\nb\n", 1));
    let note = sign(&note, &second).unwrap();
    assert_eq!(verify(&note, &roots).unwrap().signers.len(), 2);
    assert_eq!(text(&note).unwrap(), "a\n\nb\n");
    // A stranger with a trusted name is not taken for the trusted key.
    let stranger = SecretKey::generate("one").unwrap();
    let note = sign("text\n", &stranger).unwrap();
    assert!(verify(&note, &roots).unwrap().signers.is_empty());
}

#[test]
fn every_altered_byte_of_text_or_signature_is_refused() {
    let key = SecretKey::generate("one").unwrap();
    let roots = roots(&[(&key, Role::Government)]);
    let note = sign("share_ppm = 300000\n", &key).unwrap().into_bytes();
    for index in 0..note.len() {
        let mut altered = note.clone();
        altered[index] ^= 1;
        let counts = String::from_utf8(altered)
            .ok()
            .and_then(|altered| verify(&altered, &roots).ok().map(|verified| verified.signers.len()));
        assert!(matches!(counts, None | Some(0)), "byte {index}");
    }
}

#[test]
fn a_text_without_signature_lines_is_unsigned() {
    let key = SecretKey::generate("one").unwrap();
    let error = verify("text\n", &roots(&[(&key, Role::Government)])).unwrap_err();
    assert!(matches!(error, KeyError::Unsigned), "{error}");
    assert!(matches!(sign("tab\there\n", &key), Err(KeyError::Note)));
    assert!(matches!(sign("no newline", &key), Err(KeyError::Note)));
}

#[test]
fn trust_roots_refuse_two_roles_unknown_fields_and_unknown_roles() {
    let key = SecretKey::generate("k").unwrap().public();
    let entry = |role: &str| format!("[[key]]\nname = \"n\"\nrole = \"{role}\"\npublic = \"{key}\"\n");
    assert_eq!(TrustRoots::from_toml(&entry("party")).unwrap().keys().len(), 1);
    let twice = format!("{}{}", entry("selector-author"), entry("selector-approver"));
    assert!(TrustRoots::from_toml(&twice).unwrap_err().to_string().contains("one role"));
    for (text, named) in [
        (entry("chief"), "chief"),
        (entry("party") + "expires = 1\n", "expires"),
        (String::new(), "no [[key]]"),
        (entry("party").replace('+', "-"), "key[0].public"),
    ] {
        let error = TrustRoots::from_toml(&text).unwrap_err().to_string();
        assert!(error.contains(named), "{named}: {error}");
    }
}

#[test]
fn the_identity_as_a_public_key_is_refused() {
    let mut data = [0_u8; 33];
    (data[0], data[1]) = (1, 1);
    let weak = signed_note::new_ed25519_verifier_key(
        "weak",
        &ed25519_dalek::VerifyingKey::from_bytes(data[1..].try_into().unwrap()).unwrap(),
    );
    assert!(PublicKey::parse(&weak, "test").unwrap_err().to_string().contains("weak"));
}

#[test]
fn files_are_the_owners_alone_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let (key, [secret, public]) = generate::note_pair("host", folder.path()).unwrap();
    let [seal_secret, seal_public] = generate::sealing_pair("host", folder.path()).unwrap();
    let spool = generate::spool_key("spool", folder.path()).unwrap();
    for path in [&secret, &seal_secret, &spool] {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    assert_eq!(SecretKey::from_file(&secret).unwrap().public(), key.public());
    assert_eq!(PublicKey::from_file(&public).unwrap(), key.public());
    assert!(parse_sha256(std::fs::read_to_string(&spool).unwrap().trim()).is_some());
    assert!(parse_sha256(std::fs::read_to_string(&seal_public).unwrap().trim()).is_some());
    assert!(matches!(generate::note_pair("host", folder.path()), Err(KeyError::Exists(_))));
    assert!(matches!(generate::spool_key("../spool", folder.path()), Err(KeyError::Name(_))));
    assert!(matches!(SecretKey::generate("a+b"), Err(KeyError::Name(_))));
}

#[test]
fn a_host_key_id_is_the_digest_of_the_public_key() {
    let key = SecretKey::parse(SPECIFIED_SECRET, "test").unwrap().public();
    let id = HostKeyId::of(&key);
    assert_eq!(id.0, sha256(&key.bytes));
    assert_eq!(id.to_string().parse::<HostKeyId>().unwrap(), id);
    assert!("abc".parse::<HostKeyId>().is_err());
}

#[test]
fn a_revoked_keys_signature_does_not_count_and_its_successors_does() {
    let moment = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
    let (old, new) = (SecretKey::generate("commission-1").unwrap(), SecretKey::generate("commission-2").unwrap());
    let table = |key: &SecretKey, more: &str| {
        format!("[[key]]\nname = \"c\"\nrole = \"commission\"\npublic = \"{}\"\n{more}", key.public())
    };
    let (by_old, by_new) = (sign("text\n", &old).unwrap(), sign("text\n", &new).unwrap());
    let counts = |note: &str, roots: &TrustRoots| verify(note, roots).unwrap().signers.len();

    let both = TrustRoots::from_toml(&(table(&old, "") + &table(&new, ""))).unwrap();
    assert_eq!((counts(&by_old, &both), counts(&by_new, &both)), (1, 1), "two keys of one role");

    let dated = table(&old, "revoked = \"2027-01-01T00:00:00+09:00\"\n") + &table(&new, "");
    let dated = TrustRoots::from_toml(&dated).unwrap();
    let (before, from) = (moment("2026-12-31T14:59:59.999999999Z"), moment("2026-12-31T15:00:00Z"));
    assert_eq!((counts(&by_old, &dated.at(before)), counts(&by_new, &dated.at(before))), (1, 1));
    assert_eq!((counts(&by_old, &dated.at(from)), counts(&by_new, &dated.at(from))), (0, 1));
    assert_eq!(counts(&by_old, &dated), 0, "roots that nobody judged take every revocation for granted");
    let twice = sign(&by_old, &new).unwrap();
    for (note, until) in [(&by_old, Some(from)), (&by_new, None), (&twice, None)] {
        let judged = dated.at(before);
        let verified = verify(note, &judged).unwrap();
        assert_eq!(judged.signed_until(&verified.signers), until);
    }

    let never = format!("revoked = [\"{}\"]\n", old.public()) + &table(&old, "") + &table(&new, "");
    let never = TrustRoots::from_toml(&never).unwrap();
    for roots in [&never, &never.at(moment("2000-01-01T00:00:00Z"))] {
        assert_eq!((counts(&by_old, roots), counts(&by_new, roots), counts(&twice, roots)), (0, 1, 1));
    }
    for wrong in [table(&old, "revoked = \"soon\"\n"), format!("revoked = [\"x\"]\n{}", table(&old, ""))] {
        let error = TrustRoots::from_toml(&wrong).unwrap_err().to_string();
        assert!(error.contains("revoked"), "{error}");
    }
}
