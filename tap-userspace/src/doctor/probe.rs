//! Probe: reads a [`Machine`] from the running system.
//!
//! In: the configuration's file and how long to look at the mirror port. Out: what the checks judge. It reads and asks,
//! opens no key (their permissions only, but where a stream's servers are to be asked) and changes nothing.

use super::machine::{Certificate, Directory, KeyFile, Machine, Memory, Port, Seccomp, Unreadable};
use super::{ask, ethtool, netdev};
use crate::config::{Attach, Config, Mode};
use crate::limits::{DIRECTORY_BYTES_LEAST, SAMPLING_CHANGES_BYTES_MAX, SAMPLING_CHANGES_FILES, SPOOL_BYTES_MIN};
use crate::metrics::interface;
use caps::{CapSet, Capability};
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Reads the machine; `look` is how long the mirror port is watched for frames.
#[must_use]
pub fn machine(configuration: &Path, look: Duration) -> Machine {
    let clock = crate::clock::read().map_err(|error| error.to_string());
    let now_unix_s = clock.as_ref().map_or(0, |reading| (reading.unix_ns / 1_000_000_000).cast_signed());
    let config = Config::load(configuration).map_err(|error| error.to_string());
    let known = config.as_ref().ok();
    Machine {
        release: nix::sys::utsname::uname()
            .map_or_else(|error| error.to_string(), |name| name.release().to_string_lossy().into_owned()),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        jit: std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").ok(),
        landlock: landlock(),
        seccomp: seccomp(),
        cpus: aya::util::nr_cpus().unwrap_or(1),
        memory: memory(),
        clock,
        clock_not_required: known.is_some_and(Config::clock_not_required),
        swaps: read("/proc/swaps"),
        core_pattern: read("/proc/sys/kernel/core_pattern"),
        privilege: known.map(|config| config.privilege.clone()).unwrap_or_default(),
        bpf_file_system: known.map(|config| bpf_file_system(&config.mirror.pin_directory)),
        port: known.map(|config| port(config, look)),
        certificates: known.map(|config| certificates(config, now_unix_s)).unwrap_or_default(),
        keys: known.map(keys).unwrap_or_default(),
        directories: known.map(directories).unwrap_or_default(),
        streams: known.map(ask::streams).unwrap_or_default(),
        configuration: config.map(|_| configuration.to_owned()),
    }
}

fn read(file: &str) -> Result<String, Unreadable> {
    std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))
}

/// The kernel's version of Landlock (landlock_create_ruleset(2)).
fn landlock() -> u32 {
    const LANDLOCK_CREATE_RULESET_VERSION: libc::c_long = 1;
    let none = std::ptr::null::<libc::c_void>();
    let (size, flags): (libc::size_t, _) = (0, LANDLOCK_CREATE_RULESET_VERSION);
    // SAFETY: with this flag the call takes no attributes, makes nothing and returns a number.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, size, flags) };
    u32::try_from(version).unwrap_or(0)
}

fn seccomp() -> Seccomp {
    let actions = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    if actions.contains("errno") { Seccomp::Filter } else { Seccomp::None }
}

fn memory() -> Memory {
    let available = || {
        let text = std::fs::read_to_string("/proc/meminfo").ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
    };
    let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap_or((0, 0));
    let may = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    Memory {
        available_bytes: available(),
        lock_limit_bytes: (limit != RLIM_INFINITY).then_some(limit),
        may_lock: may(Capability::CAP_SYS_RESOURCE) || may(Capability::CAP_IPC_LOCK),
    }
}

fn bpf_file_system(pins: &Path) -> (PathBuf, bool) {
    let there =
        existing(pins).is_ok_and(|place| statfs(place).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC));
    (pins.to_owned(), there)
}

/// The path, or what of it is there.
fn existing(path: &Path) -> Result<&Path, Unreadable> {
    path.ancestors().find(|place| place.exists()).ok_or_else(|| format!("{}: no part of it is there", path.display()))
}

fn port(config: &Config, look: Duration) -> Result<Port, Unreadable> {
    let name = config.mirror.interface.as_str();
    let index = if_nametoindex(name).map_err(|error| format!("{name}: {error}"))?;
    let mut flags = InterfaceFlags::empty();
    let mut addresses = 0;
    for entry in nix::ifaddrs::getifaddrs().map_err(|error| format!("{name}: {error}"))? {
        if entry.interface_name == name {
            flags |= entry.flags;
            let ip = entry
                .address
                .is_some_and(|address| address.as_sockaddr_in().is_some() || address.as_sockaddr_in6().is_some());
            addresses += usize::from(ip);
        }
    }
    let (arrived, dropped) = watch(name, look);
    Ok(Port {
        name: name.to_owned(),
        driver: ethtool::driver(name),
        native: config.mirror.attach == Attach::Native,
        xdp: netdev::xdp(index),
        up: flags.contains(InterfaceFlags::IFF_UP),
        running: flags.contains(InterfaceFlags::IFF_RUNNING),
        promiscuous: flags.contains(InterfaceFlags::IFF_PROMISC) || config.mirror.transport.is_some(),
        addresses,
        queues: ethtool::queues(name),
        ring: ethtool::ring(name),
        arrived,
        dropped,
        mirror: config.mirror.mode == Mode::Mirror,
    })
}

/// Frames that arrive while somebody looks, and those the port drops meanwhile.
fn watch(name: &str, look: Duration) -> (Option<(u64, u64)>, u64) {
    if look.is_zero() {
        return (None, 0);
    }
    let before = interface::read(name);
    std::thread::sleep(look);
    let (Some(before), Some(after)) = (before, interface::read(name)) else { return (None, 0) };
    let milliseconds = u64::try_from(look.as_millis()).unwrap_or(u64::MAX);
    let arrived = after.receive_packets.saturating_sub(before.receive_packets);
    (Some((arrived, milliseconds)), after.receive_dropped.saturating_sub(before.receive_dropped))
}

fn certificates(config: &Config, now_unix_s: i64) -> Vec<Certificate> {
    let exports = config.measures.iter().map(|measure| &measure.export);
    let api = config.control.api.iter().flat_map(|api| [&api.ca_file, &api.certificate_file]);
    let files: BTreeSet<&PathBuf> =
        exports.flat_map(|export| [&export.ca_file, &export.certificate_file]).chain(api).collect();
    files.into_iter().map(|file| Certificate { file: file.clone(), period: period(file), now_unix_s }).collect()
}

/// When all certificates of the file are valid.
fn period(file: &Path) -> Result<(i64, i64), Unreadable> {
    let mut period: Option<(i64, i64)> = None;
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| error.to_string())? {
        let certificate = certificate.map_err(|error| error.to_string())?;
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|error| error.to_string())?;
        let (begins, ends) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
        period = Some(period.map_or((begins, ends), |(from, to)| (from.max(begins), to.min(ends))));
    }
    period.ok_or_else(|| "holds no certificate (PEM, `BEGIN CERTIFICATE`)".into())
}

fn keys(config: &Config) -> Vec<KeyFile> {
    let mut files = BTreeSet::from([&config.host.key_file, &config.host.sealing_key_file, &config.log.key_file]);
    for measure in &config.measures {
        files.extend([&measure.pseudonym_key_file, &measure.spool.key_file, &measure.export.key_file]);
    }
    files.extend(config.control.api.iter().map(|api| &api.key_file));
    let mode = |file: &Path| Ok(std::fs::metadata(file)?.permissions().mode());
    let key = |file: &PathBuf| KeyFile {
        file: file.clone(),
        mode: mode(file).map_err(|error: std::io::Error| error.to_string()),
    };
    files.into_iter().map(key).collect()
}

fn directories(config: &Config) -> Vec<Directory> {
    let changes = SAMPLING_CHANGES_BYTES_MAX.saturating_mul(SAMPLING_CHANGES_FILES as u64);
    let mut directories = vec![
        directory("state.directory", &config.state.directory, DIRECTORY_BYTES_LEAST, changes),
        directory("log.directory", &config.log.directory, DIRECTORY_BYTES_LEAST, DIRECTORY_BYTES_LEAST),
    ];
    for (index, measure) in config.measures.iter().enumerate() {
        let spool = &measure.spool;
        let key = format!("measure[{index}].spool.directory");
        directories.push(directory(&key, &spool.directory, SPOOL_BYTES_MIN, spool.bytes_max));
    }
    directories
}

fn directory(key: &str, path: &Path, least_bytes: u64, most_bytes: u64) -> Directory {
    let free = |place: &Path| {
        let disk = nix::sys::statvfs::statvfs(place).map_err(|error| format!("{}: {error}", place.display()))?;
        Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
    };
    let free_bytes = existing(path).and_then(free);
    Directory {
        key: key.to_owned(),
        path: path.to_owned(),
        free_bytes,
        least_bytes,
        most_bytes: most_bytes.max(least_bytes),
    }
}
