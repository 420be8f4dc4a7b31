//! The laboratory's program: the kernel's decisions about single frames, by `BPF_PROG_TEST_RUN`.
//!
//! Its clock is injected and every decision is shown in a map, so it is attached nowhere, and only the laboratory verbs
//! and the tests can make one.

use super::host::{HostWorld, LaboratoryConfig};
use super::object::{self, Constants};
use super::plain::Plain;
use super::shared::SharedMemory;
use super::{Laboratory, LoadError, Observation, Tables};
use aya::Ebpf;
use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::{TestRun, TestRunOptions};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;
use tap_common::abi::counter::Counters;
use tap_common::abi::cpu::CpuState;
use tap_common::abi::policy::{CapPolicy, FACILITY_BUCKET, Lease};
use tap_common::limits::MEASURES_MAX;
use tap_common::path::verdict::Decision;

/// The shortest frame `BPF_PROG_TEST_RUN` takes: an Ethernet header (net/bpf/test_run.c).
const TEST_RUN_BYTES_MIN: usize = 14;
/// The longest: a page without headroom and tail, and 17 pages of fragments (`MAX_SKB_FRAGS`; some kernels take more).
const TEST_RUN_BYTES_MAX: usize = 3_520 + 17 * 4_096;

/// A laboratory program in the kernel.
pub struct KernelWorld<'a> {
    ebpf: Ebpf,
    clock: Array<MapData, u64>,
    shared: SharedMemory,
    cpu: PerCpuArray<MapData, Plain<CpuState>>,
    shown: Array<MapData, Plain<Decision>>,
    host: HostWorld<'a>,
}

impl<'a> KernelWorld<'a> {
    /// Loads the program over `tables`, attached nowhere.
    ///
    /// # Errors
    /// No privilege, or the kernel refuses the program; each says so.
    pub fn new(tables: &'a Tables, config: LaboratoryConfig) -> Result<Self, LoadError> {
        let constants = Constants {
            laboratory: true,
            inline: false,
            sampling: config.sampling,
            cap: config.cap,
            log_reasons: false,
            generation: 0,
            transport: config.transport,
        };
        let mut ebpf = object::load(tables, constants, None)?;
        let shared = object::shared(&mut ebpf)?;
        for (slot, threshold) in (0..).zip(tables.sampling_thresholds) {
            shared.set_lease(slot, config.lease);
            shared.set_sampling(slot, threshold);
            shared.set_cap(FACILITY_BUCKET + 1 + slot, config.measure_cap_policy);
        }
        shared.set_cap(FACILITY_BUCKET, config.cap_policy);
        let clock = ebpf.take_map("CLOCK").ok_or(LoadError::Missing { what: "CLOCK" })?;
        let clock = Array::try_from(clock).map_err(|error| LoadError::map("CLOCK", error))?;
        let cpu = ebpf.take_map("CPU").ok_or(LoadError::Missing { what: "CPU" })?;
        let cpu = PerCpuArray::try_from(cpu).map_err(|error| LoadError::map("CPU", error))?;
        let shown = object::array(&mut ebpf, "SHOWN")?;
        Ok(Self { ebpf, clock, shared, cpu, shown, host: HostWorld::new(tables, config) })
    }

    /// Sets the parameters of a measure's own bucket.
    pub fn set_slot_cap(&mut self, slot: u32, policy: CapPolicy) {
        self.host.set_slot_cap(slot, policy);
        if (slot as usize) < MEASURES_MAX {
            self.shared.set_cap(FACILITY_BUCKET + 1 + slot, policy);
        }
    }

    /// Runs the program `repeat` times over one frame; the kernel's mean duration of one run, in whole nanoseconds.
    ///
    /// # Errors
    /// The kernel refuses the run.
    pub fn measure(&mut self, frame: &[u8], repeat: u32) -> Result<Duration, LoadError> {
        let program = object::program(&mut self.ebpf)?;
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
        let result = program.test_run(options).map_err(|error| LoadError::kernel("run the program", error))?;
        Ok(result.duration)
    }

    /// Counters of all CPUs.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counters(&self) -> Result<Counters, LoadError> {
        super::tap::sum(&self.cpu)
    }

    /// Bytes that the kernel says the generation's own maps take (`memlock` of a map's descriptor), and how many maps they
    /// are.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn table_memory(&self) -> Result<(u64, u64), LoadError> {
        let told = |error: &dyn std::fmt::Display| LoadError::kernel("read a map's memory", error);
        let program = self.ebpf.program("gwtap").ok_or(LoadError::Missing { what: "gwtap" })?;
        let aya::programs::Program::Xdp(program) = program else { return Err(LoadError::Missing { what: "gwtap" }) };
        let info = program.info().map_err(|error| told(&error))?;
        let ids = info.map_ids().map_err(|error| told(&error))?.unwrap_or_default();
        let (mut bytes, mut maps) = (0, 0);
        for id in ids {
            let map = aya::maps::MapInfo::from_id(id).map_err(|error| told(&error))?;
            if !map.name_as_str().is_some_and(object::is_table) {
                continue;
            }
            let descriptor = map.fd().map_err(|error| told(&error))?;
            let path = format!("/proc/self/fdinfo/{}", descriptor.as_fd().as_raw_fd());
            let text = std::fs::read_to_string(path).map_err(|error| told(&error))?;
            let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
            bytes += line.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0);
            maps += 1;
        }
        Ok((bytes, maps))
    }

    /// Instructions the verifier processed (Linux 5.16).
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn verified_instructions(&mut self) -> Result<Option<u32>, LoadError> {
        let info =
            object::program(&mut self.ebpf)?.info().map_err(|error| LoadError::kernel("read the program", error))?;
        Ok(info.verified_instruction_count())
    }
}

impl Laboratory for KernelWorld<'_> {
    /// Frames too short or too long for `BPF_PROG_TEST_RUN` are decided by the host's build: no driver hands XDP such a
    /// frame.
    fn decide(&mut self, frame: &[u8], now_ns: u64) -> Result<Observation, LoadError> {
        if !(TEST_RUN_BYTES_MIN..=TEST_RUN_BYTES_MAX).contains(&frame.len()) {
            return self.host.decide(frame, now_ns);
        }
        self.clock.set(0, now_ns, 0).map_err(|error| LoadError::map("CLOCK", error))?;
        self.measure(frame, 1)?;
        let Plain(decision) = self.shown.get(&0, 0).map_err(|error| LoadError::map("SHOWN", error))?;
        Ok(decision)
    }

    fn set_slot_lease(&mut self, slot: u32, lease: Lease) -> Result<(), LoadError> {
        self.host.set_slot_lease(slot, lease)?;
        if (slot as usize) < MEASURES_MAX {
            self.shared.set_lease(slot, lease);
        }
        Ok(())
    }
}
