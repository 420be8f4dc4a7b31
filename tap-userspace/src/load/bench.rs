//! The benchmark's programs in the kernel: the product's way behind a pool of flows, and the bare drop beside it.
//!
//! In: tables, a pool of flows, a frame. Out: runs of the programs, and their counters. The clock is the kernel's, sample and
//! cap are on: what is measured is what runs on a mirror port. Bounded by [`FLOWS_MAX`].

mod kernel_maps;

use kernel_maps::Entries;
pub use kernel_maps::KernelMaps;

use super::object::{self, Constants, Extra};
use super::plain::{Layout, Plain};
use super::{LoadError, Tables, pins};
use aya::Ebpf;
use aya::maps::{Array, ArrayOfMaps, MapData, PerCpuArray};
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use std::os::fd::{AsFd as _, OwnedFd};
use tap_common::abi::counter::Counters;
use tap_common::abi::cpu::CpuState;
use tap_common::abi::policy::{CapPolicy, FACILITY_BUCKET, Lease};

/// The programs as built by `cargo xtask build-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../tap-ebpf/bench.bpf.o");

/// Flows the pool holds at most.
pub const FLOWS_MAX: usize = 1 << 20;

/// Live frames that are sent before the receiver's turn: the kernel's own default, a quarter of a veth's queue.
const LIVE_BATCH: u32 = 64;

/// One flow of the pool: the first four bytes of each address, and the ports, as they lie in the frame.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Flow {
    addresses: [[u8; 4]; 2],
    ports: [[u8; 2]; 2],
}

impl Flow {
    /// A flow between two ends.
    #[must_use]
    pub fn new(source: [u8; 4], destination: [u8; 4], source_port: u16, destination_port: u16) -> Self {
        Self { addresses: [source, destination], ports: [source_port.to_be_bytes(), destination_port.to_be_bytes()] }
    }
}

/// A frame, and where a flow of the pool is written into it.
#[derive(Clone)]
pub struct Template {
    /// The frame.
    pub frame: Vec<u8>,
    /// Offset of the source address.
    pub source_at: u32,
    /// Offset of the destination address.
    pub destination_at: u32,
    /// Offset of the ports, behind both.
    pub ports_at: u32,
}

impl Template {
    /// Writes a flow into the frame, as the programs do.
    pub fn write(&mut self, flow: &Flow) {
        let [source, destination] = flow.addresses;
        let [one, other] = flow.ports;
        for (at, bytes) in [
            (self.source_at, source),
            (self.destination_at, destination),
            (self.ports_at, [one[0], one[1], other[0], other[1]]),
        ] {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            if let Some(place) = self.frame.get_mut(at..at.saturating_add(4)) {
                place.copy_from_slice(&bytes);
            }
        }
    }
}

impl Layout for Flow {}

/// Which program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `XDP_DROP` alone.
    Bare,
    /// The pool, then `XDP_DROP`.
    Base,
    /// The pool, then the product's way.
    Pooled,
    /// The product's way on the frame as given.
    Constant,
    /// The pool, then the product's way with the kernel's own maps of addresses.
    KernelMaps,
    /// The last records of this CPU once more.
    Again,
    /// The pool, then out of an interface.
    Generate,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Base => "base",
            Self::Pooled => "pooled",
            Self::Constant => "constant",
            Self::KernelMaps => "kernel_maps",
            Self::Again => "again",
            Self::Generate => "generate",
        }
    }
}

/// What the programs run over.
pub struct Setup<'a> {
    /// Programs that are loaded.
    pub programs: &'a [Program],
    /// The generation.
    pub tables: &'a Tables,
    /// The pool: a power of two of flows, [`FLOWS_MAX`] at most.
    pub flows: &'a [Flow],
    /// What they are written into.
    pub template: Template,
    /// The cap.
    pub cap_policy: CapPolicy,
    /// Index of the interface that [`Program::Generate`] sends out of.
    pub interface: u32,
    /// What [`Program::KernelMaps`] looks up.
    pub kernel_maps: Option<KernelMaps<'a>>,
}

/// The loaded programs over one set of tables.
pub struct Bench {
    ebpf: Ebpf,
    cpu: PerCpuArray<MapData, Plain<CpuState>>,
    rings: ArrayOfMaps<MapData, MapData>,
    cpus: usize,
    template: Template,
}

impl Bench {
    /// Loads the programs.
    ///
    /// # Errors
    /// No privilege, or the kernel refuses the programs.
    pub fn new(setup: Setup<'_>) -> Result<Self, LoadError> {
        let constants = Constants {
            laboratory: false,
            inline: false,
            sampling: true,
            cap: true,
            log_reasons: false,
            generation: 1,
            transport: None,
        };
        let elements = u32::try_from(setup.flows.len().next_power_of_two().min(FLOWS_MAX)).unwrap_or(1);
        let globals = [
            ("POOL_MASK", elements - 1),
            ("SOURCE_AT", setup.template.source_at),
            ("DESTINATION_AT", setup.template.destination_at),
            ("PORTS_AT", setup.template.ports_at),
            ("INTERFACE", setup.interface),
        ];
        let entries = Entries::of(setup.kernel_maps, setup.tables);
        let [addresses, prefixes, country] = entries.elements();
        let extra = Extra { globals: &globals, elements: &[("POOL", elements), addresses, prefixes, country] };
        let names: Vec<&'static str> = setup.programs.iter().map(|program| program.name()).collect();
        let mut ebpf = object::load_object(OBJECT, &names, setup.tables, constants, None, extra)?;
        let shared = object::shared(&mut ebpf)?;
        for (slot, threshold) in (0..).zip(setup.tables.sampling_thresholds) {
            shared.set_lease(slot, Lease { not_before_ns: 0, deadline_ns: u64::MAX });
            shared.set_sampling(slot, threshold);
        }
        shared.set_cap(FACILITY_BUCKET, setup.cap_policy);
        let mut pool: Array<MapData, Plain<Flow>> = object::array(&mut ebpf, "POOL")?;
        for (index, flow) in (0..elements).zip(setup.flows.iter().cycle()) {
            pool.set(index, Plain(*flow), 0).map_err(|error| LoadError::map("POOL", error))?;
        }
        entries.fill(&mut ebpf)?;
        let cpu = ebpf.take_map("CPU").ok_or(LoadError::Missing { what: "CPU" })?;
        let cpu = PerCpuArray::try_from(cpu).map_err(|error| LoadError::map("CPU", error))?;
        let rings = ebpf.take_map("RINGS").ok_or(LoadError::Missing { what: "RINGS" })?;
        let rings = ArrayOfMaps::try_from(rings).map_err(|error| LoadError::map("RINGS", error))?;
        let cpus = aya::util::nr_cpus().map_err(|(path, error)| LoadError::Pin { what: path.into(), error })?;
        Ok(Self { ebpf, cpu, rings, cpus, template: setup.template })
    }

    /// Counters of all CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counters(&self) -> Result<Counters, LoadError> {
        super::tap::sum(&self.cpu)
    }

    /// CPUs that have a ring.
    #[must_use]
    pub const fn cpus(&self) -> usize {
        self.cpus
    }

    /// Gives every CPU a fresh, empty ring of `bytes` bytes; returns them by CPU number.
    ///
    /// # Errors
    /// A map cannot be made.
    pub fn renew_rings(&mut self, bytes: u32) -> Result<Vec<OwnedFd>, LoadError> {
        let mut rings = Vec::new();
        for cpu in 0..self.cpus {
            let ring = pins::create_ring(bytes)?;
            let index = u32::try_from(cpu).unwrap_or(u32::MAX);
            self.rings.set(index, &ring, 0).map_err(|error| LoadError::map("RINGS", error))?;
            let ring = ring.fd().as_fd().try_clone_to_owned();
            rings.push(ring.map_err(|error| LoadError::Pin { what: "RINGS".into(), error })?);
        }
        Ok(rings)
    }

    /// Runs `program` `repeat` times; the kernel's mean duration of one run, in whole nanoseconds.
    ///
    /// # Errors
    /// The kernel refuses the run.
    pub fn run(&self, program: Program, repeat: u32) -> Result<u64, LoadError> {
        self.test_run(program, repeat, TestRunAttrs::new())
    }

    /// Sends `repeat` frames out of the interface, through [`Program::Generate`].
    ///
    /// # Errors
    /// The kernel refuses the run.
    pub fn generate(&self, repeat: u32) -> Result<(), LoadError> {
        self.test_run(Program::Generate, repeat, TestRunAttrs::new().xdp_live_frames(LIVE_BATCH)).map(drop)
    }

    /// Puts `program` onto an interface, in the driver, for as long as the value lives.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn attach(&mut self, program: Program, interface: &str) -> Result<(), LoadError> {
        let program = object::program_named(&mut self.ebpf, program.name())?;
        let attached = program.attach(interface, XdpMode::Driver);
        attached.map(drop).map_err(|error| LoadError::kernel("attach the program", error))
    }

    fn test_run(&self, program: Program, repeat: u32, attrs: TestRunAttrs) -> Result<u64, LoadError> {
        let name = program.name();
        let program = self.ebpf.program(name).ok_or(LoadError::Missing { what: name })?;
        let program: &Xdp = program.try_into().map_err(|error| LoadError::kernel("use the program", error))?;
        let options = TestRunOptions { data_in: Some(&self.template.frame), repeat, attrs, ..TestRunOptions::new() };
        let result = program.test_run(options).map_err(|error| LoadError::kernel("run the program", error))?;
        Ok(u64::try_from(result.duration.as_nanos()).unwrap_or(u64::MAX))
    }
}
