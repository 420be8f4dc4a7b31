//! Every input that the fuzzer ever stopped at, and those that show a planted fault, by name: `regressions/TARGET/NAME`.
//! Through the host's build as the fuzzer asks it, and through the kernel's, decision by decision.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's panic is its report")]

use std::path::{Path, PathBuf};
use tap_tests::fuzz::operations::{Operation, Script};
use tap_tests::fuzz::{self, TARGETS, bytes, imports, operations, seeds::seeds};
use tap_tests::need;
use tap_userspace::laboratory::cpu::stay_on_this_cpu;
use tap_userspace::load::{HostWorld, KernelWorld, Laboratory};

fn cases(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(target);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has no case");
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn check(target: &str, input: &[u8]) -> anyhow::Result<()> {
    match target {
        "bytes" => bytes::check(input),
        "imports" => imports::check(input),
        _ => operations::check(input),
    }
}

#[test]
fn every_finding_and_every_seed_is_decided_as_the_model_says() {
    for target in TARGETS {
        for (path, input) in cases(target) {
            check(target, &input).unwrap_or_else(|error| panic!("{}: {error:#}", path.display()));
        }
        let seeds = seeds(target).unwrap();
        assert!(seeds.len() >= 40, "{target} has {} seeds", seeds.len());
        for seed in seeds {
            assert!(seed.len() <= fuzz::INPUT_BYTES_MAX);
            check(target, &seed).unwrap_or_else(|error| panic!("{target}, {}: {error:#}", hex::encode(&seed)));
        }
    }
}

/// Findings by bytes, in the kernel.
#[test]
fn every_finding_by_bytes_is_decided_alike_in_the_kernel() {
    if !need::root() {
        return;
    }
    stay_on_this_cpu().unwrap();
    for (path, input) in cases("bytes") {
        let Some((world, frame)) = bytes::parts(&input).unwrap() else { continue };
        let host = HostWorld::new(&world.tables, bytes::config()).decide(frame, 0).unwrap();
        let kernel = KernelWorld::new(&world.tables, bytes::config()).unwrap().decide(frame, 0).unwrap();
        assert_eq!(host, kernel, "{}", path.display());
    }
}

/// Findings by operations, in the kernel. Each generation begins with fresh state on both sides.
#[test]
fn every_finding_by_operations_is_decided_alike_in_the_kernel() {
    if !need::root() {
        return;
    }
    stay_on_this_cpu().unwrap();
    let mut compared = 0;
    for (path, input) in cases("operations") {
        let script = Script::read(&input).unwrap();
        let worlds = |generation: usize| {
            let tables = &script.generations[generation].tables;
            (HostWorld::new(tables, script.config), KernelWorld::new(tables, script.config).unwrap())
        };
        let (mut host, mut kernel) = worlds(0);
        let mut now_ns = tap_common::limits::EPOCH_NS;
        for (number, operation) in script.operations.iter().enumerate() {
            match operation {
                Operation::Generation(generation) => (host, kernel) = worlds(*generation),
                Operation::Clock(to) => now_ns = *to,
                Operation::Lease(slot, lease) => {
                    host.set_slot_lease(*slot, *lease).unwrap();
                    kernel.set_slot_lease(*slot, *lease).unwrap();
                }
                Operation::Frame(frame) => {
                    let (host, kernel) = (host.decide(frame, now_ns).unwrap(), kernel.decide(frame, now_ns).unwrap());
                    assert_eq!(host, kernel, "{}, operation {number}", path.display());
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 0, "no finding decides a frame");
}

/// Every world of the target is one that the kernel verifies.
#[test]
fn every_world_of_the_fuzzer_is_verified() {
    if !need::root() {
        return;
    }
    let mut refused = Vec::new();
    for (number, world) in bytes::worlds().unwrap().iter().enumerate() {
        match KernelWorld::new(&world.tables, bytes::config()) {
            Ok(mut kernel) => println!("world {number}: {:?} instructions", kernel.verified_instructions().unwrap()),
            Err(error) => refused.push(format!("world {number}: {error}")),
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
}
