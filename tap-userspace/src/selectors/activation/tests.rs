use super::*;
use crate::keys::{SecretKey, note::sign, roles::TrustedKey};

fn activation() -> Activation {
    Activation {
        measure: "m-1".to_owned(),
        order_sha256: [1; 32],
        set_sha256: [2; 32],
        number: 7,
        valid_until: "2027-01-01T00:00:00+09:00".parse().unwrap(),
    }
}

fn roots(keys: &[(&str, &SecretKey, Role)]) -> TrustRoots {
    let mut roots = TrustRoots::default();
    for (name, key, role) in keys {
        roots.add(TrustedKey { name: (*name).to_owned(), role: *role, public: key.public() }).unwrap();
    }
    roots
}

fn refusal(note: &str, roots: &TrustRoots) -> String {
    verify(note, roots).unwrap_err().to_string()
}

#[test]
fn two_persons_activate() {
    let (author, approver) = (SecretKey::generate("a").unwrap(), SecretKey::generate("b").unwrap());
    let roots = roots(&[("author", &author, Role::SelectorAuthor), ("approver", &approver, Role::SelectorApprover)]);
    let text = activation().text();
    let first = sign(&text, &author).unwrap();
    let both = sign(&first, &approver).unwrap();
    assert_eq!(verify(&both, &roots).unwrap(), activation());
    assert!(refusal(&text, &roots).starts_with("signatures: unsigned"));
    assert!(refusal(&first, &roots).starts_with("signatures: none by a selector-approver key"));
    // The same person again changes nothing.
    let twice = sign(&first, &author).unwrap();
    assert!(refusal(&twice, &roots).starts_with("signatures: none by a selector-approver key"));
    let by_approver = sign(&text, &approver).unwrap();
    assert!(refusal(&by_approver, &roots).starts_with("signatures: none by a selector-author key"));
    let altered = both.replace("number = 7", "number = 8");
    assert!(refusal(&altered, &roots).contains("altered"));
}

#[test]
fn an_activation_altered_by_any_bit_of_any_byte_is_refused() {
    let (author, approver) = (SecretKey::generate("a").unwrap(), SecretKey::generate("b").unwrap());
    let roots = roots(&[("author", &author, Role::SelectorAuthor), ("approver", &approver, Role::SelectorApprover)]);
    let both = sign(&sign(&activation().text(), &author).unwrap(), &approver).unwrap();
    verify(&both, &roots).unwrap();
    for at in 0..both.len() {
        for bit in 0..8 {
            let mut altered = both.clone().into_bytes();
            altered[at] ^= 1 << bit;
            let Ok(altered) = String::from_utf8(altered) else { continue };
            assert!(verify(&altered, &roots).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn one_person_with_a_key_of_each_role_is_one_person() {
    let (first, second) = (SecretKey::generate("a").unwrap(), SecretKey::generate("b").unwrap());
    let roots = roots(&[("same", &first, Role::SelectorAuthor), ("same", &second, Role::SelectorApprover)]);
    let both = sign(&sign(&activation().text(), &first).unwrap(), &second).unwrap();
    assert!(refusal(&both, &roots).contains("same person"));
}

#[test]
fn two_authors_are_no_approver() {
    let (first, second) = (SecretKey::generate("a").unwrap(), SecretKey::generate("b").unwrap());
    let roots = roots(&[("one", &first, Role::SelectorAuthor), ("two", &second, Role::SelectorAuthor)]);
    let both = sign(&sign(&activation().text(), &first).unwrap(), &second).unwrap();
    assert!(refusal(&both, &roots).starts_with("signatures: none by a selector-approver key"));
}

#[test]
fn an_activation_is_for_one_measure_order_and_set_until_its_end() {
    let (now, late) = ("2026-12-31T14:59:59.999999999Z".parse().unwrap(), "2026-12-31T15:00:00Z".parse().unwrap());
    let activation = activation();
    assert!(activation.admit("m-1", &[1; 32], &[2; 32], now).is_ok());
    for (result, field) in [
        (activation.admit("m-2", &[1; 32], &[2; 32], now), "measure: "),
        (activation.admit("m-1", &[3; 32], &[2; 32], now), "order_sha256: "),
        (activation.admit("m-1", &[1; 32], &[3; 32], now), "set_sha256: "),
        (activation.admit("m-1", &[1; 32], &[2; 32], late), "valid_until: expired"),
    ] {
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with(field), "{error}");
    }
}

#[test]
fn unknown_and_malformed_fields_are_refused_by_name() {
    let text = activation().text();
    for (from, to, named) in [
        ("number = 7", "number = 7\nforce = true", "force"),
        ("number = 7\n", "", "number"),
        ("number = 7", "number = -1", "-1"),
        ("order_sha256 = \"01", "order_sha256 = \"", "order_sha256"),
        ("set_sha256 = \"02", "set_sha256 = \"zz", "set_sha256"),
        ("2026-12-31T15:00:00Z", "tomorrow", "valid_until"),
    ] {
        let broken = text.replace(from, to);
        assert_ne!(broken, text, "{from} stands in the text");
        let error = Activation::parse_unsigned(&broken).unwrap_err().to_string();
        assert!(error.contains(named), "{named}: {error}");
    }
}
