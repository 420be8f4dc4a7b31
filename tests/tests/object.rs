//! The committed BPF objects: what a compiler may do to them without a word, and what would betray a machine's paths.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of a test")]

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget};
use std::path::Path;

const OBJECTS: [&str; 2] = ["gwtap", "bench"];

fn bytes(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tap-ebpf/{name}.bpf.o"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A copy or a fill of more than a few bytes becomes a call of a loop over single bytes: one such call for each packet
/// was measured to cost more than the whole way.
#[test]
fn no_program_calls_a_loop_over_bytes() {
    for name in OBJECTS {
        let bytes = bytes(name);
        let file = object::File::parse(&*bytes).unwrap();
        let mut programs = 0;
        for section in file.sections().filter(|section| section.name().is_ok_and(|name| name.starts_with("xdp"))) {
            programs += 1;
            for (offset, relocation) in section.relocations() {
                if let RelocationTarget::Symbol(index) = relocation.target() {
                    let symbol = file.symbol_by_index(index).unwrap();
                    let target = symbol.name().unwrap_or_default();
                    assert!(!target.starts_with("mem"), "{name}: {target} is called at byte {offset}");
                }
            }
        }
        assert!(programs > 0, "{name} has no XDP section");
    }
}

/// An atomic addition whose old value is used must fetch it. With a relaxed ordering this target's compiler leaves the flag
/// out, and a bucket would see the addend as its old value. BPF_STX | BPF_ATOMIC of 8 or 4 bytes; the immediate tells which.
#[test]
fn every_atomic_instruction_fetches() {
    const ATOMIC: [u8; 2] = [0xdb, 0xc3];
    for name in OBJECTS {
        let bytes = bytes(name);
        let file = object::File::parse(&*bytes).unwrap();
        let mut atomics = 0;
        for section in file.sections().filter(|section| section.name().is_ok_and(|name| name.starts_with("xdp"))) {
            let code = section.data().unwrap();
            let mut at = 0;
            while let Some(instruction) = code.get(at..at + 8) {
                if ATOMIC.contains(&instruction[0]) {
                    atomics += 1;
                    assert_ne!(instruction[4..8], [0; 4], "{name}: an atomic without a fetch at byte {at}");
                }
                // A 64-bit immediate takes two places.
                at += if instruction[0] == 0x18 { 16 } else { 8 };
            }
        }
        assert!(atomics > 0, "{name}: the bucket's exchange is gone");
    }
}

/// Verifiers up to 6.1 walk the program's graph depth first, the way on before the jump, and refuse an instruction that is
/// no jump and runs into one that the walk has come through and not left: the end of a loop that falls through into its
/// head. LLVM's block placement makes such loops; `build-ebpf` switches it off.
#[test]
fn loops_go_back_by_jumps_alone() {
    const NEW: u8 = 0;
    const OPEN: u8 = 1;
    const LEFT: u8 = 2;
    for name in OBJECTS {
        let bytes = bytes(name);
        let file = object::File::parse(&*bytes).unwrap();
        for section in file.sections().filter(|section| section.name().is_ok_and(|name| name.starts_with("xdp"))) {
            let code = section.data().unwrap();
            let mut state = vec![NEW; code.len() / 8];
            // An instruction and how many of its ways on have been taken.
            let mut path = vec![(0usize, 0usize)];
            while let Some((at, taken)) = path.pop() {
                state[at] = OPEN;
                let instruction = &code[at * 8..at * 8 + 8];
                let class = instruction[0] & 7;
                let jump = class == 5 || class == 6;
                let offset = if instruction[0] == 0x06 {
                    i32::from_le_bytes(instruction[4..8].try_into().unwrap()) as isize
                } else {
                    i16::from_le_bytes(instruction[2..4].try_into().unwrap()) as isize
                };
                let (next, target) = (at + 1, at.wrapping_add_signed(offset + 1));
                let ways = match instruction[0] & 0xf0 {
                    0x90 if jump => vec![],
                    0x00 if jump => vec![(target, true)],
                    0x80 if jump => vec![(next, false)],
                    _ if jump => vec![(next, true), (target, true)],
                    _ => vec![(next, false)],
                };
                let Some(&(to, back_allowed)) = ways.get(taken) else {
                    state[at] = LEFT;
                    continue;
                };
                path.push((at, taken + 1));
                if state[to] == NEW {
                    path.push((to, 0));
                }
                assert!(
                    state[to] != OPEN || back_allowed,
                    "{name}: back-edge from instruction {at} to {to}: kernel 6.1 refuses the program"
                );
            }
        }
    }
}

#[test]
fn no_path_of_a_machine_is_inside() {
    for name in OBJECTS {
        let bytes = bytes(name);
        let text = String::from_utf8_lossy(&bytes);
        for path in ["/home/", concat!("/ro", "ot/"), "/tmp/", concat!("/wo", "rk/"), ".cargo/registry"] {
            assert!(!text.contains(path), "{name} holds {path}");
        }
    }
}
