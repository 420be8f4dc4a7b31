//! Load-time constants: written into read-only data before the program is verified, so that branches they rule out
//! vanish from the verified program. `tap-userspace/src/load/object.rs` sets them by these names.

use tap_common::path::transport::{KIND_NONE, MirrorTransport};

/// 1: the clock is injected and every decision is shown in a map. Only the laboratory verbs load such a program.
#[unsafe(no_mangle)]
static LABORATORY: u32 = 0;
/// 1: frames are passed instead of dropped.
#[unsafe(no_mangle)]
static INLINE: u32 = 0;
/// 0: the sampling stage is off (laboratory only).
#[unsafe(no_mangle)]
static SAMPLING: u32 = 1;
/// 0: the cap stage is off (laboratory only).
#[unsafe(no_mangle)]
static CAP: u32 = 1;
/// 1: the reason of every malformed or unsupported packet is logged, as a code and nothing else.
#[unsafe(no_mangle)]
static LOG_REASONS: u32 = 0;
/// Measure slots in use, from 0 on.
#[unsafe(no_mangle)]
static MEASURES: u32 = 8;
/// Bit set of the dimensions that the generation's rules use.
#[unsafe(no_mangle)]
static DIMENSIONS: u32 = 2_047;
/// Payload signatures in use.
#[unsafe(no_mangle)]
static SIGNATURES: u32 = 64;
/// Buckets of the hashed table of IPv4 addresses; 0: there is none.
#[unsafe(no_mangle)]
static EXACT4_BUCKETS: u32 = 0;
/// Buckets of the hashed table of IPv6 addresses; 0: there is none.
#[unsafe(no_mangle)]
static EXACT6_BUCKETS: u32 = 0;
/// Words of the IPv4 table's prefilter.
#[unsafe(no_mangle)]
static PREFILTER4_WORDS: u32 = 1;
/// Words of the IPv6 table's prefilter.
#[unsafe(no_mangle)]
static PREFILTER6_WORDS: u32 = 1;
/// Words of the rule masks in use.
#[unsafe(no_mangle)]
static RULE_WORDS: u32 = 4;
/// 1: the brief way is open (`tap_common::path::brief::is_open`).
#[unsafe(no_mangle)]
static BRIEF: u32 = 0;
/// Mirror transport that is removed, a `KIND_*` of `tap_common::path::transport`; 0: none.
#[unsafe(no_mangle)]
static TRANSPORT: u32 = 0;
/// UDP port of the transport.
#[unsafe(no_mangle)]
static TRANSPORT_PORT: u32 = 0;
/// IPv4 address of this host to which the mirror sends.
#[unsafe(no_mangle)]
static TRANSPORT_LOCAL4: u32 = 0;
/// IPv6 address of this host to which the mirror sends, high half.
#[unsafe(no_mangle)]
static TRANSPORT_LOCAL6_HIGH: u64 = 0;
/// Its low half.
#[unsafe(no_mangle)]
static TRANSPORT_LOCAL6_LOW: u64 = 0;
/// Session of the transport.
#[unsafe(no_mangle)]
static TRANSPORT_KEY: u64 = 0;
/// Number of the generation.
#[unsafe(no_mangle)]
static GENERATION: u64 = 0;

macro_rules! load_time {
    ($name:ident) => {
        // SAFETY: the static is initialised and never written; volatile, because its value is set after compilation.
        unsafe { core::ptr::read_volatile(&raw const $name) }
    };
}

#[inline(always)]
pub fn is_laboratory() -> bool {
    load_time!(LABORATORY) != 0
}

#[inline(always)]
pub fn is_inline() -> bool {
    load_time!(INLINE) != 0
}

#[inline(always)]
pub fn is_brief() -> bool {
    load_time!(BRIEF) != 0
}

#[inline(always)]
pub fn is_sampling_on() -> bool {
    load_time!(SAMPLING) != 0
}

#[inline(always)]
pub fn is_cap_on() -> bool {
    load_time!(CAP) != 0
}

#[inline(always)]
pub fn is_logging_reasons() -> bool {
    load_time!(LOG_REASONS) != 0
}

#[inline(always)]
pub fn measures() -> u32 {
    load_time!(MEASURES)
}

#[inline(always)]
pub fn signatures() -> u32 {
    load_time!(SIGNATURES)
}

#[inline(always)]
pub fn exact4_buckets() -> u32 {
    load_time!(EXACT4_BUCKETS)
}

#[inline(always)]
pub fn exact6_buckets() -> u32 {
    load_time!(EXACT6_BUCKETS)
}

#[inline(always)]
pub fn prefilter4_words() -> u32 {
    load_time!(PREFILTER4_WORDS)
}

#[inline(always)]
pub fn prefilter6_words() -> u32 {
    load_time!(PREFILTER6_WORDS)
}

#[inline(always)]
pub fn dimensions() -> u32 {
    load_time!(DIMENSIONS)
}

#[inline(always)]
pub fn rule_words() -> usize {
    load_time!(RULE_WORDS) as usize
}

/// The port, addresses and key are read only where a kind is configured.
#[inline(always)]
pub fn transport() -> Option<MirrorTransport> {
    let kind = load_time!(TRANSPORT);
    if kind == KIND_NONE {
        return None;
    }
    Some(MirrorTransport {
        kind,
        port: load_time!(TRANSPORT_PORT) as u16,
        local4: load_time!(TRANSPORT_LOCAL4),
        local6: [load_time!(TRANSPORT_LOCAL6_HIGH), load_time!(TRANSPORT_LOCAL6_LOW)],
        key: load_time!(TRANSPORT_KEY),
    })
}

#[inline(always)]
pub fn generation() -> u64 {
    load_time!(GENERATION)
}
