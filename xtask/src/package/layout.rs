//! Layout: which file goes where. In: a role, the program, `deploy/`. Out: a directory tree as it lies on the machine, with
//! dpkg's own folder beside it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap_complete::Shell;

use super::{Edition, Role, control, pages, sbom};
use crate::command::{root, run};

/// Files of a role below `deploy/`, where they go, and with which mode.
const fn files(role: Role) -> &'static [(&'static str, &'static str, u32)] {
    match role {
        Role::Mirror => &[
            ("gwtap.example.toml", "etc/gwtap/gwtap.toml", 0o644),
            ("systemd/gwtap.service", "usr/lib/systemd/system/gwtap.service", 0o644),
            ("debian/gwtap.tmpfiles", "usr/lib/tmpfiles.d/gwtap.conf", 0o644),
            ("systemd/credentials.conf", "usr/share/doc/gwtap/examples/credentials.conf", 0o644),
            ("prometheus/gwtap.rules.yml", "usr/share/doc/gwtap/examples/gwtap.rules.yml", 0o644),
            ("prometheus/RUNBOOKS.md", "usr/share/doc/gwtap/RUNBOOKS.md", 0o644),
            ("grafana/gwtap.json", "usr/share/doc/gwtap/examples/grafana.json", 0o644),
            ("debian/gwtap.postinst", "DEBIAN/postinst", 0o755),
            ("debian/gwtap.prerm", "DEBIAN/prerm", 0o755),
            ("debian/gwtap.postrm", "DEBIAN/postrm", 0o755),
        ],
        Role::Receive => &[
            ("receive.example.toml", "etc/gwtap/receive.toml", 0o644),
            ("systemd/gwtap-receive.service", "usr/lib/systemd/system/gwtap-receive.service", 0o644),
            ("debian/gwtap-receive.tmpfiles", "usr/lib/tmpfiles.d/gwtap-receive.conf", 0o644),
            ("debian/gwtap-receive.sysusers", "usr/lib/sysusers.d/gwtap-receive.conf", 0o644),
            ("debian/gwtap-receive.postinst", "DEBIAN/postinst", 0o755),
            ("debian/gwtap-receive.prerm", "DEBIAN/prerm", 0o755),
            ("debian/gwtap-receive.postrm", "DEBIAN/postrm", 0o755),
        ],
        Role::Laboratory => &[],
    }
}

/// Files that an operator edits; dpkg keeps the edits.
const fn conffiles(role: Role) -> &'static str {
    match role {
        Role::Mirror => "/etc/gwtap/gwtap.toml\n",
        Role::Receive => "/etc/gwtap/receive.toml\n",
        Role::Laboratory => "",
    }
}

/// Fills the tree.
pub(super) fn fill(tree: &Path, role: Role, edition: &Edition, program: &Path) -> Result<()> {
    let bytes = std::fs::read(program).with_context(|| program.display().to_string())?;
    write(tree, "usr/bin/gwtap", &bytes, 0o755)?;
    for (from, to, mode) in files(role) {
        let file = root().join("deploy").join(from);
        let content = std::fs::read(&file).with_context(|| file.display().to_string())?;
        write(tree, to, &content, *mode)?;
    }
    documents(tree, role, edition)?;
    commands(tree, role)?;
    let installed_kib = kib(&tree.join("usr"))?;
    write(tree, "DEBIAN/control", control::control(role, edition, &bytes, installed_kib)?.as_bytes(), 0o644)?;
    if !conffiles(role).is_empty() {
        write(tree, "DEBIAN/conffiles", conffiles(role).as_bytes(), 0o644)?;
    }
    modes(tree)
}

/// What `/usr/share/doc` holds of every role.
fn documents(tree: &Path, role: Role, edition: &Edition) -> Result<()> {
    let to = |name: &str| format!("usr/share/doc/{}/{name}", role.name());
    write(tree, &to("sbom.cdx.json"), sbom::bill(role, edition)?.as_bytes(), 0o644)?;
    for (from, name) in
        [("README.md", "README.md"), ("deploy/README.md", "deployment.md"), ("deploy/debian/copyright", "copyright")]
    {
        write(tree, &to(name), &std::fs::read(root().join(from))?, 0o644)?;
    }
    let epoch = format!("@{}", edition.epoch);
    let date = Command::new("date").args(["-R", "-u", "-d", &epoch]).env("LC_ALL", "C").output()?;
    let changelog = format!(
        "{} ({}) stable; urgency=medium\n\n  * CHANGELOG.md of the source has the changes.\n\n -- {}  {}",
        role.name(),
        edition.version,
        edition.maintainer,
        String::from_utf8(date.stdout)?
    );
    write(tree, &to("changelog"), changelog.as_bytes(), 0o644)?;
    run(Command::new("gzip").arg("-9n").arg(tree.join(to("changelog"))))?;
    let overrides = root().join("deploy/debian").join(format!("{}.lintian-overrides", role.name()));
    let to = format!("usr/share/lintian/overrides/{}", role.name());
    write(tree, &to, &std::fs::read(&overrides).with_context(|| overrides.display().to_string())?, 0o644)
}

/// Man pages and completions.
fn commands(tree: &Path, role: Role) -> Result<()> {
    let man = tree.join("usr/share/man/man1");
    pages::man(&man, role.laboratory())?;
    let mut gzip = Command::new("gzip");
    gzip.arg("-9n");
    for entry in std::fs::read_dir(&man)? {
        gzip.arg(entry?.path());
    }
    run(&mut gzip)?;
    for (shell, folder, made, name) in [
        (Shell::Bash, "usr/share/bash-completion/completions", "gwtap.bash", "gwtap"),
        (Shell::Zsh, "usr/share/zsh/vendor-completions", "_gwtap", "_gwtap"),
        (Shell::Fish, "usr/share/fish/vendor_completions.d", "gwtap.fish", "gwtap.fish"),
    ] {
        let folder = tree.join(folder);
        pages::completion(&folder, shell, role.laboratory())?;
        std::fs::rename(folder.join(made), folder.join(name))?;
    }
    Ok(())
}

fn write(tree: &Path, name: &str, content: &[u8], mode: u32) -> Result<()> {
    let file = tree.join(name);
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&file, content).with_context(|| file.display().to_string())?;
    Ok(std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode))?)
}

/// Directories and generated files have the modes that Debian asks for, whatever the caller's umask.
fn modes(directory: &Path) -> Result<()> {
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?;
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            modes(&path)?;
        } else {
            let executable = std::fs::metadata(&path)?.permissions().mode() & 0o100 != 0;
            let mode = if executable { 0o755 } else { 0o644 };
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

/// KiB of all files, each rounded up.
fn kib(directory: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        sum += if entry.path().is_dir() { kib(&entry.path())? } else { entry.metadata()?.len().div_ceil(1024) };
    }
    Ok(sum)
}
