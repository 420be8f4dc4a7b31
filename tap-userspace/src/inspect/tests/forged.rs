//! Bundles whose manifest is right because whoever forged them holds the host's key: the log, the other signatures and what
//! the inspector kept still tell.

use super::fixture::{Host, again};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::{Leaf, Log};
use crate::directive::Kind as DirectiveKind;
use crate::inspect::container::Files;
use crate::inspect::verify;
use crate::keys::{Role, SecretKey, note::sign, sha256};
use crate::run::documents::{Kind, file_name};

/// What is said of the bundle of a host's files after a change, signed again by the host.
fn said(host: &Host, change: impl FnOnce(&mut Files)) -> String {
    let mut files = host.files();
    change(&mut files);
    let report = host.verify(&host.resealed(files));
    assert!(!report.good, "{report}");
    report.findings.iter().map(|finding| format!("{finding}\n")).collect()
}

fn first(files: &Files, prefix: &str) -> String {
    files.keys().find(|name| name.starts_with(prefix)).unwrap().clone()
}

#[test]
fn what_the_log_names_and_is_not_there_is_named() {
    let host = Host::told();
    for (prefix, words) in [
        ("documents/order", "of measure m-1 is not in the bundle: removed"),
        ("documents/activation", "of measure m-1 is not in the bundle: removed"),
        ("documents/directive", "directive 1 of measure m-1 is not in the bundle: removed"),
        ("statements/measure-m-1/00000003", "names a statement of measure-m-1"),
        ("statements/measure-m-1/00000002", "its number is 3, 2 is missing"),
        ("log/checkpoint", "log/checkpoint: is missing: removed"),
        ("log/tile/entries", "is missing: removed"),
        ("log/tile/0", "is missing: removed"),
    ] {
        let said = said(&host, |files| drop(files.remove(&first(files, prefix))));
        assert!(said.contains(words), "{prefix}: {said}");
    }
}

#[test]
fn what_the_log_does_not_name_is_named() {
    let host = Host::told();
    for note in [host.order_note("m-2", None, &host.host_id()), host.order_note("m-1", None, &"0".repeat(64))] {
        let name = format!("documents/{}", file_name(Kind::Order, &note));
        let said = said(&host, |files| drop(files.insert(name.clone(), note.into_bytes())));
        assert!(said.contains(&format!("{name}: no entry of the log speaks of it: added")), "{said}");
    }
    let mut longer = host.copy();
    longer.tell();
    let other = longer.files();
    let name = "statements/measure-m-1/00000004.note";
    let added = said(&host, |files| {
        files.insert(name.to_owned(), other["statements/measure-m-1/00000003.note"].clone());
    });
    assert!(
        added.contains(&format!("{name}: its number is 3")) && added.contains("no entry of the log names it"),
        "{added}"
    );
    let strange = said(&host, |files| drop(files.insert("more/x.note".to_owned(), b"x".to_vec())));
    assert!(strange.contains("more/x.note: has no place in a bundle: added"), "{strange}");
    let set = said(&host, |files| drop(files.insert(format!("sets/{}.json", "0".repeat(64)), b"{}".to_vec())));
    assert!(set.contains("no activation in the bundle consents to it"), "{set}");
}

#[test]
fn what_is_altered_reordered_or_of_another_measure_is_named() {
    let host = Host::told();
    let chain = |number| format!("statements/measure-m-1/0000000{number}.note");
    let reordered = said(&host, |files| {
        let (one, two) = (files[&chain(1)].clone(), files[&chain(2)].clone());
        files.extend([(chain(1), two), (chain(2), one)]);
    });
    assert!(reordered.contains("is number 2 under another's name: reordered"), "{reordered}");
    let foreign = said(&host, |files| {
        let facility = files["statements/facility/00000001.note"].clone();
        files.insert(chain(1), facility);
    });
    assert!(foreign.contains(&format!("{}: is a statement of facility: of another measure", chain(1))), "{foreign}");
    let altered = said(&host, |files| {
        let text = String::from_utf8(files[&chain(2)].clone())
            .unwrap()
            .replace("\"limit_ppm\": 300000", "\"limit_ppm\": 200000");
        files.insert(chain(2), text.into_bytes());
    });
    assert!(altered.contains(&format!("{}: signature of mirror-1", chain(2))), "{altered}");
    let entry = said(&host, |files| {
        let name = first(files, "log/tile/entries");
        let bytes = files.get_mut(&name).unwrap();
        let at = bytes.windows(7).position(|window| window == b"SIGTERM").unwrap();
        bytes[at] ^= 1;
    });
    let last = host.head().size - 1;
    assert!(entry.contains(&format!("entry {last}: is not the one that was logged: altered")), "{entry}");
}

#[test]
fn a_document_of_another_host_or_order_is_named_though_the_log_has_it() {
    let mut host = Host::told();
    host.order("m-1", None, &"0".repeat(64));
    let of_other = said(&host, |_| ());
    assert!(of_other.contains("names other hosts, not this one: of another host"), "{of_other}");
    let mut host = Host::told();
    host.say(Leaf::Start {
        version: "0".into(),
        host_key: "0".repeat(64),
        machine_sha256: String::new(),
        boot: String::new(),
    });
    assert!(said(&host, |_| ()).contains("started: of another host"));
    let mut host = Host::told();
    host.directive(1, DirectiveKind::Stop);
    assert!(said(&host, |_| ()).contains("its number is not above the one before: replayed"));
}

#[test]
fn a_lease_that_nothing_allowed_is_named() {
    let given = || Leaf::LeaseGiven { measure: "m-1".into() };
    let mut host = Host::told();
    host.directive(2, DirectiveKind::Stop);
    host.say(given());
    assert!(said(&host, |_| ()).contains("that a directive of the Commission had stopped"));
    let mut host = Host::told();
    host.say(Leaf::KillSwitch { measure: None, reason: "r".into() });
    host.say(given());
    assert!(said(&host, |_| ()).contains("that the carrier's kill switch had stopped"));
    let mut host = Host::told();
    host.directive(2, DirectiveKind::Shorten("2026-11-30T15:00:00Z".parse().unwrap()));
    host.say(given());
    assert!(said(&host, |_| ()).contains("that a directive had ended at"));
    let mut host = Host::told();
    host.say(Leaf::LeaseGiven { measure: "m-2".into() });
    assert!(said(&host, |_| ()).contains("that no order was loaded for"));
}

#[test]
fn a_statement_above_the_limit_and_one_that_does_not_add_up_are_named() {
    let mut host = Host::told();
    host.state(true, 101);
    assert!(said(&host, |_| ()).contains("00000004.note: more was admitted than allowed"));
    // The limit before the directive, in a statement that begins after it.
    let mut host = Host::told();
    host.limit_ppm = 100_001;
    host.state(true, 1);
    let above = said(&host, |_| ());
    assert!(above.contains("measure-m-1/00000004.note: its limit, 100001 ppm, is above"), "{above}");
}

#[test]
fn a_log_that_was_set_back_is_named_by_what_was_seen_before_and_by_its_own_statements() {
    let mut host = Host::new();
    host.begin("boot-1", "machine-1");
    let kept = host.files();
    let early = host.bundle();
    host.tell();
    // Back to the beginning, with everything: only what the inspector saw later tells.
    let late = (String::from("seen"), host.checkpoint());
    let report = verify::verify(&early, &host.keys(), std::slice::from_ref(&late));
    assert!(report.to_string().contains("seen: the log had"), "{report}");
    assert!(report.to_string().contains("set back"), "{report}");
    assert!(verify::verify(&host.bundle(), &host.keys(), &[late]).good);
    assert!(
        verify::verify(&host.bundle(), &host.keys(), &[("early".into(), verify::checkpoint(&early).unwrap())]).good
    );
    // The log alone: its statements tell.
    let set_back = said(&host, |files| {
        files.retain(|name, _| !name.starts_with("log/"));
        files.extend(kept.into_iter().filter(|(name, _)| name.starts_with("log/")));
    });
    assert!(set_back.contains("no entry of the log names it: added, or the log was set back"), "{set_back}");
}

#[test]
fn a_checkpoint_of_another_origin_by_the_same_key_is_named() {
    let host = Host::told();
    let other = Checkpoint { origin: "mirror-2.log".into(), ..host.head() }.sign(&host.log_key).unwrap();
    let said = said(&host, |files| drop(files.insert("log/checkpoint".to_owned(), other.clone().into_bytes())));
    assert!(said.contains("log/checkpoint: is of the log mirror-2.log, not of mirror-1.log"), "{said}");
    let report = verify::verify(&host.bundle(), &host.keys(), &[("seen".into(), other)]).to_string();
    assert!(report.contains("is of the log mirror-2.log"), "{report}");
}

#[test]
fn a_host_key_that_was_copied_to_a_second_host_is_shown() {
    let host = Host::told();
    // The second host has the keys and a log of its own: what anybody saw of one does not fit the other.
    let mut second = host.copy();
    second.begin("boot-2", "machine-2");
    second.tell();
    assert!(second.verify(&second.bundle()).good, "alone it cannot be told");
    let seen = [("the other host's".to_owned(), host.checkpoint())];
    let report = verify::verify(&second.bundle(), &second.keys(), &seen).to_string();
    assert!(report.contains("two logs under one key") && report.contains("second host"), "{report}");
    // A witness that both ask shows it too: it cosigned the one and has the other's checkpoint in its hand.
    let mut sources = second.sources();
    let cosigned = second.directory.path().join("cosigned.note");
    std::fs::write(&cosigned, host.cosigned()).unwrap();
    sources.cosigned = vec![cosigned];
    let report = second.verify(&crate::inspect::collect::collect(&sources).unwrap()).to_string();
    assert!(report.contains("two logs under one key"), "{report}");
    // Both write one log in turn (its directory is copied to and fro): the boots tell.
    let mut shared = Host::new();
    shared.begin("boot-1", "machine-1");
    shared.begin("boot-2", "machine-2");
    assert!(shared.verify(&shared.bundle()).good, "a host may be replaced");
    shared.begin("boot-1", "machine-1");
    let report = shared.verify(&shared.bundle()).to_string();
    assert!(report.contains("two machines with one host key, a copied key"), "{report}");
}

#[test]
fn a_notice_that_is_left_out_altered_or_nobodys_is_named() {
    let host = Host::told();
    let sender = SecretKey::generate("facility").unwrap();
    let notice = |number: u64, previous: &str, key: &SecretKey| {
        let text = format!("{{\"number\": {number}, \"previous_sha256\": \"{previous}\", \"measure\": \"m-1\"}}\n");
        sign(&text, key).unwrap().into_bytes()
    };
    let digest = |note: &[u8]| hex::encode(sha256(note));
    let one = notice(1, "", &sender);
    let two = notice(2, &digest(&one), &sender);
    let three = notice(3, &digest(&two), &sender);
    let mut keys = host.keys();
    keys.public.push(sender.public());
    let judge = |notices: &[&[u8]]| {
        let mut files = host.files();
        for (index, note) in notices.iter().enumerate() {
            let ending = if String::from_utf8_lossy(note).contains("notice_sha256") { "ack" } else { "note" };
            files.insert(format!("notices/{index}.{ending}"), note.to_vec());
        }
        let report = verify::verify(&host.resealed(files), &keys, &[]);
        (report.good, report.to_string())
    };
    let (good, said) = judge(&[&one, &two, &three]);
    assert!(good && said.contains("3 to the Commission by facility") && said.contains("3 about measure m-1"), "{said}");
    let answer =
        |digest: &str, role| host.signed(&format!("{{\"notice_sha256\": \"{digest}\"}}\n"), &[role]).into_bytes();
    let (good, said) = judge(&[&one, &two, &answer(&digest(&one), Role::Commission)]);
    assert!(good && said.contains("numbered from 1; 1 acknowledged"), "{said}");
    let not_the_commission = answer(&digest(&one), Role::Government);
    let of_another = answer(&digest(b"another"), Role::Commission);
    let other = notice(2, &"0".repeat(64), &sender);
    let stranger = notice(2, &digest(&one), &SecretKey::generate("facility").unwrap());
    for (notices, words) in [
        (vec![&one[..], &three], "notices/1.note: its number is 3, 2 is missing: removed"),
        (vec![&two[..], &three], "notices/0.note: its number is 2, 1 is missing: removed"),
        (vec![&one[..], &other, &three], "notices/1.note: the notice before it is not the one it names"),
        (vec![&one[..], &stranger], "notices/1.note: no signature of a key that was named fits"),
        (vec![&one[..], &two, &not_the_commission], "notices/2.ack: no signature of the Commission's fits"),
        (vec![&one[..], &two, &of_another], "was acknowledged and is not in the bundle: removed or altered"),
        (vec![&one[..], &two, &two], "notices/2.note: number 2 is there twice: added"),
    ] {
        let (good, said) = judge(&notices);
        assert!(!good && said.contains(words), "{words}: {said}");
    }
}

#[test]
fn a_log_written_anew_is_shown_to_whoever_saw_the_old_one() {
    let host = Host::told();
    let old = host.checkpoint();
    let directory = host.directory.path().join("log");
    std::fs::remove_dir_all(&directory).unwrap();
    let log = Log::open(&directory, again(&host.log_key)).unwrap();
    for _ in 0..100 {
        log.append_at(1_800_000_000_000_000_000, &Leaf::StartRefused).unwrap();
    }
    let report = verify::verify(&host.bundle(), &host.keys(), &[("seen".into(), old)]).to_string();
    assert!(report.contains("written anew"), "{report}");
}
