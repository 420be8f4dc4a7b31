//! What the rules refuse, through the verbs that people use: exit code 3, and a message that names the field.
// A test's helpers are part of the test: there a panic is the report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use serde_json::{Value, json};
use tap_tests::gwtap::{outcome, run};

const TABLE: &str = "1.0.0.0,1.0.0.255,AU\n1.0.16.0,1.0.31.255,JP\n";
const NOW: &str = "2027-12-15T00:00:00+09:00";

/// A folder with keys of every role, trust roots, a country table and a signed order.
struct Office(tempfile::TempDir);

impl Office {
    fn new() -> Self {
        let office = Self(tempfile::tempdir().unwrap());
        let mut roots = String::new();
        for role in ["government", "commission", "selector-author", "selector-approver"] {
            let printed = run(office.path(), ["keygen", role, "--name", role, "--out", "."]).unwrap();
            roots += printed.split_once("\n\n").unwrap().1;
        }
        run(office.path(), ["keygen", "host", "--name", "host", "--out", "."]).unwrap();
        office.write("trust.toml", &roots);
        office.write("table.csv", TABLE);
        let tap = format!("{}:eth1:300000", office.host_key());
        let words = [
            "order",
            "new",
            "--measure",
            "m-1",
            "--basis",
            "foreign-to-foreign",
            "--act",
            "a-1",
            "--not-before",
            "2027-12-01T00:00:00+09:00",
            "--months",
            "6",
            "--approval",
            "c-1",
            "--facility",
            "f-1",
            "--capacity",
            "10000000000",
            "--share-ppm",
            "300000",
            "--tap",
            &tap,
            "--standard",
            "s-1",
            "--country-table",
            "table.csv",
            "--country-table-oldest-date",
            "2027-11-01",
            "--endpoint",
            "collector.example:4739",
            "--name",
            "collector.example",
            "--sealing-key",
            "host.seal.pub",
            "--out",
            "order.toml",
        ];
        run(office.path(), words).unwrap();
        office.write("draft.toml", &office.read("order.toml"));
        office.sign("order.toml");
        office
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    fn host_key(&self) -> String {
        let public = tap_userspace::keys::PublicKey::from_file(&self.path().join("host.pub")).unwrap();
        tap_userspace::keys::HostKeyId::of(&public).to_string()
    }

    fn sign(&self, order: &str) {
        for key in ["government.key", "commission.key"] {
            run(self.path(), ["order", "sign", order, "--key", key]).unwrap();
        }
    }

    /// The verb must refuse, and say why in these words.
    fn refuses(&self, words: &[&str], says: &str) {
        let outcome = outcome(self.path(), words).unwrap();
        assert_eq!(outcome.code, Some(3), "{words:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(says), "{words:?} should say {says}: {}", outcome.stderr);
    }

    fn write_set(&self, name: &str, conditions: Value) {
        let rule = json!({
            "id": "r1", "act": "a-1", "reason": "why", "valid_until": "2028-01-01T00:00:00+09:00",
            "conditions": conditions,
        });
        let set = json!({"measure": "m-1", "version": 1, "standard": "s-1", "rules": [rule]});
        self.write(name, &set.to_string());
    }
}

fn address(any: &[&str]) -> Value {
    json!({"item": "facility-address", "field": "source-address", "any": any})
}

fn port() -> Value {
    json!({"item": "aid", "field": "destination-port", "any": ["443"]})
}

#[test]
fn an_order_is_accepted_by_its_host_and_refused_by_field() {
    let office = Office::new();
    let host = office.host_key();
    let check = ["order", "check", "order.toml", "--trust", "trust.toml"];
    let at = |now: &'static str| [&check[..], &["--now", now]].concat();
    let on = |host: &str, interface: &str, table: &str| -> Vec<String> {
        let more = ["--now", NOW, "--host-key", host, "--interface", interface, "--country-table", table];
        check.iter().chain(&more).map(|word| (*word).to_owned()).collect()
    };
    run(office.path(), on(&host, "eth1", "table.csv")).unwrap();

    office.refuses(&at("2027-11-30T23:59:59+09:00"), "measure.not_before: not yet valid");
    office.refuses(&at("2028-06-01T00:00:00+09:00"), "measure.not_after: expired");
    office.write("other.csv", "1.0.0.0,1.0.0.255,AU\n");
    let other_host = "00".repeat(32);
    for (words, says) in [
        (on(&other_host, "eth1", "table.csv"), "facility.tap.host_key: no entry for this host"),
        (on(&host, "eth2", "table.csv"), "facility.tap.interface: "),
        (on(&host, "eth1", "other.csv"), "addresses.country_table_sha256: "),
    ] {
        office.refuses(&words.iter().map(String::as_str).collect::<Vec<_>>(), says);
    }
    office.refuses(&["order", "check", "draft.toml", "--trust", "trust.toml"], "signatures: unsigned");
    run(office.path(), ["order", "sign", "draft.toml", "--key", "government.key", "--out", "half.toml"]).unwrap();
    office.refuses(&["order", "check", "half.toml", "--trust", "trust.toml"], "signatures: none by a commission key");
    office.write("altered.toml", &office.read("order.toml").replace("10000000000", "10000000001"));
    office.refuses(&["order", "check", "altered.toml", "--trust", "trust.toml"], "signatures: ");
}

#[test]
fn what_breaks_a_rule_is_not_even_signed() {
    let office = Office::new();
    let draft = office.read("draft.toml");
    for (from, to, says) in [
        ("share_ppm = 300000", "share_ppm = 300001", "facility.share_ppm: 300001 is over the 300000"),
        ("2028-06-01T00:00:00+09:00", "2028-06-01T00:00:01+09:00", "measure.not_after: over the 6 calendar months"),
        ("[facility]", "[facility]\ncolour = 1", "facility.colour: unknown field"),
        (
            "[approval.conditions]",
            "[approval.conditions]\nat_night = true",
            "approval.conditions.at_night: unknown field",
        ),
    ] {
        let broken = draft.replacen(from, to, 1);
        assert_ne!(broken, draft, "{from} stands in the draft");
        office.write("broken.toml", &broken);
        office.refuses(&["order", "sign", "broken.toml", "--key", "government.key"], says);
        office.refuses(&["order", "check", "broken.toml", "--draft"], says);
        assert_eq!(office.read("broken.toml"), broken, "nothing is written");
    }
}

#[test]
fn sets_that_select_too_much_are_refused_by_rule_condition_and_field() {
    let office = Office::new();
    let check = ["selectors", "check", "set.json", "--order", "order.toml"];
    office.write_set("set.json", json!([address(&["1.0.0.0/24"]), port()]));
    run(office.path(), check).unwrap();
    for (conditions, says) in [
        (json!([address(&["1.0.0.0/24"])]), "rule \"r1\": conditions: 1 counted condition(s), 2 needed"),
        (json!([address(&["0.0.0.0/0"]), port()]), "conditions[0] (source-address): does not count, it is trivial"),
        (
            json!([port(), address(&["0.0.0.0/1", "128.0.0.0/1"])]),
            "conditions[1] (source-address): does not count, it is trivial",
        ),
    ] {
        office.write_set("set.json", conditions);
        office.refuses(&check, says);
        office.refuses(&["selectors", "check", "set.json", "--basis", "foreign-to-foreign"], says);
    }
    office.write_set("set.json", json!([address(&["1.0.0.0/24"]), port()]));
    office.write("set.json", &office.read("set.json").replace("m-1", "m-2"));
    office.refuses(&check, "measure: \"m-2\" is another measure");
}

#[test]
fn an_activation_takes_two_persons_and_one_set() {
    let office = Office::new();
    office.write_set("set.json", json!([address(&["1.0.0.0/24"]), port()]));
    let activate = |set: &'static str, key: &'static str, more: &[&'static str]| {
        let words = ["selectors", "activate", set, "--order", "order.toml", "--key", key, "--out", "a.note"];
        [&words[..], more].concat()
    };
    office.refuses(&activate("set.json", "selector-author.key", &[]), "--number is needed");
    let beyond = ["--number", "1", "--valid-until", "2028-06-01T00:00:01+09:00"];
    office.refuses(&activate("set.json", "selector-author.key", &beyond), "valid_until: ");
    run(office.path(), activate("set.json", "selector-author.key", &["--number", "1"])).unwrap();
    office.refuses(&activate("set.json", "selector-author.key", &[]), "has signed already");
    office.refuses(&activate("set.json", "selector-approver.key", &["--number", "2"]), "number: the note says 1");
    office.write_set("other.json", json!([address(&["1.0.0.0/25"]), port()]));
    office.refuses(&activate("other.json", "selector-approver.key", &[]), "set_sha256: ");
    let roots = tap_userspace::keys::TrustRoots::from_toml(&office.read("trust.toml")).unwrap();
    let verify = || tap_userspace::selectors::activation::verify(&office.read("a.note"), &roots);
    assert!(verify().unwrap_err().to_string().contains("selector-approver"));
    run(office.path(), activate("set.json", "selector-approver.key", &[])).unwrap();
    assert_eq!(verify().unwrap().number, 1);
}
