//! Reach: the files and TCP ports that a process can name from now on, held by the kernel (Landlock).
//!
//! In: directories and ports, from the configuration. Out: this thread, and every one it starts, reaches nothing else.
//! Directories, because files are renamed into their places and are read again while the program runs. Bound: a directory
//! that is neither there nor can be made is out of reach, and the step that wants it says so.

use super::{Privilege, PrivilegeError};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, NetPort, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus,
};
use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Files: the version that every supported kernel has (5.13; Debian 12's 6.1 has the second).
const LEAST: ABI = ABI::V1;
/// What newer kernels hold beside it: truncation (6.2), TCP ports (6.7), device controls (6.10).
const KNOWN: ABI = ABI::V5;

/// Names that are no addresses are looked up with these.
const LOOKUP: [&str; 7] = [
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/run/systemd/resolve",
];
const DNS_PORT: u16 = 53;

/// What a process reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    made: BTreeSet<PathBuf>,
    read: BTreeSet<PathBuf>,
    write: BTreeSet<PathBuf>,
    listen: BTreeSet<u16>,
    connect: BTreeSet<u16>,
}

impl Reach {
    /// A file or directory of the system, with all that is in it.
    #[must_use]
    pub fn system(mut self, path: &str) -> Self {
        self.read.insert(path.into());
        self
    }

    /// The directory of a file that is read, and the one of what it links to.
    #[must_use]
    pub fn file(mut self, file: &Path) -> Self {
        let linked = std::fs::canonicalize(file).ok();
        for file in linked.as_deref().into_iter().chain([file]) {
            self.read.insert(directory_of(file).to_owned());
        }
        self
    }

    /// Several of them.
    #[must_use]
    pub fn files<'a>(self, files: impl IntoIterator<Item = &'a Path>) -> Self {
        files.into_iter().fold(self, Self::file)
    }

    /// A directory whose files are read.
    #[must_use]
    pub fn directory(mut self, directory: &Path) -> Self {
        self.read.insert(directory.to_owned());
        self
    }

    /// The same of a directory that somebody else of the program writes; it is made if it is not there yet.
    #[must_use]
    pub fn shared(mut self, directory: &Path) -> Self {
        self.made.insert(directory.to_owned());
        self.directory(directory)
    }

    /// A directory that is the program's own; it is made if it is not there.
    #[must_use]
    pub fn own(mut self, directory: &Path) -> Self {
        self.made.insert(directory.to_owned());
        self.write.insert(directory.to_owned());
        self
    }

    /// The directory that a socket is made in.
    #[must_use]
    pub fn socket(self, socket: &Path) -> Self {
        let directory = directory_of(socket).to_owned();
        self.own(&directory)
    }

    /// A port that it listens on; 0 is one of the system's choice.
    #[must_use]
    pub fn listen(mut self, port: u16) -> Self {
        self.listen.insert(port);
        self
    }

    /// `host:port` that it connects to. A name that is no address is looked up.
    #[must_use]
    pub fn connect(mut self, endpoint: &str) -> Self {
        if let Some(port) = endpoint.rsplit(':').next().and_then(|port| port.parse().ok()) {
            self.connect.insert(port);
        }
        if endpoint.parse::<std::net::SocketAddr>().is_err() {
            self.connect.insert(DNS_PORT);
            self.read.extend(LOOKUP.map(PathBuf::from));
        }
        self
    }

    /// Gives up everything else. Call it before threads are started, and after [`super::memory::no_dumps`].
    ///
    /// # Errors
    /// The kernel has no Landlock, and nobody has allowed that in writing; or it refuses.
    pub(super) fn restrict(&self, written: &Privilege) -> Result<(), PrivilegeError> {
        let status = self.ruleset().and_then(RulesetCreated::restrict_self).map_err(|error| refused(&error))?;
        tracing::debug!(landlock = ?status.landlock, enforced = ?status.ruleset, "files and ports out of reach");
        judge(status.ruleset, written)
    }

    fn ruleset(&self) -> Result<RulesetCreated, RulesetError> {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(LEAST))?
            .handle_access(AccessFs::from_all(KNOWN))?
            .handle_access(AccessNet::from_all(KNOWN))?
            .create()?;
        for path in &self.made {
            // A directory that cannot be made: who wants it says why.
            let _unmade = DirBuilder::new().recursive(true).mode(0o700).create(path);
        }
        for path in &self.write {
            ruleset = beneath(ruleset, path, own())?;
        }
        for path in &self.read {
            ruleset = beneath(ruleset, path, read)?;
        }
        for port in &self.listen {
            ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
        }
        for port in &self.connect {
            ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
        }
        Ok(ruleset)
    }
}

/// A kernel that holds nothing is accepted in writing only; one that holds files and no ports does (Linux before 6.7).
fn judge(enforced: RulesetStatus, written: &Privilege) -> Result<(), PrivilegeError> {
    match (enforced, &written.landlock) {
        (RulesetStatus::NotEnforced, None) => Err(PrivilegeError::Leak(
            "privilege.landlock: this kernel does not hold a process to the files that it needs; boot it with \
             lsm=landlock,… (CONFIG_SECURITY_LANDLOCK=y), or write in [privilege] landlock = \"allowed: REASON\""
                .into(),
        )),
        (RulesetStatus::NotEnforced, Some(allowed)) => {
            tracing::warn!(key = "privilege.landlock", reason = allowed.reason(), "an exception is in force");
            Ok(())
        }
        (RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced, _) => Ok(()),
    }
}

/// What a process does in its own directories: no programs, no links, no devices.
fn own() -> BitFlags<AccessFs> {
    AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSock
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
}

fn beneath(ruleset: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, RulesetError> {
    let Ok(descriptor) = PathFd::new(path) else { return Ok(ruleset) };
    // The kernel refuses rights of directories for what is a file.
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(KNOWN) };
    ruleset.add_rule(PathBeneath::new(descriptor, access))
}

fn directory_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn refused(error: &RulesetError) -> PrivilegeError {
    PrivilegeError::system("putting files out of reach (Landlock)", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reach_names_directories_and_ports() {
        let reach = Reach::default()
            .file(Path::new("/etc/gwtap/none/order.note"))
            .file(Path::new("alone"))
            .socket(Path::new("/run/gwtap/control.sock"))
            .connect("192.0.2.1:4740")
            .connect("[2001:db8::1]:4741");
        assert!(reach.read.iter().eq([Path::new("/etc/gwtap/none"), Path::new(".")]), "{reach:?}");
        assert!(reach.write.iter().eq([Path::new("/run/gwtap")]), "{reach:?}");
        assert!(reach.connect.iter().eq(&[4740, 4741]), "an address is not looked up");
        let named = reach.connect("receive.example:4740");
        assert!(named.connect.contains(&DNS_PORT) && named.read.contains(Path::new("/etc/resolv.conf")));
    }

    #[test]
    fn a_kernel_without_landlock_is_refused_unless_allowed_in_writing() {
        let none = Privilege::default();
        let refused = judge(RulesetStatus::NotEnforced, &none).unwrap_err().to_string();
        assert!(refused.contains("privilege.landlock: this kernel"), "{refused}");
        let allowed: Privilege = toml::from_str("landlock = \"allowed: an appliance's kernel\"").unwrap();
        judge(RulesetStatus::NotEnforced, &allowed).unwrap();
        judge(RulesetStatus::PartiallyEnforced, &none).unwrap();
    }

    #[test]
    fn a_link_is_followed_to_its_directory() {
        let folder = tempfile::tempdir().unwrap();
        let [kept, shown] = ["kept", "shown"].map(|name| folder.path().join(name));
        std::fs::create_dir(&kept).unwrap();
        std::fs::create_dir(&shown).unwrap();
        std::fs::write(kept.join("key"), "").unwrap();
        std::os::unix::fs::symlink(kept.join("key"), shown.join("key")).unwrap();
        let reach = Reach::default().file(&shown.join("key"));
        assert!(reach.read.contains(&shown) && reach.read.contains(&kept.canonicalize().unwrap()), "{reach:?}");
    }
}
