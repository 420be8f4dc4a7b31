//! `gwtap explain`: it says what `replay` says, names the condition that failed first, and refuses what it cannot read.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test's panic is its report")]

use serde_json::Value;
use std::path::{Path, PathBuf};
use tap_tests::gwtap::{self, Outcome};
use tap_tests::oracle::RuleFile;
use tap_tests::world::WorldFile;
use tap_userspace::laboratory::capture::Capture;
use tap_userspace::laboratory::explain::explain;
use tap_userspace::laboratory::line::Line;
use tap_userspace::load::{HostWorld, Laboratory as _};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// For every packet of every capture: the verdict is `replay`'s, and a rule matches just when no condition of it failed.
#[test]
fn the_explanation_is_what_replay_says_of_every_packet() {
    let mut explained = 0;
    for rules in ["web-requests", "many", "extension-headers"] {
        let world = WorldFile::of_rules(&RuleFile::read(&here(&format!("cases/rules/{rules}.json"))).unwrap());
        let setup = world.setup().unwrap();
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(here("pcaps")).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|ext| ext == "pcap" || ext == "pcapng"));
        for file in files {
            let mut host = HostWorld::new(&setup.tables, world.config());
            for packet in Capture::open(&file).unwrap() {
                let packet = packet.unwrap();
                let decision = host.decide(&packet.frame, packet.time_ns).unwrap();
                let line = Line::new(packet.number, &decision, &setup.rule_ids, &setup.country);
                let explanation = explain(&setup, world.config(), &packet.frame, packet.number, packet.time_ns);
                let what = format!("{rules}, {}, packet {}", file.display(), packet.number);
                assert_eq!(explanation.line, line, "{what}");
                assert_eq!(explanation.record.is_some(), line.is_selected(), "{what}");
                assert_eq!(explanation.stages.last().unwrap().said, line.verdict, "{what}");
                for rule in &explanation.rules {
                    assert_eq!(rule.matches, rule.failed.is_none(), "{what}, {rule:?}");
                }
                assert_eq!(explanation.rules.is_empty(), line.rules.is_none(), "{what}");
                explained += 1;
            }
        }
    }
    assert!(explained > 5_000, "{explained} packets");
}

fn verb(words: &[&str]) -> Outcome {
    let rules = RuleFile::read(&here("cases/rules/web-requests.json")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("set.json"), rules.set.to_string()).unwrap();
    let mut all = vec!["explain", "--selectors", "set.json", "--rest", "foreign", "--basis", &rules.basis];
    let domestic: Vec<String> = rules.domestic.iter().map(ToString::to_string).collect();
    for prefix in &domestic {
        all.extend(["--domestic", prefix]);
    }
    all.extend(words);
    gwtap::outcome(directory.path(), all).unwrap()
}

fn of_wikipedia(number: &str, more: &[&str]) -> Outcome {
    let capture = here("pcaps/zeek__wikipedia.pcap");
    verb(&[&["--pcap", capture.to_str().unwrap(), "--number", number], more].concat())
}

/// Text and JSON of a packet that is selected, one that no rule matches and one that is no IP.
#[test]
fn three_packets_are_explained_as_written() {
    let cases: [(&str, Outcome, Outcome); 3] = [
        ("selected", of_wikipedia("6", &[]), of_wikipedia("6", &["--json"])),
        ("not-matched", of_wikipedia("1", &[]), of_wikipedia("1", &["--json"])),
        ("not-ip", verb(&["--hex", ARP]), verb(&["--hex", ARP, "--json"])),
    ];
    for (name, text, json) in cases {
        assert_eq!((text.code, text.stderr.as_str()), (Some(0), ""), "{name}");
        let stored = |kind: &str| std::fs::read_to_string(here(&format!("cases/explain/{name}.{kind}")));
        assert_eq!(text.stdout, stored("txt").unwrap_or_default(), "{name}:\n{}", text.stdout);
        assert_eq!(json.stdout, stored("json").unwrap_or_default(), "{name}:\n{}", json.stdout);
        let value: Value = serde_json::from_str(&json.stdout).unwrap();
        assert!(text.stdout.contains(&format!("verdict    {}", value["verdict"].as_str().unwrap())), "{name}");
    }
}

/// An ARP request.
const ARP: &str = "ff:ff:ff:ff:ff:ff 02:00:00:00:00:01 08:06 00:01 08:00 06:04 00:01";

#[test]
fn what_cannot_be_explained_is_said() {
    let cases: [(Outcome, i32, &str); 8] = [
        (verb(&["--pcap", "nothing.pcap", "--number", "1"]), 1, "nothing.pcap"),
        (of_wikipedia("137", &[]), 1, "has no packet 137; its last is 136"),
        (of_wikipedia("0", &[]), 2, "0 is not in 1.."),
        (verb(&["--pcap", "set.json", "--number", "1"]), 1, "neither a pcap nor a pcapng"),
        (verb(&["--hex", "0800zz"]), 2, "digit 5 of 6"),
        (verb(&["--hex", "080"]), 2, "the last byte has only one"),
        (verb(&["--hex", ""]), 2, "no digits"),
        (verb(&[]), 2, "--hex"),
    ];
    for (outcome, code, said) in cases {
        assert_eq!(outcome.code, Some(code), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(said), "{said}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "");
    }
}
