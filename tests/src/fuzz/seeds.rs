//! What the fuzzer begins with: real packets, the packets of the cases, generated ones, and short lists of operations.

use super::INPUT_BYTES_MAX;
use super::bytes::worlds;
use crate::generate;
use crate::packet::{Layer, build};
use crate::random::Random;
use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tap_userspace::laboratory::capture::Capture;

/// Packets taken of each capture: the first ones of a flow differ, the later ones are much alike.
const PACKETS_OF_A_CAPTURE: usize = 60;
/// Packets generated for each world.
const GENERATED: u64 = 40;
/// Lists of operations.
const LISTS: u64 = 60;

/// Seeds of a target, each once.
///
/// # Errors
/// When a capture or a case cannot be read.
pub fn seeds(target: &str) -> Result<BTreeSet<Vec<u8>>> {
    if target == "imports" {
        return Ok(super::imports::seeds().into_iter().collect());
    }
    if target == "operations" {
        return Ok((0..LISTS).map(|seed| operations(&mut Random::from_seed(seed))).collect());
    }
    let mut seeds = BTreeSet::new();
    let worlds = u8::try_from(worlds()?.len())?;
    let mut frames = captured()?;
    frames.extend(cases()?);
    for (choice, frame) in (0..worlds).cycle().zip(frames) {
        seeds.insert([&[choice], frame.as_slice()].concat());
    }
    for choice in 0..worlds {
        let mut random = Random::from_seed(u64::from(choice));
        for _ in 0..GENERATED {
            seeds.insert([&[choice], generate::frame(&mut random).as_slice()].concat());
        }
    }
    Ok(seeds.into_iter().filter(|seed| seed.len() <= INPUT_BYTES_MAX).collect())
}

fn files(folder: &str, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| extensions.iter().any(|wanted| found == *wanted)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn captured() -> Result<Vec<Vec<u8>>> {
    let mut frames = Vec::new();
    for file in files("pcaps", &["pcap", "pcapng"])? {
        for packet in Capture::open(&file)?.take(PACKETS_OF_A_CAPTURE) {
            frames.push(packet.with_context(|| file.display().to_string())?.frame);
        }
    }
    Ok(frames)
}

/// The packets of `cases/*.json`, without their worlds.
fn cases() -> Result<Vec<Vec<u8>>> {
    let mut frames = Vec::new();
    for file in files("cases", &["json"])? {
        let name = file.display().to_string();
        let value: serde_json::Value = serde_json::from_slice(&std::fs::read(&file)?).with_context(|| name.clone())?;
        let worlds = value.get("worlds").and_then(|worlds| worlds.as_array()).context(name.clone())?;
        for case in worlds.iter().filter_map(|world| world.get("cases")?.as_array()).flatten() {
            let layers = case.get("packet").cloned().context(name.clone())?;
            let layers: Vec<Layer> = serde_json::from_value(layers).with_context(|| name.clone())?;
            frames.push(build(&layers)?);
        }
    }
    Ok(frames)
}

/// A list in which everything happens, frames most often.
fn operations(random: &mut Random) -> Vec<u8> {
    let mut bytes = random.bytes(3);
    for _ in 0..random.below(5..40) {
        let operation = random.pick([0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 8, 9, 9, 9, 9]);
        bytes.push(operation);
        match operation {
            0..=3 => bytes.extend(random.bytes(5)),
            4 => bytes.extend(random.bytes(2)),
            6 => {
                let mut frame = generate::frame(random);
                frame.truncate(200);
                bytes.extend(u8::try_from(frame.len()));
                bytes.extend(frame);
            }
            _ => bytes.extend(random.bytes(4)),
        }
    }
    bytes
}
