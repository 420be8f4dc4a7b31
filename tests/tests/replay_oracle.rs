//! `replay` against an oracle that shares nothing with it: tshark dissects, plain code evaluates the rules.
//!
//! Every field of every packet of the captures is compared, selected or not. Where the two differ, it is a decision,
//! written down with its reason in `oracle/decisions.json`, and the list is exactly what is found.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's panic is its report")]

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use tap_tests::need;
use tap_tests::oracle::{self, Fields, RuleFile};
use tap_tests::world::WorldFile;
use tap_userspace::laboratory::capture::Capture;
use tap_userspace::laboratory::replay::{Show, replay};
use tap_userspace::load::HostWorld;

/// A packet that product and dissector read differently, on purpose.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decision {
    file: String,
    packet: usize,
    /// What `replay` says of it: the reason why there are no fields, or the fields.
    found: Value,
    /// Why that is right.
    #[serde(rename = "because")]
    _because: String,
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn listed(directory: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(here(directory))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| extensions.iter().any(|wanted| found == *wanted)))
        .collect();
    files.sort();
    files
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().display().to_string()
}

fn captures() -> Vec<PathBuf> {
    listed("pcaps", &["pcap", "pcapng"])
}

/// A rule file and the lines of `replay` over each capture with it, by the host build.
struct Replayed {
    name: String,
    rules: RuleFile,
    lines: Vec<(PathBuf, Vec<Value>)>,
}

/// Every rule file, replayed once for all checks.
static REPLAYED: LazyLock<Vec<Replayed>> = LazyLock::new(|| {
    let files = listed("cases/rules", &["json"]);
    assert!(files.len() >= 30, "at least thirty rule files");
    let replayed = |path: &PathBuf| {
        let rules = RuleFile::read(path).unwrap();
        Replayed { name: name(path), lines: lines(&rules), rules }
    };
    files.iter().map(replayed).collect()
});

fn lines(rules: &RuleFile) -> Vec<(PathBuf, Vec<Value>)> {
    let world = WorldFile::of_rules(rules);
    let setup = world.setup().unwrap_or_else(|error| panic!("{}: {error:#}", rules.description));
    captures()
        .into_iter()
        .map(|path| {
            let mut host = HostWorld::new(&setup.tables, world.config());
            let mut out = Vec::new();
            replay(Capture::open(&path).unwrap(), &mut host, &setup.labels(), Show::default(), &mut out).unwrap();
            let lines = out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            (path, lines.map(|line| serde_json::from_slice(line).unwrap()).collect())
        })
        .collect()
}

fn is_selected(line: &Value) -> bool {
    line["verdict"] == "selected"
}

/// Without any tool: how many packets of each capture each rule file selects.
#[test]
fn every_rule_file_selects_what_it_states() {
    let (mut found, mut stated) = (BTreeMap::new(), BTreeMap::new());
    for replayed in REPLAYED.iter() {
        let mut selected = BTreeMap::new();
        for (path, lines) in &replayed.lines {
            let count = lines.iter().filter(|line| is_selected(line)).count();
            if count > 0 {
                selected.insert(name(path), count);
            }
        }
        if selected != replayed.rules.selects {
            found.insert(&replayed.name, selected);
            stated.insert(&replayed.name, replayed.rules.selects.clone());
        }
    }
    assert_eq!(found, stated);
}

#[test]
fn every_field_of_every_packet_is_as_tshark_tells_it() {
    let Some(tshark) = need::tool("tshark") else { return };
    let dissected = dissected(&tshark);
    let mut differing = BTreeMap::new();
    let mut compared = 0;
    for (path, lines) in REPLAYED.iter().take(1).flat_map(|replayed| &replayed.lines) {
        let dissected = &dissected[path];
        assert_eq!(lines.len(), dissected.len(), "{}", path.display());
        for (line, fields) in lines.iter().zip(dissected) {
            compared += 1;
            if !oracle::agree(line, fields.as_ref()) {
                println!("{} {line} {fields:?}", path.display());
                let mut found = line.clone();
                let object = found.as_object_mut().unwrap();
                let packet = object.remove("packet").unwrap().as_u64().unwrap();
                for judged in ["verdict", "direction", "rules"] {
                    object.remove(judged);
                }
                differing.insert((name(path), usize::try_from(packet).unwrap()), found);
            }
        }
    }
    println!("{compared} packets compared, {} decisions", differing.len());
    assert_eq!(differing, decisions());
}

fn dissected(tshark: &Path) -> BTreeMap<PathBuf, Vec<Option<Fields>>> {
    captures().into_iter().map(|path| (path.clone(), oracle::dissect(tshark, &path).unwrap())).collect()
}

fn decisions() -> BTreeMap<(String, usize), Value> {
    let bytes = std::fs::read(here("oracle/decisions.json")).unwrap();
    let decisions: Vec<Decision> = serde_json::from_slice(&bytes).unwrap();
    decisions.into_iter().map(|decision| ((decision.file, decision.packet), decision.found)).collect()
}

#[test]
fn every_rule_file_matches_and_selects_what_the_oracle_does() {
    let Some(tshark) = need::tool("tshark") else { return };
    let dissected = dissected(&tshark);
    let decisions = decisions();
    for Replayed { name: rules_name, rules, lines } in REPLAYED.iter() {
        // The widest ones cost the oracle most; without it their counts are checked all the same.
        if !need::long() && rules.set["rules"].as_array().unwrap().len() > 64 {
            continue;
        }
        let evaluated = rules.evaluated().unwrap();
        let mut selected = 0;
        for (path, lines) in lines {
            for (number, (line, fields)) in (1..).zip(lines.iter().zip(&dissected[path])) {
                if decisions.contains_key(&(name(path), number)) {
                    continue;
                }
                let expected = fields.as_ref().map(|fields| {
                    let matching = evaluated.matching(fields).unwrap();
                    let direction = rules.direction(fields);
                    let selects = !matching.is_empty() && direction == rules.basis;
                    (matching, direction, selects)
                });
                let found = line.get("direction").map(|direction| {
                    let ids: Vec<String> = serde_json::from_value(line["rules"].clone()).unwrap();
                    (ids, direction.as_str().unwrap().to_owned(), is_selected(line))
                });
                assert_eq!(found, expected, "{rules_name}, {}, packet {number}", path.display());
                selected += usize::from(is_selected(line));
            }
        }
        println!("{rules_name}: {selected} selected");
    }
}
