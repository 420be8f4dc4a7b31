//! Bundles that hold, and what is said of every kind that does not.

mod fixture;
mod forged;

use super::container::{self, Files, MANIFEST};
use super::verify;
use crate::inspect::Keys;
use crate::inspect::collect::{collect, write};
use fixture::{Host, SET};
use proptest::prelude::*;
use std::sync::OnceLock;

/// One host and its bundle for the tests that only look.
fn told() -> &'static (Host, Vec<u8>) {
    static TOLD: OnceLock<(Host, Vec<u8>)> = OnceLock::new();
    TOLD.get_or_init(|| {
        let host = Host::told();
        let bundle = host.bundle();
        (host, bundle)
    })
}

#[test]
fn a_bundle_shows_who_ordered_who_consented_what_was_directed_and_what_was_admitted() {
    let host = Host::told();
    let cosigned = host.directory.path().join("cosigned.note");
    std::fs::write(&cosigned, host.cosigned()).unwrap();
    let set = host.directory.path().join("set.json");
    std::fs::write(&set, SET).unwrap();
    let mut sources = host.sources();
    (sources.cosigned, sources.sets) = (vec![cosigned], vec![set]);
    let report = host.verify(&collect(&sources).unwrap());
    assert!(report.good, "{report}");
    let measure = &report.measures[0];
    assert_eq!((measure.orders.len(), measure.activations.len(), measure.directives.len()), (2, 2, 1));
    assert_eq!(measure.orders[0].signed_by, ["government (government)", "commission (commission)"]);
    assert_eq!(measure.directives[0].after_ms, 1_000);
    assert!(measure.activations.iter().all(|activation| activation.set_in_bundle));
    assert_eq!(measure.switches.iter().map(|switch| switch.thrown).collect::<Vec<_>>(), [true, false]);
    let chain = &report.statements[1];
    assert_eq!((chain.of.as_str(), chain.statements, chain.most_ppm), ("measure-m-1", 3, [Some(200_000), None, None]));
    assert_eq!(report.log.witnessed.len(), 1);
    assert_eq!(report.log.entries, host.head().size);
    let text = report.to_string();
    for words in [
        "THE BUNDLE HOLDS",
        "signed by government (government), commission (commission)",
        "most in any second or longer: 20.0000 % of the capacity",
        "witness saw at 2027-01-15",
        "1000 ms later",
        "What a bundle cannot show",
    ] {
        assert!(text.contains(words), "{words} is not in\n{text}");
    }
    // The log in it is one for every tool that reads the format.
    let months: Vec<_> = report.months.iter().map(|it| (it.of.as_str(), it.month.as_str(), it.statements)).collect();
    let facility = [("facility", "2026-11", 1), ("facility", "2026-12", 2)];
    assert_eq!(months, [facility, facility.map(|(_, month, statements)| ("measure-m-1", month, statements))].concat());
}

#[test]
fn the_same_input_makes_the_same_bytes_and_a_file_that_is_there_is_never_replaced() {
    let (host, bundle) = told();
    assert_eq!(host.bundle(), *bundle);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bundle.tar");
    write(&path, bundle).unwrap();
    let error = write(&path, b"other").unwrap_err().to_string();
    assert!(error.contains("bundle.tar"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), *bundle);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
    // Whoever has tar has the parts.
    assert_eq!(tar::Archive::new(bundle.as_slice()).entries().unwrap().count(), container::read(bundle).unwrap().len());
}

#[test]
fn every_byte_of_a_bundle_that_is_flipped_is_noticed() {
    let (host, bundle) = told();
    let keys = host.keys();
    for at in 0..bundle.len() {
        let mut altered = bundle.clone();
        altered[at] ^= 1 << (at % 8);
        let report = verify::verify(&altered, &keys, &[]);
        assert!(!report.good && !report.findings[0].part.is_empty(), "byte {at} of {}", bundle.len());
    }
}

#[test]
fn a_bundle_that_is_cut_off_or_goes_on_is_noticed() {
    let (host, bundle) = told();
    let keys = host.keys();
    for length in (0..bundle.len()).step_by(97) {
        assert!(!verify::verify(&bundle[..length], &keys, &[]).good, "cut to {length}");
    }
    for more in [&b"\0"[..], &[0; 512], b"x"] {
        assert!(!verify::verify(&[bundle.as_slice(), more].concat(), &keys, &[]).good);
    }
}

/// The findings of these entries without the host's word for them.
fn unsigned(change: impl FnOnce(&mut Files)) -> String {
    let (host, bundle) = told();
    let mut files = container::read(bundle).unwrap();
    change(&mut files);
    host.verify(&container::write(&files).unwrap()).to_string()
}

/// The first name that begins with `prefix`.
fn first(files: &Files, prefix: &str) -> String {
    files.keys().find(|name| name.starts_with(prefix)).unwrap().clone()
}

#[test]
fn an_entry_that_is_removed_added_altered_or_moved_is_named() {
    for prefix in ["documents/order", "documents/activation", "documents/directive", "statements/", "log/", "keys/"] {
        let mut name = String::new();
        let removed = unsigned(|files| {
            name = first(files, prefix);
            files.remove(&name);
        });
        assert!(removed.contains(&format!("{name}: is missing: removed")), "{removed}");
        let altered = unsigned(|files| files.get_mut(&name).unwrap().push(b'\n'));
        assert!(altered.contains(&format!("{name}: is not the one that the host signed for: altered")), "{altered}");
        let added = unsigned(|files| drop(files.insert(format!("{prefix}x.note"), b"x".to_vec())));
        assert!(added.contains("x.note: is not among what the host signed for: added"), "{added}");
    }
    let gone = unsigned(|files| drop(files.remove(MANIFEST)));
    assert!(gone.contains("reordered") || gone.contains("removed"), "{gone}");
    // The same entries in another order.
    let (host, bundle) = told();
    let files = container::read(bundle).unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    for name in [MANIFEST].into_iter().chain(files.keys().map(String::as_str).filter(|it| *it != MANIFEST).rev()) {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_size(files[name].len() as u64);
        archive.append_data(&mut header, name, files[name].as_slice()).unwrap();
    }
    let moved = host.verify(&archive.into_inner().unwrap()).to_string();
    assert!(moved.contains("reordered"), "{moved}");
}

#[test]
fn nobodys_bundle_is_said_to_hold() {
    let (host, bundle) = told();
    for public in [vec![], vec![host.log_key.public()], vec![host.host.public()]] {
        assert!(!verify::verify(bundle, &Keys { public, ..host.keys() }, &[]).good);
    }
    let other = Host::new();
    let report = verify::verify(bundle, &Keys { roots: other.keys().roots, ..host.keys() }, &[]).to_string();
    assert!(report.contains("signatures: none by a government key"), "{report}");
    assert!(report.contains("keys/roots.toml: the host trusts government as government"), "{report}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_done_to_a_bundle_it_is_noticed_and_nothing_panics(
        at in any::<prop::sample::Index>(),
        length in 0_usize..2_000,
        with in prop::collection::vec(any::<u8>(), 0..1_000),
    ) {
        let (host, bundle) = told();
        let at = at.index(bundle.len());
        let end = (at + length).min(bundle.len());
        let altered = [&bundle[..at], &with, &bundle[end..]].concat();
        prop_assert_eq!(host.verify(&altered).good, altered == *bundle);
    }

    #[test]
    fn no_garbage_holds(garbage in prop::collection::vec(any::<u8>(), 0..4_096)) {
        let (host, _) = told();
        prop_assert!(!host.verify(&garbage).good);
    }

    /// Also when whoever holds the host's key signs for it.
    #[test]
    fn an_entry_replaced_by_anything_is_noticed_though_the_host_signs(
        which in any::<prop::sample::Index>(),
        with in prop::collection::vec(any::<u8>(), 0..500),
    ) {
        let (host, bundle) = told();
        let mut files = container::read(bundle).unwrap();
        files.retain(|name, _| name != MANIFEST && name != "SHA256SUMS");
        let name = which.get(&files.keys().cloned().collect::<Vec<_>>()).clone();
        prop_assume!(files[&name] != with);
        files.insert(name.clone(), with);
        let report = host.verify(&host.resealed(files));
        prop_assert!(!report.good, "{} was replaced", name);
    }
}
