//! Small disks: a file system in memory with little room, so that "disk full" is the kernel's own answer. In: a directory and a
//! size. Out: a mount in the calling thread's mount namespace, which ends with that namespace at the latest.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// A small disk over a directory, until it is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    directory: PathBuf,
}

impl SmallDisk {
    /// Mounts `kib` KiB of room over `directory` where the calling thread lives.
    ///
    /// # Errors
    /// Without root, or a kernel without tmpfs.
    pub fn new(directory: &Path, kib: u64) -> Result<Self> {
        std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), Some(options(kib).as_str()))
            .with_context(|| format!("a tmpfs on {}", directory.display()))?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// Gives it another size, with what is on it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn resize(&self, kib: u64) -> Result<()> {
        let none = None::<&str>;
        mount(none, &self.directory, none, MsFlags::MS_REMOUNT, Some(options(kib).as_str()))
            .with_context(|| format!("another size of {}", self.directory.display()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What is left ends with the mount namespace.
        umount2(&self.directory, MntFlags::MNT_DETACH).ok();
    }
}

fn options(kib: u64) -> String {
    format!("size={kib}k,mode=0700")
}

/// Gives the calling thread mounts of its own; processes that it starts see them, nobody else does.
///
/// # Errors
/// Without root.
pub fn own_mounts() -> Result<()> {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).context("a mount namespace needs root")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("keeping mounts private (the root directory must be a mount point)")
}
