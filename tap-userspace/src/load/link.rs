//! Link: what holds the program on its mirror port, pinned so that it outlives an agent that was killed.

use super::LoadError;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use nix::errno::Errno;
use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The link that is pinned there, if one is, for giving it the next program.
pub(super) fn pinned(path: &Path) -> Result<Option<XdpLink>, LoadError> {
    if !path.exists() {
        return Ok(None);
    }
    let link = PinnedLink::from_pin(path).map_err(|error| LoadError::kernel("open the pinned link", error))?;
    let link =
        XdpLink::try_from(FdLink::from(link)).map_err(|error| LoadError::kernel("use the pinned link", error))?;
    Ok(Some(link))
}

/// Takes the program of the link that is pinned there off its port; without such a link there is nothing to do.
///
/// When this returns, no packet meets the program any more. Removing the pin is not enough for that: the kernel drops a
/// pin's reference some time later, and a reference that anybody else holds keeps the program on the port.
pub(super) fn take_off(path: &Path) -> Result<(), LoadError> {
    let failed = |error: Errno| LoadError::kernel("take the program off the port", error);
    match open(path) {
        Err(Errno::ENOENT) => Ok(()),
        opened => opened.and_then(|link| detach(&link)).map_err(failed),
    }
}

/// `BPF_OBJ_GET` (Linux 4.4). The links of aya do not show their descriptors.
fn open(path: &Path) -> Result<OwnedFd, Errno> {
    const BPF_OBJ_GET: libc::c_int = 7;
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_nul| Errno::EINVAL)?;
    // The beginning of `union bpf_attr`: the address of the path; what is behind it counts as 0.
    let attributes: [u64; 1] = [path.as_ptr().expose_provenance() as u64];
    // SAFETY: the call reads the given number of bytes at the given address, and the path there to its end.
    let opened = unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET, attributes.as_ptr(), size_of_val(&attributes)) };
    let descriptor = RawFd::try_from(Errno::result(opened)?).map_err(|_large| Errno::EBADF)?;
    // SAFETY: the kernel has just made the descriptor for this call, so nobody else closes it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// `BPF_LINK_DETACH` (Linux 5.9).
fn detach(link: &OwnedFd) -> Result<(), Errno> {
    const BPF_LINK_DETACH: libc::c_int = 34;
    // The beginning of `union bpf_attr`: the descriptor; what is behind it counts as 0.
    let attributes: [i32; 1] = [link.as_raw_fd()];
    // SAFETY: the call reads the given number of bytes at the given address.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_LINK_DETACH, attributes.as_ptr(), size_of_val(&attributes)) };
    Errno::result(result).map(drop)
}
