//! Machine: what the checks judge, as one value. In: nothing. Out: types. An answer that could not be had is `None`, or the
//! system's reason, and never a guess.

use crate::clock::Reading;
use crate::privilege::Privilege;
use std::path::PathBuf;

/// Why something could not be read.
pub type Unreadable = String;

/// A machine that is to carry a tap.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The kernel's release, as `uname -r` says it.
    pub release: String,
    /// `/sys/kernel/btf/vmlinux` is there.
    pub btf: bool,
    /// `net.core.bpf_jit_enable`; none where the kernel has no such switch (it is always on then).
    pub jit: Option<String>,
    /// Version of Landlock; 0 without.
    pub landlock: u32,
    /// What seccomp can do.
    pub seccomp: Seccomp,
    /// Processors that the kernel may ever have, which is what rings are made for.
    pub cpus: usize,
    /// Memory and what limits it.
    pub memory: Memory,
    /// The clock.
    pub clock: Result<Reading, Unreadable>,
    /// The configuration tolerates a clock that is not synchronised.
    pub clock_not_required: bool,
    /// `/proc/swaps`
    pub swaps: Result<String, Unreadable>,
    /// `/proc/sys/kernel/core_pattern`
    pub core_pattern: Result<String, Unreadable>,
    /// What the configuration allows in writing.
    pub privilege: Privilege,
    /// The configuration's file, or why it is none.
    pub configuration: Result<PathBuf, Unreadable>,
    /// A BPF file system lies at the pin directory, or above it where it is not there yet; none without a configuration.
    pub bpf_file_system: Option<(PathBuf, bool)>,
    /// The mirror port, or why it cannot be looked at; none without a configuration.
    pub port: Option<Result<Port, Unreadable>>,
    /// Certificates that are configured.
    pub certificates: Vec<Certificate>,
    /// Secret keys that are configured.
    pub keys: Vec<KeyFile>,
    /// Directories that are written to.
    pub directories: Vec<Directory>,
    /// Streams that measures publish to.
    pub streams: Vec<StreamOf>,
}

/// Whether system calls can be filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seccomp {
    /// By programs.
    Filter,
    /// Not at all.
    None,
}

/// Memory.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// `MemAvailable`, bytes; none where it cannot be read.
    pub available_bytes: Option<u64>,
    /// The limit of locked memory, bytes; none: no limit.
    pub lock_limit_bytes: Option<u64>,
    /// The caller may raise or ignore it.
    pub may_lock: bool,
}

/// The mirror port.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Name of its driver, where it has one.
    pub driver: Option<String>,
    /// The configuration wants XDP in the driver.
    pub native: bool,
    /// What the kernel says of XDP in the driver.
    pub xdp: Xdp,
    /// It is administratively up.
    pub up: bool,
    /// Its line is there.
    pub running: bool,
    /// It takes frames for other hosts.
    pub promiscuous: bool,
    /// IP addresses on it.
    pub addresses: usize,
    /// Its receive queues; none where the driver does not say.
    pub queues: Option<Queues>,
    /// Its receive ring; none where the driver does not say.
    pub ring: Option<ReceiveRing>,
    /// Frames that arrived while the probe looked, and how long that was in milliseconds; none: it did not look.
    pub arrived: Option<(u64, u64)>,
    /// Frames dropped by the port meanwhile.
    pub dropped: u64,
    /// The configuration's mode is the one for copies.
    pub mirror: bool,
}

/// What the kernel says of XDP in a port's driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Xdp {
    /// The driver has it.
    Driver,
    /// The driver has not.
    None,
    /// The kernel has no way to say it (before Linux 6.3).
    Unknown,
}

/// Receive queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queues {
    /// In use.
    pub used: u32,
    /// At most.
    pub most: u32,
}

/// Slots of one receive ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveRing {
    /// In use.
    pub used: u32,
    /// At most.
    pub most: u32,
}

/// A certificate of the configuration.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Its file.
    pub file: PathBuf,
    /// When it begins and ends, seconds since 1970; of several in the file the narrowest.
    pub period: Result<(i64, i64), Unreadable>,
    /// UTC now, in the same.
    pub now_unix_s: i64,
}

/// A secret key of the configuration.
#[derive(Clone, Debug)]
pub struct KeyFile {
    /// Its file.
    pub file: PathBuf,
    /// Its permission bits.
    pub mode: Result<u32, Unreadable>,
}

/// A directory that is written to.
#[derive(Clone, Debug)]
pub struct Directory {
    /// What is written there, as the configuration names it.
    pub key: String,
    /// Where.
    pub path: PathBuf,
    /// Free bytes for the caller, there or where it would be made.
    pub free_bytes: Result<u64, Unreadable>,
    /// Bytes without which it fails.
    pub least_bytes: u64,
    /// Bytes that it may come to take.
    pub most_bytes: u64,
}

/// The stream of a measure that publishes to one.
#[derive(Clone, Debug)]
pub struct StreamOf {
    /// Its export, as the configuration names it.
    pub key: String,
    /// The stream's name.
    pub stream: String,
    /// Its servers, the preferred one first; or why none can be asked.
    pub servers: Result<Vec<StreamServer>, Unreadable>,
}

/// One server of a stream, as it answered.
#[derive(Clone, Debug)]
pub struct StreamServer {
    /// `host:port`.
    pub endpoint: String,
    /// What it said of the stream.
    pub answer: StreamAnswer,
}

/// What a server says of a stream.
#[derive(Clone, Debug)]
pub enum StreamAnswer {
    /// It is one that may be published to.
    Good,
    /// It would lose what it acknowledged, is not there, or may not be asked for.
    Bad(Unreadable),
    /// No connection as the configuration wants it.
    Unreachable(Unreadable),
}
