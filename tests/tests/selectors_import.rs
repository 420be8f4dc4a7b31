//! Indicator files of public collections through `gwtap selectors import`: the counts agree with a script that shares nothing
//! with the product; exit codes say whether everything is in the set; nothing that is printed holds a value.
// A test's helpers are part of the test: there a panic is the report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tap_tests::gwtap::{Outcome, outcome, run};
use tap_tests::need;

fn indicators() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("indicators")
}

/// A folder with a draft of an order.
struct Office(tempfile::TempDir);

impl Office {
    fn new() -> Self {
        let office = Self(tempfile::tempdir().unwrap());
        run(office.path(), ["keygen", "host", "--name", "host", "--out", "."]).unwrap();
        office.write("table.csv", b"1.0.0.0,1.0.0.255,AU\n1.0.16.0,1.0.31.255,JP\n");
        let public = tap_userspace::keys::PublicKey::from_file(&office.path().join("host.pub")).unwrap();
        let tap = format!("{}:eth1:300000", tap_userspace::keys::HostKeyId::of(&public));
        let today = jiff::Timestamp::now().strftime("%Y-%m-%dT00:00:00Z").to_string();
        let words = "order new --measure m-1 --basis foreign-to-foreign --act a-1 --months 6 --approval c-1 --facility f-1 \
            --capacity 10000000000 --share-ppm 300000 --standard s-1 --country-table table.csv \
            --country-table-oldest-date 2026-11-01 --endpoint collector.example:4739 --name collector.example \
            --sealing-key host.seal.pub --out order.toml";
        let words = words.split_ascii_whitespace().chain(["--not-before", &today, "--tap", &tap]);
        run(office.path(), words.collect::<Vec<_>>()).unwrap();
        office
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path().join(name), bytes).unwrap();
    }

    fn import(&self, words: &[&str]) -> Outcome {
        let fixed = [
            "selectors",
            "import",
            "--order",
            "order.toml",
            "--reason",
            "request 17",
            "--set-version",
            "3",
            "--out",
            "set.json",
        ];
        outcome(self.path(), fixed.into_iter().chain(words.iter().copied())).unwrap()
    }

    fn has_set(&self) -> bool {
        self.path().join("set.json").exists()
    }
}

fn warning_lists() -> Vec<PathBuf> {
    ["cloudflare", "fastly", "public-dns-v6"]
        .map(|name| indicators().join(format!("warning-lists/{name}.json")))
        .to_vec()
}

#[test]
fn counts_of_public_collections_agree_with_an_independent_script() {
    let Some(python) = need::tool("python3") else { return };
    let office = Office::new();
    let lists = warning_lists();
    let mut loaded = 0;
    for (kind, file) in [
        ("stix", "apt1"),
        ("stix", "poisonivy"),
        ("stix", "indicator-for-c2-ip-address"),
        ("stix", "indicators-for-c2-stix-2.0"),
        ("misp", "event-ports"),
        ("misp", "event-addresses"),
        ("misp", "existing-event"),
    ] {
        let path = indicators().join(format!("{kind}/{file}.json"));
        let counted = Command::new(&python)
            .arg(indicators().join("count.py"))
            .args([Path::new(kind), &path])
            .args(&lists)
            .output()
            .unwrap();
        assert!(counted.status.success(), "{file}: {}", String::from_utf8_lossy(&counted.stderr));
        let counted: Value = serde_json::from_slice(&counted.stdout).unwrap();

        let mut words = vec![path.to_str().unwrap(), "--json", "--partial", "--and", "destination-port=443"];
        for list in &lists {
            words.extend(["--warning-list", list.to_str().unwrap()]);
        }
        let imported = office.import(&words);
        let report: Value = serde_json::from_str(&imported.stdout).unwrap_or_else(|_| panic!("{file}: {imported:?}"));
        let source = &report["sources"][0];
        assert_eq!(source["format"], kind);
        for key in ["read", "loaded", "merged", "held", "refused"] {
            assert_eq!(source[key], counted[key], "{file}: {key} of {source} and {counted}");
        }
        loaded += source["loaded"].as_u64().unwrap();
        let code = match (source["loaded"].as_u64().unwrap(), report["partial"].as_bool().unwrap()) {
            (0, _) => 3,
            (_, true) => 4,
            (_, false) => 0,
        };
        assert_eq!(imported.code, Some(code), "{file}");
    }
    assert!(loaded > 100, "{loaded} entries loaded of all files: the comparison says little");
}

#[test]
fn a_part_is_written_only_where_it_is_asked_for() {
    let office = Office::new();
    office.write("feed.txt", b"9.9.9.9\n8.8.8.8\ncanary-value\n");
    office.write("own.txt", b"8.8.8.0/24\n");
    let words = ["feed.txt", "--and", "destination-port=443", "--own-networks", "own.txt"];
    let refused = office.import(&words);
    assert_eq!((refused.code, office.has_set()), (Some(3), false), "{refused:?}");
    assert!(refused.stdout.contains("3 read: 1 loaded, 0 merged, 1 held back, 1 refused"), "{refused:?}");
    assert!(refused.stdout.contains("line 3") && refused.stdout.contains("nothing was written"), "{refused:?}");

    let partial = office.import(&[&words[..], &["--partial"]].concat());
    assert_eq!((partial.code, office.has_set()), (Some(4), true), "{partial:?}");
    for said in [&refused, &partial] {
        let said = format!("{}{}", said.stdout, said.stderr);
        assert!(!said.contains("9.9.9") && !said.contains("8.8.8") && !said.contains("canary"), "{said}");
    }

    office.write("feed.txt", b"9.9.9.9\n8.8.8.8\n");
    let words_of_a_person =
        json!([{"entry": "8.8.8.8", "list": "own networks", "reason": "taken over", "by": "author"}]);
    office.write("overrides.json", words_of_a_person.to_string().as_bytes());
    let whole = office.import(&[&words[..], &["--overrides", "overrides.json"]].concat());
    assert_eq!(whole.code, Some(0), "{whole:?}");
    let checked = run(office.path(), ["selectors", "check", "set.json", "--order", "order.toml"]).unwrap();
    assert!(checked.contains("i1: counted address, port"), "{checked}");
    let set: Value = serde_json::from_slice(&std::fs::read(office.path().join("set.json")).unwrap()).unwrap();
    assert_eq!(set["provenance"]["overrides"][0]["reason"], "taken over");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(office.path().join("set.json")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o077, 0, "a set is for its author alone");
}

#[test]
fn an_earlier_version_is_listed_compared_and_activated_again() {
    let office = Office::new();
    std::fs::create_dir(office.path().join("sets")).unwrap();
    for (name, feed) in [("one", "9.9.9.9\n8.8.8.8\n"), ("two", "8.8.8.8\n1.1.1.1\n4.4.4.4\n")] {
        office.write("feed.txt", feed.as_bytes());
        let imported = office.import(&["feed.txt", "--and", "destination-port=443"]);
        assert_eq!(imported.code, Some(0), "{imported:?}");
        std::fs::rename(office.path().join("set.json"), office.path().join(format!("sets/{name}.json"))).unwrap();
    }
    let listed = run(office.path(), ["selectors", "list", "sets", "--json"]).unwrap();
    let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&listed[0]["indicators"], &listed[1]["indicators"]), (&json!(2), &json!(3)));
    let words = ["selectors", "diff", "sets/one.json", "sets/two.json", "--json"];
    let compared: Value = serde_json::from_str(&run(office.path(), words).unwrap()).unwrap();
    assert_eq!((&compared["added"], &compared["removed"], &compared["kept"]), (&json!(2), &json!(1), &json!(1)));
    assert_eq!(compared["first"], listed[0]["set"]);

    run(office.path(), ["keygen", "selector-author", "--name", "author", "--out", "."]).unwrap();
    let back = |to: &str| {
        let words = ["selectors", "rollback", "sets", "--to", to, "--order", "order.toml", "--number", "9"];
        outcome(office.path(), words.into_iter().chain(["--key", "author.key", "--out", "activation-9.note"])).unwrap()
    };
    let digest = listed[0]["set"].as_str().unwrap();
    for wrong in ["0123456789abcdef", &digest[..7], "not a digest"] {
        let refused = back(wrong);
        assert_eq!(refused.code, Some(3), "{wrong}: {refused:?}");
        assert!(!office.path().join("activation-9.note").exists());
    }
    let rolled = back(&digest[..8]);
    assert_eq!(rolled.code, Some(0), "{rolled:?}");
    let note = std::fs::read_to_string(office.path().join("activation-9.note")).unwrap();
    assert!(note.contains(digest) && note.contains("number = 9"), "{note}");
}

/// A million lines: everything is accounted for, and how long it takes.
#[test]
fn a_million_indicators_are_imported() {
    if !need::long() {
        return;
    }
    let office = Office::new();
    let mut text = String::new();
    for number in 0..1_000_000_u32 {
        let address = std::net::Ipv4Addr::from(0x1800_0000 + number * 13);
        text += &format!("{address}\n");
    }
    office.write("feed.txt", text.as_bytes());
    let begun = std::time::Instant::now();
    let imported = office.import(&["feed.txt", "--and", "destination-port=443", "--json"]);
    println!("a million entries imported in {:?}", begun.elapsed());
    let report: Value = serde_json::from_str(&imported.stdout).unwrap();
    let source = &report["sources"][0];
    assert_eq!(
        (imported.code, &source["loaded"], &report["rules"]),
        (Some(0), &json!(1_000_000), &json!(1)),
        "{report}"
    );
}
