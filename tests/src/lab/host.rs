//! A host of the laboratory: a network namespace of its own and, for a host that loads BPF, a mount namespace with its own
//! `/sys` and `/sys/fs/bpf`. In: a name. Out: commands, threads and processes inside. Neither namespace has a name on disk:
//! descriptors hold them, so they vanish with this process, also when it is killed. What bounds it: the caller's lifetime.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

/// One host of the laboratory. Clones share the namespaces; they end with the last clone.
#[derive(Clone, Debug)]
pub struct Host {
    name: &'static str,
    net: Arc<OwnedFd>,
    files: Option<Arc<Files>>,
}

/// A mount namespace and the root directory seen inside it.
#[derive(Debug)]
struct Files {
    namespace: OwnedFd,
    root: OwnedFd,
}

impl Host {
    /// A host with a network of its own, its loopback up.
    ///
    /// # Errors
    /// Without root, or where the kernel has no network namespaces.
    pub fn new(name: &'static str) -> Result<Self> {
        Self::build(name, false)
    }

    /// A host that also has its own `/sys` (its interfaces alone) and BPF file system, so that what is pinned there ends with it.
    ///
    /// # Errors
    /// As [`Host::new`], or where the BPF file system cannot be mounted.
    pub fn with_bpf(name: &'static str) -> Result<Self> {
        Self::build(name, true)
    }

    fn build(name: &'static str, bpf: bool) -> Result<Self> {
        // A thread of its own leaves this process's namespaces and ends; the descriptors keep what it made.
        let (net, files) = std::thread::spawn(move || -> Result<_> {
            unshare(CloneFlags::CLONE_NEWNET).context("a network namespace needs root")?;
            let net = OwnedFd::from(File::open("/proc/thread-self/ns/net")?);
            let files = if bpf { Some(own_files()?) } else { None };
            Ok((net, files))
        })
        .join()
        .map_err(|_panic| anyhow!("the thread that made host {name} panicked"))??;
        let host = Self { name, net: Arc::new(net), files: files.map(Arc::new) };
        host.run("ip", ["link", "set", "lo", "up"])?;
        Ok(host)
    }

    /// Its name, for messages.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// A path that names its network namespace for `ip link … netns`.
    #[must_use]
    pub fn net_path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.net.as_raw_fd())
    }

    /// Runs `work` inside on a thread of its own and waits for it.
    ///
    /// # Errors
    /// Where the namespace cannot be entered, or `work` panicked.
    pub fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R> {
        std::thread::scope(|scope| {
            scope
                .spawn(|| -> Result<R> {
                    self.move_in()?;
                    Ok(work())
                })
                .join()
                .map_err(|_panic| anyhow!("a thread on host {} panicked", self.name))?
        })
    }

    /// Starts `work` inside on a thread of its own. It must end by itself; dropping the handle does not end it.
    ///
    /// # Errors
    /// Where no thread can be made. That the namespace cannot be entered comes out of the handle.
    pub fn spawn<R: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> Result<R> + Send + 'static,
    ) -> Result<JoinHandle<Result<R>>> {
        let host = self.clone();
        let thread = std::thread::Builder::new().name(format!("{}-{name}", self.name));
        Ok(thread.spawn(move || {
            host.move_in()?;
            work()
        })?)
    }

    fn move_in(&self) -> Result<()> {
        if self.files.is_some() {
            // A thread shares its root directory with its process until it says otherwise; setns(2) asks for that.
            unshare(CloneFlags::CLONE_FS).context("leaving the shared root directory")?;
        }
        Inside::of(self).move_in().with_context(|| format!("entering host {}", self.name))
    }

    /// A command that will run inside. The child is killed when the thread that starts it ends: nothing outlives a test.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let inside = Inside::of(self);
        // SAFETY: between fork and exec the closure makes system calls on plain descriptors only; it allocates nothing
        // and takes no lock. `self` outlives the start of the command wherever the crate uses it, and a closed descriptor
        // would fail the start, nothing else.
        unsafe {
            command.pre_exec(move || {
                inside.move_in()?;
                nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
                Ok(())
            })
        };
        command
    }

    /// Runs a short command inside; gives what it printed.
    ///
    /// # Errors
    /// Where it does not start or ends with a failure; its own message is part of the error.
    pub fn run<S: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = S>) -> Result<String> {
        let mut command = self.command(program);
        command.args(args);
        let output = command.output().with_context(|| format!("{program} on host {} (is it installed?)", self.name))?;
        if !output.status.success() {
            let line: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{program} {} on host {}: {}", line.join(" "), self.name, said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The descriptors of a host, plain numbers for use between fork and exec.
#[derive(Clone, Copy)]
struct Inside {
    net: RawFd,
    files: Option<(RawFd, RawFd)>,
}

impl Inside {
    fn of(host: &Host) -> Self {
        let files = host.files.as_ref().map(|files| (files.namespace.as_raw_fd(), files.root.as_raw_fd()));
        Self { net: host.net.as_raw_fd(), files }
    }

    fn move_in(self) -> nix::Result<()> {
        enter(self.net, CloneFlags::CLONE_NEWNET)?;
        if let Some((namespace, root)) = self.files {
            enter(namespace, CloneFlags::CLONE_NEWNS)?;
            // Entering a mount namespace sets the root directory to its topmost mount; where this process lives in a
            // chroot, that is another one.
            change_root(root)?;
        }
        Ok(())
    }
}

fn enter(descriptor: RawFd, kind: CloneFlags) -> nix::Result<()> {
    // SAFETY: the host holds the descriptor open for as long as it lives; a closed one gives EBADF here, nothing worse.
    let descriptor = unsafe { std::os::fd::BorrowedFd::borrow_raw(descriptor) };
    setns(descriptor, kind)
}

fn change_root(root: RawFd) -> nix::Result<()> {
    // SAFETY: as in `enter`.
    let root = unsafe { std::os::fd::BorrowedFd::borrow_raw(root) };
    nix::unistd::fchdir(root)?;
    nix::unistd::chroot(c".")
}

fn own_files() -> Result<Files> {
    unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace needs root")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("keeping mounts private (the root directory must be a mount point)")?;
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // A fresh sysfs shows the interfaces of the network namespace it is mounted from.
    mount(Some("sysfs"), "/sys", Some("sysfs"), plain, none).context("mounting /sys")?;
    mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), plain, none)
        .context("mounting /sys/fs/bpf (the kernel needs CONFIG_BPF_SYSCALL)")?;
    let namespace = OwnedFd::from(File::open("/proc/thread-self/ns/mnt")?);
    let root = OwnedFd::from(File::open("/")?);
    Ok(Files { namespace, root })
}
