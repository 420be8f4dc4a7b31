//! The benchmark's programs in the kernel: the product's way behind a pool of flows, and the bare drop beside it.
//!
//! The clock is the kernel's, sample and cap are on: what is measured is what runs on a mirror port. The kernel's own
//! `duration` of `BPF_PROG_TEST_RUN` is the clock of the measurement, a whole number of nanoseconds for each run.

use super::object::{self, Constants};
use super::plain::{Layout, Plain};
use super::{LoadError, Tables, pins};
use aya::Ebpf;
use aya::maps::{Array, ArrayOfMaps, MapData};
use aya::programs::{TestRun as _, TestRunOptions};
use std::net::Ipv4Addr;
use tap_common::abi::policy::{CapPolicy, Lease};

/// The programs as built by `cargo xtask build-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../tap-ebpf/bench.bpf.o");

/// Flows the pool holds at most.
pub const FLOWS_MAX: usize = 65_536;

/// One flow of the pool.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Flow {
    addresses: [[u8; 4]; 2],
    ports: [[u8; 2]; 2],
}

impl Flow {
    /// A flow between two ends.
    #[must_use]
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr, source_port: u16, destination_port: u16) -> Self {
        Self {
            addresses: [source.octets(), destination.octets()],
            ports: [source_port.to_be_bytes(), destination_port.to_be_bytes()],
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
}

impl Program {
    const ALL: [&'static str; 4] = ["bare", "base", "pooled", "constant"];

    fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Base => "base",
            Self::Pooled => "pooled",
            Self::Constant => "constant",
        }
    }
}

/// The loaded programs over one set of tables.
pub struct Bench {
    ebpf: Ebpf,
    rings: ArrayOfMaps<MapData, MapData>,
    cpus: usize,
}

impl Bench {
    /// Loads the programs with a pool of `flows` (a power of two of them, [`FLOWS_MAX`] at most).
    ///
    /// # Errors
    /// No privilege, or the kernel refuses the programs.
    pub fn new(tables: &Tables, flows: &[Flow], cap_policy: CapPolicy) -> Result<Self, LoadError> {
        let constants = Constants {
            laboratory: false,
            inline: false,
            sampling: true,
            cap: true,
            log_reasons: false,
            generation: 1,
        };
        let mut ebpf = object::load_object(OBJECT, &Program::ALL, tables, constants, None)?;
        let mut lease: Array<MapData, Plain<Lease>> = object::array(&mut ebpf, "LEASE")?;
        let always = Lease { not_before_ns: 0, deadline_ns: u64::MAX };
        lease.set(0, Plain(always), 0).map_err(|error| LoadError::map("LEASE", error))?;
        let mut cap: Array<MapData, Plain<CapPolicy>> = object::array(&mut ebpf, "CAP_POLICY")?;
        cap.set(0, Plain(cap_policy), 0).map_err(|error| LoadError::map("CAP_POLICY", error))?;
        let mut pool: Array<MapData, Plain<Flow>> = object::array(&mut ebpf, "POOL")?;
        // The pool is filled to its end, so that any smaller power of two of flows repeats evenly.
        for (index, flow) in (0..).zip(flows.iter().cycle().take(FLOWS_MAX)) {
            pool.set(index, Plain(*flow), 0).map_err(|error| LoadError::map("POOL", error))?;
        }
        let rings = ebpf.take_map("RINGS").ok_or(LoadError::Missing { what: "RINGS" })?;
        let rings = ArrayOfMaps::try_from(rings).map_err(|error| LoadError::map("RINGS", error))?;
        let cpus = aya::util::nr_cpus().map_err(|(path, error)| LoadError::Pin { what: path.into(), error })?;
        Ok(Self { ebpf, rings, cpus })
    }

    /// Gives every CPU a fresh, empty ring.
    ///
    /// # Errors
    /// A map cannot be made.
    pub fn renew_rings(&mut self) -> Result<(), LoadError> {
        for cpu in 0..self.cpus {
            let ring = pins::create_ring()?;
            let index = u32::try_from(cpu).unwrap_or(u32::MAX);
            self.rings.set(index, &ring, 0).map_err(|error| LoadError::map("RINGS", error))?;
        }
        Ok(())
    }

    /// Mean nanoseconds of one run of `program` over `frame`, of `repeat` runs.
    ///
    /// # Errors
    /// The kernel refuses the run.
    pub fn measure(&mut self, program: Program, frame: &[u8], repeat: u32) -> Result<u64, LoadError> {
        let program = object::program_named(&mut self.ebpf, program.name())?;
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
        let result = program.test_run(options).map_err(|error| LoadError::kernel("run the program", error))?;
        Ok(u64::try_from(result.duration.as_nanos()).unwrap_or(u64::MAX))
    }
}
