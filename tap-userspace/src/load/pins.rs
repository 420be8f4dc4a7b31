//! Pins: what of a tap outlives its agent, as files on a BPF file system.
//!
//! `<pin directory>/<interface>/`: the shared maps by name, `rings/<cpu>`, `link`.

use super::object::SHARED;
use super::plain::{Layout, Plain};
use super::shared::SharedMemory;
use super::{LoadError, link};
use aya::maps::{Array, ArrayOfMaps, Map, MapData, PerCpuArray};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use tap_common::abi::ABI_VERSION;
use tap_common::abi::cpu::CpuState;
use tap_common::abi::policy::{Instance, Shared};
use tap_common::limits::{CPUS_MAX, ring_bytes};

/// The agent may map the values into its memory (include/uapi/linux/bpf.h, Linux 5.5).
const BPF_F_MMAPABLE: u32 = 1 << 10;

/// The folder of one tap's pins.
pub(super) struct Pins {
    directory: PathBuf,
}

impl Pins {
    pub(super) fn open(pin_directory: &Path, interface: &str) -> Result<Self, LoadError> {
        let directory = pin_directory.join(interface);
        let rings = directory.join("rings");
        std::fs::create_dir_all(&rings).map_err(|error| pin_error(&rings, error))?;
        let pins = Self { directory };
        if !is_bpf_file_system(&pins.directory)? {
            pins.remove_directories()?;
            return Err(LoadError::NotBpfFileSystem { path: pin_directory.to_path_buf() });
        }
        Ok(pins)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn link(&self) -> PathBuf {
        self.directory.join("link")
    }

    /// The instance and the rings by CPU: an earlier agent's, or new ones.
    pub(super) fn make_or_take_over(&self) -> Result<(Instance, Vec<OwnedFd>), LoadError> {
        let cpus = aya::util::nr_cpus().map_err(|(path, error)| LoadError::Pin { what: path.into(), error })?;
        if cpus > CPUS_MAX {
            return Err(LoadError::TooManyCpus { cpus });
        }
        if !self.directory.join("INSTANCE").exists() {
            self.remove()?;
            std::fs::create_dir_all(self.directory.join("rings")).map_err(|error| pin_error(&self.directory, error))?;
            self.make(cpus)?;
        }
        let instance: Array<MapData, Plain<Instance>> = self.array("INSTANCE")?;
        let Plain(instance) = instance.get(&0, 0).map_err(|error| LoadError::map("INSTANCE", error))?;
        if instance.abi_version != ABI_VERSION {
            return Err(LoadError::AbiVersion { found: instance.abi_version, directory: self.directory.clone() });
        }
        let rings = (0..cpus).map(|cpu| self.ring(cpu)).collect::<Result<_, _>>()?;
        Ok((instance, rings))
    }

    /// Makes all shared maps. `INSTANCE` is pinned last: without it the others are void.
    fn make(&self, cpus: usize) -> Result<(), LoadError> {
        use aya_obj::generated::bpf_map_type as kind;
        self.pin(create("CPU", kind::BPF_MAP_TYPE_PERCPU_ARRAY, size_of::<CpuState>(), 0)?, "CPU")?;
        self.pin(create("SHARED", kind::BPF_MAP_TYPE_ARRAY, size_of::<Shared>(), BPF_F_MMAPABLE)?, "SHARED")?;
        for cpu in 0..cpus {
            self.pin(create_ring(ring_bytes(cpus))?, &format!("rings/{cpu}"))?;
        }
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| LoadError::Random { reason: error.to_string() })?;
        let instance = Instance { abi_version: ABI_VERSION, reserved: 0, id };
        let map = create("INSTANCE", kind::BPF_MAP_TYPE_ARRAY, size_of::<Instance>(), 0)?;
        let mut array = Array::<_, Plain<Instance>>::try_from(Map::Array(map))
            .map_err(|error| LoadError::map("INSTANCE", error))?;
        array.set(0, Plain(instance), 0).map_err(|error| LoadError::map("INSTANCE", error))?;
        array.pin(self.directory.join("INSTANCE")).map_err(|error| LoadError::kernel("pin INSTANCE", error))
    }

    /// Puts the CPUs' rings into the array of rings; the loader has made and pinned it with the first generation.
    pub(super) fn publish_rings(&self, rings: usize) -> Result<(), LoadError> {
        let outer = Map::ArrayOfMaps(self.map("RINGS")?);
        let mut outer: ArrayOfMaps<MapData, MapData> =
            ArrayOfMaps::try_from(outer).map_err(|error| LoadError::map("RINGS", error))?;
        for cpu in 0..rings {
            let ring = self.map(&format!("rings/{cpu}"))?;
            let index = u32::try_from(cpu).unwrap_or(u32::MAX);
            outer.set(index, &ring, 0).map_err(|error| LoadError::map("RINGS", error))?;
        }
        Ok(())
    }

    pub(super) fn array<T: Layout>(&self, name: &'static str) -> Result<Array<MapData, Plain<T>>, LoadError> {
        Array::try_from(Map::Array(self.map(name)?)).map_err(|error| LoadError::map(name, error))
    }

    /// The memory of the shared value.
    pub(super) fn shared(&self) -> Result<SharedMemory, LoadError> {
        SharedMemory::new(self.map("SHARED")?.fd().as_fd())
    }

    pub(super) fn cpu(&self) -> Result<PerCpuArray<MapData, Plain<CpuState>>, LoadError> {
        PerCpuArray::try_from(Map::PerCpuArray(self.map("CPU")?)).map_err(|error| LoadError::map("CPU", error))
    }

    /// Takes the program off the interface, then removes the link and the maps.
    pub(super) fn remove(&self) -> Result<(), LoadError> {
        link::take_off(&self.link())?;
        remove_if_there(&self.link())?;
        remove_if_there(&self.directory.join("INSTANCE"))?;
        for name in SHARED {
            remove_if_there(&self.directory.join(name))?;
        }
        let rings = self.directory.join("rings");
        if let Ok(entries) = std::fs::read_dir(&rings) {
            for entry in entries.flatten() {
                remove_if_there(&entry.path())?;
            }
        }
        self.remove_directories()
    }

    fn remove_directories(&self) -> Result<(), LoadError> {
        for directory in [self.directory.join("rings"), self.directory.clone()] {
            match std::fs::remove_dir(&directory) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(pin_error(&directory, error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn map(&self, name: &str) -> Result<MapData, LoadError> {
        MapData::from_pin(self.directory.join(name))
            .map_err(|error| LoadError::kernel("open a pinned map", format!("{name}: {error}")))
    }

    fn pin(&self, map: MapData, name: &str) -> Result<(), LoadError> {
        map.pin(self.directory.join(name)).map_err(|error| LoadError::kernel("pin a map", format!("{name}: {error}")))
    }

    fn ring(&self, cpu: usize) -> Result<OwnedFd, LoadError> {
        let name = format!("rings/{cpu}");
        let map = self.map(&name)?;
        map.fd().as_fd().try_clone_to_owned().map_err(|error| LoadError::Pin { what: name, error })
    }
}

/// A map of one element.
fn create(
    name: &'static str,
    kind: aya_obj::generated::bpf_map_type,
    value_bytes: usize,
    flags: u32,
) -> Result<MapData, LoadError> {
    let value_bytes = u32::try_from(value_bytes).map_err(|_large| LoadError::Missing { what: name })?;
    let map = aya_obj::Map::new_from_params(kind as u32, 4, value_bytes, 1, flags);
    MapData::create(map, name, None).map_err(|error| LoadError::map(name, error))
}

pub(super) fn create_ring(bytes: u32) -> Result<MapData, LoadError> {
    let kind = aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_RINGBUF as u32;
    let map = aya_obj::Map::new_from_params(kind, 0, 0, bytes, 0);
    MapData::create(map, "RING", None).map_err(|error| LoadError::map("RING", error))
}

fn remove_if_there(path: &Path) -> Result<(), LoadError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(pin_error(path, error)),
        _ => Ok(()),
    }
}

fn pin_error(path: &Path, error: std::io::Error) -> LoadError {
    LoadError::Pin { what: path.display().to_string(), error }
}

fn is_bpf_file_system(path: &Path) -> Result<bool, LoadError> {
    // include/uapi/linux/magic.h
    const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
    let status = nix::sys::statfs::statfs(path).map_err(|error| pin_error(path, error.into()))?;
    Ok(status.filesystem_type().0 == BPF_FS_MAGIC)
}
