//! `gwtap replay` as a verb: its lines, its exit codes, an order's time, sampling and cap.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test's panic is its report")]

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tap_tests::gwtap::{self, Outcome};
use tap_tests::need;
use tap_tests::oracle::RuleFile;
use tempfile::TempDir;

/// A directory with the selector set of a rule file, and the words every call begins with.
struct Bench {
    directory: TempDir,
    rules: RuleFile,
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

impl Bench {
    fn new(rules: &str) -> Self {
        let rules = RuleFile::read(&here(&format!("cases/rules/{rules}.json"))).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("set.json"), rules.set.to_string()).unwrap();
        Self { directory, rules }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn replay(&self, capture: &Path, words: &[&str]) -> Outcome {
        let capture = capture.to_str().unwrap();
        let mut all = vec!["replay", capture, "--selectors", "set.json", "--rest", "foreign"];
        let domestic: Vec<String> = self.rules.domestic.iter().map(ToString::to_string).collect();
        for prefix in &domestic {
            all.extend(["--domestic", prefix]);
        }
        all.extend(words);
        gwtap::outcome(self.directory.path(), all).unwrap()
    }

    /// Replays by the host build under the rule file's basis.
    fn by_basis(&self, capture: &str, words: &[&str]) -> Outcome {
        let basis = self.rules.basis.clone();
        self.replay(&here(&format!("pcaps/{capture}")), &[&["--host", "--basis", &basis], words].concat())
    }

    /// Writes an order of the rule file's basis; times as given.
    fn order(&self, not_before: &str, capacity: &str, sampling_ppm: &str) {
        let digest = "0".repeat(64);
        let tap = format!("{}:eth1:300000", "a".repeat(64));
        let draft = [
            "order",
            "new",
            "--measure",
            "m-laboratory",
            "--basis",
            &self.rules.basis,
            "--act",
            "a-1",
            "--not-before",
            not_before,
            "--months",
            "6",
            "--approval",
            "c-1",
            "--facility",
            "f-1",
            "--capacity",
            capacity,
            "--share-ppm",
            "300000",
            "--sampling-ppm",
            sampling_ppm,
            "--tap",
            &tap,
            "--standard",
            "s-laboratory",
            "--country-table",
            "table.csv",
            "--country-table-oldest-date",
            "2000-01-01",
            "--endpoint",
            "collector.example:4739",
            "--name",
            "collector.example",
            "--sealing-key",
            &digest,
            "--domestic-conditions",
            "--out",
            "order.toml",
        ];
        std::fs::write(self.path("table.csv"), "198.51.0.0,198.51.255.255,US\n").unwrap();
        gwtap::run(self.directory.path(), draft).unwrap();
        // A rule ends with the order at the latest.
        let set = self.rules.set.to_string().replace("2199-01-01T00:00:00Z", "2028-05-31T15:00:00Z");
        std::fs::write(self.path("set.json"), set).unwrap();
    }
}

fn lines(outcome: &Outcome) -> Vec<Value> {
    outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn verdicts(outcome: &Outcome) -> BTreeMap<String, usize> {
    let mut verdicts = BTreeMap::new();
    for line in lines(outcome) {
        *verdicts.entry(line["verdict"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    verdicts
}

#[test]
fn a_line_is_a_packet_and_says_what_there_is() {
    let bench = Bench::new("web-requests");
    let all = bench.by_basis("zeek__wikipedia.pcap", &[]);
    assert_eq!((all.code, all.stderr.as_str()), (Some(0), ""));
    let lines_of_all = lines(&all);
    assert_eq!(lines_of_all.len(), 136);
    assert!((1..).zip(&lines_of_all).all(|(number, line)| line["packet"] == json!(number)));
    let selected = bench.by_basis("zeek__wikipedia.pcap", &["--selected", "--no-sampling", "--no-cap"]);
    assert_eq!(lines(&selected).len(), bench.rules.selects["zeek__wikipedia.pcap"]);
    let first = selected.stdout.lines().next().unwrap();
    assert!(lines_of_all.contains(&serde_json::from_str(first).unwrap()));
    assert_eq!(
        first,
        "{\"packet\":6,\"verdict\":\"selected\",\"direction\":\"domestic-to-foreign\",\"rules\":[\"wikipedia\"],\
         \"ip_version\":4,\"source\":\"141.142.220.118\",\"destination\":\"208.80.152.2\",\"protocol\":6,\
         \"source_port\":35634,\"destination_port\":80,\"tcp_flags\":24,\"ip_length\":515,\"fragment\":\"none\"}"
    );
}

#[test]
fn a_torn_capture_prints_what_is_whole_and_fails() {
    let bench = Bench::new("web-requests");
    let whole = std::fs::read(here("pcaps/zeek__wikipedia.pcap")).unwrap();
    let torn = bench.path("torn.pcap");
    std::fs::write(&torn, &whole[..1_000]).unwrap();
    let outcome = bench.replay(&torn, &["--host", "--basis", &bench.rules.basis]);
    assert_eq!(outcome.code, Some(1));
    assert_eq!(lines(&outcome).len(), 5);
    assert!(outcome.stderr.contains("torn.pcap") && outcome.stderr.contains("byte 717"), "{}", outcome.stderr);
}

#[test]
fn what_is_wrong_is_told_by_the_exit_code() {
    let bench = Bench::new("web-requests");
    let capture = here("pcaps/arkime__http-xff.pcap");
    let usage = bench.replay(&capture, &["--host"]);
    assert_eq!(usage.code, Some(2), "{}", usage.stderr);
    let both = bench.replay(&capture, &["--host", "--basis", "agreement", "--order", "order.toml"]);
    assert_eq!(both.code, Some(2), "{}", both.stderr);
    let absent = bench.replay(&bench.path("nothing.pcap"), &["--host", "--basis", "foreign-to-foreign"]);
    assert_eq!(absent.code, Some(1));
    assert!(absent.stderr.contains("nothing.pcap"), "{}", absent.stderr);
    let trivial = json!({"measure": "m", "version": 1, "standard": "s", "rules": [{"id": "r1", "act": "a-1",
        "reason": "x", "valid_until": "2199-01-01T00:00:00Z", "conditions": [
            {"item": "facility-address", "field": "address", "any": ["0.0.0.0/1", "128.0.0.0/1"]},
            {"item": "aid", "field": "port", "any": ["80"]}]}]});
    std::fs::write(bench.path("set.json"), trivial.to_string()).unwrap();
    let refused = bench.replay(&capture, &["--host", "--basis", "foreign-to-foreign"]);
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(refused.stderr.contains("set.json") && refused.stderr.contains("trivial"), "{}", refused.stderr);
    assert_eq!(refused.stdout, "");
}

#[test]
fn an_order_brings_its_time() {
    let bench = Bench::new("name-servers");
    bench.order("2027-12-01T00:00:00+09:00", "10000000000", "1000000");
    let capture = here("pcaps/zeek__wikipedia.pcap");
    let words = ["--host", "--order", "order.toml"];
    let of_2011 = bench.replay(&capture, &words);
    assert_eq!(verdicts(&of_2011), BTreeMap::from([("no_lease".to_owned(), 136)]), "{}", of_2011.stderr);
    assert!(lines(&of_2011).iter().all(|line| line.get("source").is_none()));
    let selected = |now: &str| {
        let outcome = bench.replay(&capture, &[&words[..], &["--now", now, "--no-cap"]].concat());
        verdicts(&outcome).get("selected").copied().unwrap_or(0)
    };
    assert_eq!(selected("2027-11-30T14:59:59.999999999Z"), 0);
    assert_eq!(selected("2027-11-30T15:00:00Z"), 28);
    assert_eq!(selected("2028-05-31T14:59:59.999999999Z"), 28);
    assert_eq!(selected("2028-05-31T15:00:00Z"), 0);
}

#[test]
fn an_order_brings_sampling_and_cap() {
    let bench = Bench::new("name-servers");
    // Five megabits a second: a share of 30 % is 918 bytes in 5 ms, and a clock that stands still fills one epoch only.
    bench.order("2027-12-01T00:00:00+09:00", "5000000", "300000");
    let capture = here("pcaps/zeek__wikipedia.pcap");
    let verdicts = |words: &[&str]| {
        let fixed = ["--host", "--order", "order.toml", "--now", "2028-01-01T00:00:00Z"];
        verdicts(&bench.replay(&capture, &[&fixed[..], words].concat()))
    };
    let both = verdicts(&[]);
    assert!(both.contains_key("not_sampled") && both.contains_key("over_cap"), "{both:?}");
    let cap = verdicts(&["--no-sampling"]);
    assert!(!cap.contains_key("not_sampled") && cap["over_cap"] > both["over_cap"], "{cap:?}");
    let sampling = verdicts(&["--no-cap"]);
    assert!(!sampling.contains_key("over_cap") && sampling["not_sampled"] == both["not_sampled"], "{sampling:?}");
    assert_eq!(verdicts(&["--no-cap", "--no-sampling"])["selected"], 28);
}

#[test]
fn an_order_names_its_country_table() {
    let bench = Bench::new("name-servers");
    bench.order("2027-12-01T00:00:00+09:00", "10000000000", "1000000");
    std::fs::write(bench.path("other.csv"), "198.51.0.0,198.51.255.255,JP\n").unwrap();
    let capture = here("pcaps/arkime__http-xff.pcap");
    let with = |table: &str| {
        let words = [
            "replay",
            capture.to_str().unwrap(),
            "--selectors",
            "set.json",
            "--order",
            "order.toml",
            "--host",
            "--country-table",
            table,
        ];
        gwtap::outcome(bench.directory.path(), words).unwrap()
    };
    assert_eq!(with("table.csv").code, Some(0), "{}", with("table.csv").stderr);
    let other = with("other.csv");
    assert_eq!(other.code, Some(3));
    assert!(other.stderr.contains("addresses.country_table_sha256"), "{}", other.stderr);
}

/// The verb's two ways, through the whole program: the same lines, byte by byte.
#[test]
fn kernel_and_host_print_the_same() {
    if !need::root() {
        return;
    }
    let bench = Bench::new("vlan-mpls");
    for capture in ["zeek__mixed-vlan-mpls.pcap", "zeek__q-in-q.pcap", "tcpdump__tcp-handshake-nano.pcap"] {
        let kernel = bench.replay(&here(&format!("pcaps/{capture}")), &["--basis", &bench.rules.basis]);
        let host = bench.by_basis(capture, &[]);
        assert_eq!(kernel.code, Some(0), "{}", kernel.stderr);
        assert_eq!(kernel.stdout, host.stdout, "{capture}");
    }
}
