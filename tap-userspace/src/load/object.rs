//! Object: the embedded program with a generation's constants and tables, verified by the kernel.
//!
//! In: tables, mode, where the shared maps are pinned. Out: a loaded program that is attached nowhere yet.

use super::mapped::Mapped;
use super::plain::{Layout, Plain};
#[cfg(feature = "laboratory")]
use super::shared::SharedMemory;
use super::{LoadError, Tables};
use aya::maps::{Array, Map, MapData};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader};
use nix::libc;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use tap_common::abi::tables::FixedTables;
use tap_common::path::brief;
use tap_common::path::transport::MirrorTransport;

/// The XDP program as built by `cargo xtask build-ebpf`; its source is `tap-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../tap-ebpf/gwtap.bpf.o");

/// SHA-256 of the object that this program carries, in hex: what `cargo xtask build-ebpf` makes of the source, byte for byte.
#[must_use]
pub fn object_sha256() -> String {
    hex::encode(Sha256::digest(OBJECT))
}

/// Maps that all generations of a tap share.
pub(super) const SHARED: [&str; 4] = ["CPU", "SHARED", "RINGS", "INSTANCE"];

/// The data section of the tables of fixed size, as a map.
const FIXED: &str = ".bss";

/// Load-time constants of a generation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Constants {
    pub(super) laboratory: bool,
    pub(super) inline: bool,
    pub(super) sampling: bool,
    pub(super) cap: bool,
    pub(super) log_reasons: bool,
    pub(super) generation: u64,
    pub(super) transport: Option<MirrorTransport>,
}

/// Loads and verifies the program; shared maps come from `pins`, where they are made if they are not there.
pub(super) fn load(tables: &Tables, constants: Constants, pins: Option<&Path>) -> Result<Ebpf, LoadError> {
    load_object(OBJECT, &["gwtap"], tables, constants, pins, Extra::default())
}

/// What another object has beside the program's own constants and maps.
#[derive(Clone, Copy, Default)]
pub(super) struct Extra<'a> {
    /// Load-time constants by name.
    pub(super) globals: &'a [(&'a str, u32)],
    /// Elements of maps by name.
    pub(super) elements: &'a [(&'a str, u32)],
}

/// The same for any object over the same maps, with several programs.
pub(super) fn load_object(
    object: &[u8],
    programs: &[&'static str],
    tables: &Tables,
    constants: Constants,
    pins: Option<&Path>,
    extra: Extra<'_>,
) -> Result<Ebpf, LoadError> {
    let flag = u32::from;
    let (laboratory, inline) = (flag(constants.laboratory), flag(constants.inline));
    let (sampling, cap) = (flag(constants.sampling), flag(constants.cap));
    let log_reasons = flag(constants.log_reasons);
    let transport = constants.transport.unwrap_or(MirrorTransport::NONE);
    let (transport_port, [transport_high, transport_low]) = (u32::from(transport.port), transport.local6);
    let (exact4, exact6) = (tables.exact4.bucket_count(), tables.exact6.bucket_count());
    let (prefilter4, prefilter6) = (tables.exact4.prefilter_words(), tables.exact6.prefilter_words());
    let brief =
        flag(brief::is_open(tables.measures, tables.rule_words, tables.dimensions, constants.transport.is_some()));
    let mut loader = EbpfLoader::new();
    loader
        .override_global("LABORATORY", &laboratory, true)
        .override_global("INLINE", &inline, true)
        .override_global("SAMPLING", &sampling, true)
        .override_global("CAP", &cap, true)
        .override_global("LOG_REASONS", &log_reasons, true)
        .override_global("MEASURES", &tables.measures, true)
        .override_global("DIMENSIONS", &tables.dimensions, true)
        .override_global("SIGNATURES", &tables.signatures, true)
        .override_global("EXACT4_BUCKETS", &exact4, true)
        .override_global("EXACT6_BUCKETS", &exact6, true)
        .override_global("PREFILTER4_WORDS", &prefilter4, true)
        .override_global("PREFILTER6_WORDS", &prefilter6, true)
        .override_global("RULE_WORDS", &tables.rule_words, true)
        .override_global("BRIEF", &brief, true)
        .override_global("TRANSPORT", &transport.kind, true)
        .override_global("TRANSPORT_PORT", &transport_port, true)
        .override_global("TRANSPORT_LOCAL4", &transport.local4, true)
        .override_global("TRANSPORT_LOCAL6_HIGH", &transport_high, true)
        .override_global("TRANSPORT_LOCAL6_LOW", &transport_low, true)
        .override_global("TRANSPORT_KEY", &transport.key, true)
        .override_global("GENERATION", &constants.generation, true)
        .verifier_log_level(aya::VerifierLogLevel::STATS);
    for (name, elements) in sizes(tables) {
        let elements = u32::try_from(elements).map_err(|_large| LoadError::Memory { bytes: tables.bytes() })?;
        loader.map_max_entries(name, elements.max(1));
    }
    for (name, value) in extra.globals {
        loader.override_global(name, value, true);
    }
    for (name, elements) in extra.elements {
        loader.map_max_entries(name, *elements);
    }
    if let Some(pins) = pins {
        for name in SHARED {
            loader.map_pin_path(name, Cow::Owned(pins.join(name)));
        }
    }
    let mut ebpf = loader.load(object).map_err(LoadError::object)?;
    for name in programs {
        program_named(&mut ebpf, name)?.load().map_err(|error| LoadError::kernel("load the program", error))?;
    }
    // Only now: a map that is taken out and dropped before is gone from under the program's instructions.
    fill(&mut ebpf, tables)?;
    Ok(ebpf)
}

/// The XDP program of a loaded object.
pub(super) fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, LoadError> {
    program_named(ebpf, "gwtap")
}

/// An XDP program of a loaded object, by name.
pub(super) fn program_named<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, LoadError> {
    let program = ebpf.program_mut(name).ok_or(LoadError::Missing { what: name })?;
    program.try_into().map_err(|error| LoadError::kernel("use the program", error))
}

/// SHA-256 over the object, the constants and the tables: what runs, in one number.
pub(super) fn digest(tables: &Tables, constants: Constants) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"gwtap program 2\n");
    hash.update(Sha256::digest(OBJECT));
    hash.update([
        u8::from(constants.laboratory),
        u8::from(constants.inline),
        u8::from(constants.sampling),
        u8::from(constants.cap),
        u8::from(constants.log_reasons),
    ]);
    hash.update(constants.generation.to_le_bytes());
    let transport = constants.transport.unwrap_or(MirrorTransport::NONE);
    hash.update(transport.kind.to_le_bytes());
    hash.update(transport.port.to_le_bytes());
    hash.update(transport.local4.to_le_bytes());
    for word in [transport.local6[0], transport.local6[1], transport.key] {
        hash.update(word.to_le_bytes());
    }
    hash.update(tables.digest());
    hash.finalize().into()
}

/// A map of the object as an array.
#[cfg(feature = "laboratory")]
pub(super) fn array<T: Layout>(ebpf: &mut Ebpf, name: &'static str) -> Result<Array<MapData, Plain<T>>, LoadError> {
    let map = ebpf.take_map(name).ok_or(LoadError::Missing { what: name })?;
    Array::try_from(map).map_err(|error| LoadError::map(name, error))
}

/// The shared value of an object whose maps are its own.
#[cfg(feature = "laboratory")]
pub(super) fn shared(ebpf: &mut Ebpf) -> Result<SharedMemory, LoadError> {
    SharedMemory::new(data(ebpf, "SHARED")?.fd().as_fd())
}

fn data(ebpf: &mut Ebpf, name: &'static str) -> Result<MapData, LoadError> {
    match ebpf.take_map(name) {
        Some(Map::Array(map)) => Ok(map),
        _ => Err(LoadError::Missing { what: name }),
    }
}

/// Whether a map of this name holds the generation's tables.
#[cfg(feature = "laboratory")]
pub(super) fn is_table(name: &str) -> bool {
    const NAMES: [&str; 11] = [
        "SELECTOR4",
        "SELECTOR6",
        "COUNTRY4",
        "COUNTRY6",
        "EXACT4",
        "EXACT6",
        "PREFILTER4",
        "PREFILTER6",
        "ADDRESS_MASKS",
        "PORT_MASKS",
        "IP_LENGTH_MASK",
    ];
    NAMES.contains(&name) || name.ends_with(FIXED)
}

fn sizes(tables: &Tables) -> [(&'static str, usize); 11] {
    [
        ("SELECTOR4", tables.selector4.nodes.len()),
        ("SELECTOR6", tables.selector6.nodes.len()),
        ("COUNTRY4", tables.country4.nodes.len()),
        ("COUNTRY6", tables.country6.nodes.len()),
        ("EXACT4", tables.exact4.buckets.len()),
        ("EXACT6", tables.exact6.buckets.len()),
        ("PREFILTER4", tables.exact4.prefilter.len()),
        ("PREFILTER6", tables.exact6.prefilter.len()),
        ("ADDRESS_MASKS", tables.address_masks.len()),
        ("PORT_MASKS", tables.port_masks.len()),
        ("IP_LENGTH_MASK", tables.ip_length_mask.len()),
    ]
}

/// Writes the generation's tables, and freezes them: nobody changes what was verified and digested.
fn fill(ebpf: &mut Ebpf, tables: &Tables) -> Result<(), LoadError> {
    write(ebpf, "SELECTOR4", &tables.selector4.nodes)?;
    write(ebpf, "SELECTOR6", &tables.selector6.nodes)?;
    write(ebpf, "COUNTRY4", &tables.country4.nodes)?;
    write(ebpf, "COUNTRY6", &tables.country6.nodes)?;
    write(ebpf, "EXACT4", &tables.exact4.buckets)?;
    write(ebpf, "EXACT6", &tables.exact6.buckets)?;
    write(ebpf, "PREFILTER4", &tables.exact4.prefilter)?;
    write(ebpf, "PREFILTER6", &tables.exact6.prefilter)?;
    write(ebpf, "ADDRESS_MASKS", &tables.address_masks)?;
    write(ebpf, "PORT_MASKS", &tables.port_masks)?;
    write(ebpf, "IP_LENGTH_MASK", &tables.ip_length_mask)?;
    let map = data(ebpf, FIXED)?;
    let descriptor = map.fd().as_fd().try_clone_to_owned().map_err(|error| LoadError::kernel("fill a table", error))?;
    let mut fixed: Array<MapData, Plain<FixedTables>> =
        Array::try_from(Map::Array(map)).map_err(|error| LoadError::map(FIXED, error))?;
    fixed.set(0, Plain::by_reference(&*tables.fixed), 0).map_err(|error| LoadError::map(FIXED, error))?;
    freeze(FIXED, descriptor.as_fd())
}

/// Writes a table whole, through memory: a call for each element would take most of a swap's time.
fn write<T: Layout>(ebpf: &mut Ebpf, name: &'static str, values: &[T]) -> Result<(), LoadError> {
    let map = data(ebpf, name)?;
    if !values.is_empty() {
        Mapped::new(name, map.fd().as_fd(), size_of_val(values))?.fill(name, values)?;
    }
    freeze(name, map.fd().as_fd())
}

/// `BPF_MAP_FREEZE` (Linux 5.2): from now on nobody writes the map from outside the program, which only reads it.
fn freeze(name: &'static str, map: BorrowedFd<'_>) -> Result<(), LoadError> {
    /// `enum bpf_cmd` of include/uapi/linux/bpf.h.
    const BPF_MAP_FREEZE: libc::c_int = 22;
    // The beginning of `union bpf_attr`: the descriptor; what is behind it counts as 0.
    let attributes: [i32; 2] = [map.as_raw_fd(), 0];
    // SAFETY: the call reads the given number of bytes at the given address.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_FREEZE, attributes.as_ptr(), size_of_val(&attributes)) };
    nix::Error::result(result)
        .map(drop)
        .map_err(|error| LoadError::kernel("freeze a table", format!("{name}: {error}")))
}
