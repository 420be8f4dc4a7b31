//! Control: what dpkg is told of a package. In: role, version, the program's bytes. Out: the text of `DEBIAN/control`, and what
//! the program needs of the system.

use anyhow::{Context as _, Result};

use super::{Edition, Role};

/// Text of `DEBIAN/control`.
pub(super) fn control(role: Role, edition: &Edition, program: &[u8], installed_kib: u64) -> Result<String> {
    let others: Vec<_> = Role::ALL.into_iter().filter(|other| *other != role).map(Role::name).collect();
    let (short, long) = description(role);
    let systemd = if role.laboratory() { "" } else { ", systemd" };
    Ok(format!(
        "Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: {maintainer}\n\
         Installed-Size: {installed_kib}\nDepends: libc6 (>= {libc}), libgcc-s1{systemd}\nConflicts: {conflicts}\nSection: net\n\
         Priority: optional\nDescription: {short}\n{long}",
        name = role.name(),
        version = edition.version,
        architecture = architecture(),
        maintainer = edition.maintainer,
        libc = libc_version(program).context("the program names no version of glibc: is it one for Debian?")?,
        conflicts = others.join(", "),
    ))
}

/// Debian's name for what this was built for.
pub(super) const fn architecture() -> &'static str {
    if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }
}

const fn description(role: Role) -> (&'static str, &'static str) {
    match role {
        Role::Mirror => (
            "header records of lawfully selected traffic from a mirror port",
            " An XDP program samples mirrored traffic up to the share that a signed order\n allows, drops what no selector \
             matches, and hands header records of the rest\n to an agent, which pseudonymises addresses and delivers them.\n .\n \
             This package is for the mirror host; it has no laboratory verbs.\n",
        ),
        Role::Receive => (
            "receiving facility for header records of mirror hosts",
            " Takes IPFIX over mutual TLS from mirror hosts, stores it durably and\n acknowledges what is stored.\n .\n This \
             package is for the receiving facility; it has no laboratory verbs.\n",
        ),
        Role::Laboratory => (
            "header records of selected traffic: laboratory",
            " All verbs of gwtap, with those that read capture files: replay tells for each\n packet which verdict and rules \
             the kernel program gives it, explain which\n stages a packet passes.\n .\n This package has no service.\n",
        ),
    }
}

/// The highest `GLIBC_2.N` among the versions of symbols that the program asks for.
fn libc_version(program: &[u8]) -> Option<String> {
    const PREFIX: &[u8] = b"GLIBC_2.";
    let minor = program
        .windows(PREFIX.len() + 3)
        .filter_map(|window| window.strip_prefix(PREFIX))
        .filter_map(|rest| {
            let digits: Vec<u8> = rest.iter().copied().take_while(u8::is_ascii_digit).collect();
            String::from_utf8(digits).ok()?.parse::<u32>().ok()
        })
        .max()?;
    Some(format!("2.{minor}"))
}
