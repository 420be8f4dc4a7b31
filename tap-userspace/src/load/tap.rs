//! Tap: the program on its mirror port, generation after generation.
//!
//! In: tables, leases. Out: counters and rings. The link and the maps that generations share are pinned, so that an agent
//! that was killed leaves them behind and its successor takes them over, counters and all. Replacing a generation is one
//! step on the link: a packet sees the old set or the new one, never a mixture, and a set that does not load changes
//! nothing.

use super::object::{self, Constants};
use super::pins::Pins;
use super::plain::Plain;
use super::reason_log::ReasonLog;
use super::shared::SharedMemory;
use super::{LoadError, Tables, link};
use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray};
use aya::programs::XdpMode;
use aya::programs::links::FdLink;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use tap_common::abi::counter::Counters;
use tap_common::abi::cpu::CpuState;
use tap_common::abi::policy::{CapPolicy, FACILITY_BUCKET, Instance, Lease};
use tap_common::limits::{CHUNK_BYTES_MAX, CHUNKS_PER_EPOCH, CREDIT_BITS, CREDIT_PPM, EPOCH_NS, MEASURES_MAX, PPM};
use tap_common::path::transport::MirrorTransport;

/// How the program is attached; never silently another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// In the driver.
    Native,
    /// In the kernel's general path: slower, for drivers without XDP, and only when asked for by name.
    Generic,
}

/// Where and how a tap is.
#[derive(Clone, Debug)]
pub struct TapConfig {
    /// Mirror port.
    pub interface: String,
    /// Folder on a BPF file system; the tap's pins lie in a folder of the interface's name below it.
    pub pin_directory: PathBuf,
    /// Pass frames instead of dropping them.
    pub inline: bool,
    /// How to attach.
    pub attach: Attach,
    /// Parameters of the facility's bucket, from [`cap_policy`].
    pub cap_policy: CapPolicy,
    /// Log the reason code of every malformed or unsupported packet (for commissioning a mirror port).
    pub log_reasons: bool,
    /// Mirror transport that frames come in and that is removed.
    pub transport: Option<MirrorTransport>,
}

/// What the kernel says of the running program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramInfo {
    /// Program id.
    pub id: u32,
    /// The kernel's tag: a hash of the instructions.
    pub tag: u64,
    /// Instructions the verifier processed, where the kernel tells.
    pub verified_instructions: Option<u32>,
    /// SHA-256 over object, constants and tables.
    pub digest: [u8; 32],
    /// How it is attached.
    pub attach: Attach,
}

/// A tap whose maps are there; the program is attached by the first [`Tap::swap`].
pub struct Tap {
    config: TapConfig,
    pins: Pins,
    rings: Vec<OwnedFd>,
    instance: Instance,
    shared: SharedMemory,
    running: Option<Running>,
}

/// Which cap is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapSlot {
    /// The facility's: all measures together.
    Facility,
    /// That of the measure in this slot; it counts when several measures are in use.
    Measure(u32),
}

/// Makes programs for a tap, beside what the tap does.
#[derive(Clone, Debug)]
pub struct ProgramLoader {
    shared_maps: PathBuf,
    inline: bool,
    log_reasons: bool,
    transport: Option<MirrorTransport>,
}

/// A generation that the kernel has verified and whose tables are there and frozen. It decides about nothing yet; dropping it frees it.
pub struct Loaded {
    ebpf: Ebpf,
    generation: u64,
    digest: [u8; 32],
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl Loaded {
    /// The number that its records carry.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

impl ProgramLoader {
    /// Loads a generation; [`Tap::put`] lets it decide.
    ///
    /// # Errors
    /// The kernel refuses the program, or has no memory for its tables.
    pub fn load(&self, tables: &Tables, generation: u64) -> Result<Loaded, LoadError> {
        // `run` has no way to ask for anything else: a real tap's clock is the kernel's, its sample and cap are on.
        let constants = Constants {
            laboratory: false,
            inline: self.inline,
            sampling: true,
            cap: true,
            log_reasons: self.log_reasons,
            generation,
            transport: self.transport,
        };
        let ebpf = object::load(tables, constants, Some(&self.shared_maps))?;
        Ok(Loaded { ebpf, generation, digest: object::digest(tables, constants) })
    }
}

struct Running {
    // Holds the generation's program and maps; dropping it frees them, once the link has another program.
    _ebpf: Ebpf,
    info: ProgramInfo,
    log: Option<ReasonLog>,
}

impl Tap {
    /// Makes the tap's maps, or takes over those an earlier agent left. Attaches nothing.
    ///
    /// # Errors
    /// No BPF file system, no privilege, no such interface, maps of another version; each says what to do.
    pub fn open(config: TapConfig) -> Result<Self, LoadError> {
        nix::net::if_::if_nametoindex(config.interface.as_str())
            .map_err(|error| LoadError::Interface { interface: config.interface.clone(), error: error.into() })?;
        let pins = Pins::open(&config.pin_directory, &config.interface)?;
        let (instance, rings) = pins.make_or_take_over()?;
        let shared = pins.shared()?;
        let tap = Self { config, pins, rings, instance, shared, running: None };
        tap.set_cap(CapSlot::Facility, tap.config.cap_policy);
        Ok(tap)
    }

    /// Loads a generation, and puts it onto the mirror port in one step. If it does not load, the running one stays.
    ///
    /// # Errors
    /// The kernel refuses the program or the attachment.
    pub fn swap(&mut self, tables: &Tables, generation: u64) -> Result<(), LoadError> {
        let loaded = self.program_loader().load(tables, generation)?;
        self.put(loaded)
    }

    /// What makes this tap's programs.
    #[must_use]
    pub fn program_loader(&self) -> ProgramLoader {
        ProgramLoader {
            shared_maps: self.pins.directory().to_path_buf(),
            inline: self.config.inline,
            log_reasons: self.config.log_reasons,
            transport: self.config.transport,
        }
    }

    /// Puts a loaded generation onto the mirror port in one step. If that fails, the running one stays.
    ///
    /// # Errors
    /// The kernel refuses the attachment.
    pub fn put(&mut self, loaded: Loaded) -> Result<(), LoadError> {
        let Loaded { mut ebpf, digest, generation: _ } = loaded;
        let log = if self.config.log_reasons { Some(ReasonLog::open(&mut ebpf)?) } else { None };
        if self.running.is_none() {
            self.pins.publish_rings(self.rings.len())?;
        }
        let program = object::program(&mut ebpf)?;
        match link::pinned(&self.pins.link())? {
            Some(link) => {
                program.attach_to_link(link).map_err(|error| LoadError::kernel("replace the program", error))?;
            }
            None => self.attach(program)?,
        }
        let info = program.info().map_err(|error| LoadError::kernel("read the program back", error))?;
        self.running = Some(Running {
            info: ProgramInfo {
                id: info.id(),
                tag: info.tag(),
                verified_instructions: info.verified_instruction_count(),
                digest,
                attach: self.config.attach,
            },
            log,
            _ebpf: ebpf,
        });
        Ok(())
    }

    /// Passes on the reason codes that the program logged since the last call, when [`TapConfig::log_reasons`] is set.
    pub fn flush_log(&mut self) {
        if let Some(log) = self.running.as_mut().and_then(|running| running.log.as_mut()) {
            log.flush();
        }
    }

    /// Writes the lease of a measure slot; a slot that is none is not written.
    pub fn set_lease(&self, slot: u32, lease: Lease) {
        if (slot as usize) < MEASURES_MAX {
            self.shared.set_lease(slot, lease);
        }
    }

    /// Writes the sampling threshold of a measure slot (see [`tap_common::path::sample::threshold`]). The kernel's default
    /// is 0: nothing is sampled before this was called.
    pub fn set_sampling(&self, slot: u32, threshold: u64) {
        if (slot as usize) < MEASURES_MAX {
            self.shared.set_sampling(slot, threshold);
        }
    }

    /// Writes a cap. The kernel's default is 0: nothing is admitted before this was called.
    pub fn set_cap(&self, slot: CapSlot, policy: CapPolicy) {
        match slot {
            CapSlot::Facility => self.shared.set_cap(FACILITY_BUCKET, policy),
            CapSlot::Measure(slot) if (slot as usize) < MEASURES_MAX => {
                self.shared.set_cap(FACILITY_BUCKET + 1 + slot, policy);
            }
            CapSlot::Measure(_) => {}
        }
    }

    /// Counters, summed over CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counters(&self) -> Result<Counters, LoadError> {
        sum(&self.pins.cpu()?)
    }

    /// One ring buffer per CPU, by CPU number.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn rings(&self) -> Result<Vec<OwnedFd>, LoadError> {
        self.rings
            .iter()
            .map(|ring| {
                ring.as_fd().try_clone_to_owned().map_err(|error| LoadError::Pin { what: "RINGS".into(), error })
            })
            .collect()
    }

    /// What identifies this set of maps.
    #[must_use]
    pub fn instance(&self) -> Instance {
        self.instance
    }

    /// The running program; `None` before the first [`Tap::swap`].
    #[must_use]
    pub fn program_info(&self) -> Option<&ProgramInfo> {
        self.running.as_ref().map(|running| &running.info)
    }

    /// Takes the program off the mirror port and removes every pin.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn detach(self) -> Result<(), LoadError> {
        self.pins.remove()
    }

    fn attach(&self, program: &mut aya::programs::Xdp) -> Result<(), LoadError> {
        let mode = match self.config.attach {
            Attach::Native => XdpMode::Driver,
            Attach::Generic => XdpMode::Skb,
        };
        let attach_error = |error: aya::programs::ProgramError| LoadError::Attach {
            interface: self.config.interface.clone(),
            attach: self.config.attach,
            error: Box::new(error),
        };
        let id = program.attach(&self.config.interface, mode).map_err(attach_error)?;
        let link = program.take_link(id).map_err(attach_error)?;
        let link = FdLink::try_from(link).map_err(|error| LoadError::kernel("pin the link", error))?;
        link.pin(self.pins.link()).map_err(|error| LoadError::kernel("pin the link", error))?;
        Ok(())
    }
}

/// Parameters of the bucket for `share_ppm` of a line of `capacity_bits_per_second`.
///
/// # Errors
/// The credit of an epoch does not fit the bucket's word, or is nothing at all.
pub fn cap_policy(capacity_bits_per_second: u64, share_ppm: u32) -> Result<CapPolicy, LoadError> {
    // Bits per second × 10^-6 × 10^-6 × nanoseconds / 8, in integers and rounded down.
    let bits =
        u128::from(capacity_bits_per_second) * u128::from(share_ppm) * u128::from(CREDIT_PPM) * u128::from(EPOCH_NS);
    let credit = bits / (u128::from(PPM) * u128::from(PPM) * 1_000_000_000 * 8);
    let epoch_credit_bytes = u64::try_from(credit)
        .ok()
        .filter(|credit| (1..1 << CREDIT_BITS).contains(credit))
        .ok_or(LoadError::Cap { capacity_bits_per_second, share_ppm })?;
    Ok(CapPolicy { epoch_credit_bytes, chunk_bytes: (epoch_credit_bytes / CHUNKS_PER_EPOCH).min(CHUNK_BYTES_MAX) })
}

/// Counters of a per-CPU map, summed.
pub(super) fn sum(cpu: &PerCpuArray<MapData, Plain<CpuState>>) -> Result<Counters, LoadError> {
    let states = cpu.get(&0, 0).map_err(|error| LoadError::map("CPU", error))?;
    let mut counters = Counters::default();
    states.iter().for_each(|Plain(state)| counters.add(&state.counters));
    Ok(counters)
}
