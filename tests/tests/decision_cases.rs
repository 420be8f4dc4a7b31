//! Decisions as sentences: the cases of `cases/*.json`, through the host build and through the kernel.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's panic is its report")]

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tap_common::abi::counter::{FACILITY_VERDICT_NAMES, REASON_NAMES, VERDICT_NAMES};
use tap_tests::need;
use tap_tests::packet::{Layer, build};
use tap_tests::world::WorldFile;
use tap_userspace::laboratory::cpu::stay_on_this_cpu;
use tap_userspace::laboratory::line::Line;
use tap_userspace::laboratory::setup::Setup;
use tap_userspace::load::{HostWorld, KernelWorld, Laboratory};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    #[serde(rename = "about")]
    _about: String,
    worlds: Vec<Value>,
}

/// One packet and what becomes of it. The cases of a world run in their order, so that a bucket empties.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    description: String,
    packet: Vec<Layer>,
    /// Bytes that are left of the packet.
    #[serde(default)]
    cut: Option<usize>,
    #[serde(default)]
    now_ns: u64,
    /// The line of `replay`, without the packet's number.
    expected: Value,
}

fn files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn worlds() -> Vec<(String, WorldFile, Vec<Case>)> {
    let mut worlds = Vec::new();
    for path in files() {
        let file: CaseFile = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for (number, mut world) in file.worlds.into_iter().enumerate() {
            let cases = world.as_object_mut().unwrap().remove("cases").unwrap();
            let name = format!("{}, world {}", path.file_name().unwrap().display(), number + 1);
            worlds.push((name, serde_json::from_value(world).unwrap(), serde_json::from_value(cases).unwrap()));
        }
    }
    worlds
}

impl Case {
    fn frame(&self) -> Vec<u8> {
        let mut frame = build(&self.packet).unwrap();
        if let Some(cut) = self.cut {
            assert!(cut < frame.len(), "{}: nothing to cut", self.description);
            frame.truncate(cut);
        }
        frame
    }

    fn check(&self, world: &mut dyn Laboratory, setup: &Setup, wrong: &mut Vec<String>) {
        let observation = world.decide(&self.frame(), self.now_ns).unwrap();
        let line = Line::new(1, &observation, &setup.rule_ids, &setup.country);
        let mut found = serde_json::to_value(&line).unwrap();
        found.as_object_mut().unwrap().remove("packet");
        if found != self.expected {
            wrong.push(format!("{}\n  expected {}\n  found    {found}", self.description, self.expected));
        }
    }
}

#[test]
fn host() {
    let mut wrong = Vec::new();
    for (name, world, cases) in worlds() {
        let setup = world.setup().unwrap_or_else(|error| panic!("{name}: {error:#}"));
        let mut host = HostWorld::new(&setup.tables, world.config());
        for case in cases {
            case.check(&mut host, &setup, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The cases reach every verdict and every reason there is, so that none is a word without a packet.
#[test]
fn every_verdict_and_every_reason_is_reached() {
    let expected: Vec<Value> = worlds().into_iter().flat_map(|(_, _, cases)| cases).map(|case| case.expected).collect();
    let reached = |key: &str| -> BTreeSet<String> {
        expected.iter().filter_map(|line| line.get(key)?.as_str().map(str::to_owned)).collect()
    };
    let all = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    assert_eq!(reached("verdict"), all(&[&FACILITY_VERDICT_NAMES[..], &VERDICT_NAMES].concat()));
    assert_eq!(reached("reason"), all(&REASON_NAMES));
}

#[test]
fn kernel() {
    if !need::root() {
        return;
    }
    stay_on_this_cpu().unwrap();
    let mut wrong = Vec::new();
    for (name, world, cases) in worlds() {
        let setup = world.setup().unwrap_or_else(|error| panic!("{name}: {error:#}"));
        let mut kernel = KernelWorld::new(&setup.tables, world.config()).unwrap();
        for case in cases {
            case.check(&mut kernel, &setup, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
