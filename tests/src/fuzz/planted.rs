//! A planted fault, to show that the fuzzer finds one: a frame whose bound is off by one.
//!
//! It is asked for by an environment variable and exists in the fuzz programs and tests alone; the product's own frame is
//! another type.

use std::sync::LazyLock;
use tap_common::path::decide;
use tap_common::path::frame::{Bytes, Frame};
use tap_common::path::verdict::Decision;
use tap_userspace::load::{HostWorld, Laboratory as _, LoadError};

/// The environment variable that plants the fault when it is set to 1.
pub const PLANTED: &str = "GWTAP_FUZZ_PLANTED";

static IS_PLANTED: LazyLock<bool> = LazyLock::new(|| std::env::var(PLANTED).is_ok_and(|value| value == "1"));

/// Decides by the host's build, over the faulty frame if it is planted.
///
/// # Errors
/// When the world fails.
pub fn decided(world: &mut HostWorld<'_>, frame: &[u8], now_ns: u64) -> Result<Decision, LoadError> {
    if !*IS_PLANTED {
        return world.decide(frame, now_ns);
    }
    world.set_now(now_ns);
    let mut decision = Decision::new();
    decide(&mut Careless { frame: Bytes::new(frame), behind: [frame, &[0]].concat() }, world, &mut decision);
    Ok(decision)
}

/// The byte behind the frame's end reads as 0.
#[derive(Clone)]
struct Careless<'a> {
    frame: Bytes<'a>,
    behind: Vec<u8>,
}

impl Frame for Careless<'_> {
    fn afresh(&self) -> Self {
        self.clone()
    }

    fn length(&self) -> u32 {
        self.frame.length()
    }

    fn first_buffer_length(&self) -> u32 {
        self.frame.length()
    }

    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        Bytes::new(&self.behind).load(offset)
    }

    fn advance(&mut self, bytes: u32) {
        self.frame.advance(bytes);
        self.behind.drain(..self.behind.len().min(bytes as usize));
    }
}
