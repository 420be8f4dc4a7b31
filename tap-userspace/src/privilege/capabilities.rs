//! Capabilities: a process keeps what it is named for, in every set, and cannot get any other again.

use super::PrivilegeError;
use super::memory::Unlimited;
use caps::{CapSet, Capability, CapsHashSet};

/// What a process keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// `CAP_BPF`, `CAP_NET_ADMIN` and `CAP_PERFMON`: loading the program and putting it onto the mirror port.
    Tap,
    /// `CAP_NET_BIND_SERVICE`: a receiving facility that listens on a port below 1024.
    LowPort,
}

impl Keep {
    fn capabilities(self) -> CapsHashSet {
        match self {
            Self::Nothing => CapsHashSet::new(),
            Self::Tap => {
                [Capability::CAP_BPF, Capability::CAP_NET_ADMIN, Capability::CAP_PERFMON].into_iter().collect()
            }
            Self::LowPort => [Capability::CAP_NET_BIND_SERVICE].into_iter().collect(),
        }
    }
}

/// Drops every other capability of this thread, and of threads and programs that it starts; `CAP_IPC_LOCK` stays where
/// locked memory has a limit.
///
/// # Errors
/// The kernel refuses.
pub fn keep_only(keep: Keep, unlimited: Unlimited) -> Result<(), PrivilegeError> {
    let refused = |step| move |error: caps::errors::CapsError| PrivilegeError::system(step, error);
    let mut keep = keep.capabilities();
    if unlimited == Unlimited::ByCapability {
        keep.insert(Capability::CAP_IPC_LOCK);
    }
    caps::clear(None, CapSet::Ambient).map_err(refused("clearing ambient capabilities"))?;
    let permitted = caps::read(None, CapSet::Permitted).map_err(refused("reading capabilities"))?;
    // The bounding set first, while the right to lower it is there; who never had the right has none of the others either.
    if permitted.contains(&Capability::CAP_SETPCAP) {
        for capability in caps::runtime::thread_all_supported() {
            if !keep.contains(&capability) {
                caps::drop(None, CapSet::Bounding, capability).map_err(refused("lowering the bounding set"))?;
            }
        }
    }
    let kept: CapsHashSet = permitted.intersection(&keep).copied().collect();
    caps::clear(None, CapSet::Inheritable).map_err(refused("clearing inheritable capabilities"))?;
    caps::set(None, CapSet::Effective, &kept).map_err(refused("lowering effective capabilities"))?;
    caps::set(None, CapSet::Permitted, &kept).map_err(refused("lowering permitted capabilities"))
}
