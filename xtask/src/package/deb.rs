//! Deb: a tree becomes a package. In: the tree, its date. Out: a file whose bytes depend on the tree alone: owners are root, dates
//! are the edition's, one thread compresses.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};

use super::{Edition, Role, control};

pub(super) fn build(tree: &Path, role: Role, edition: &Edition, out: &Path) -> Result<PathBuf> {
    let file = out.join(format!("{}_{}_{}.deb", role.name(), edition.version, control::architecture()));
    sums(tree)?;
    date(tree, SystemTime::UNIX_EPOCH + Duration::from_secs(edition.epoch))?;
    let output = Command::new("dpkg-deb")
        .args(["--root-owner-group", "-Zxz", "--threads-max=1", "--build"])
        .arg(tree)
        .arg(&file)
        .env("SOURCE_DATE_EPOCH", edition.epoch.to_string())
        .output()
        .context("dpkg-deb (packages are made on Debian)")?;
    if !output.status.success() {
        bail!("dpkg-deb: {}", String::from_utf8_lossy(&output.stderr));
    }
    println!("{}", file.display());
    Ok(file)
}

/// `DEBIAN/md5sums`, by which `dpkg --verify` finds what was changed.
fn sums(tree: &Path) -> Result<()> {
    let mut files = Vec::new();
    list(&tree.join("usr"), &mut files)?;
    files.sort();
    let names = files.iter().map(|file| file.strip_prefix(tree)).collect::<Result<Vec<_>, _>>()?;
    let output = Command::new("md5sum").args(names).current_dir(tree).output().context("md5sum")?;
    Ok(std::fs::write(tree.join("DEBIAN/md5sums"), output.stdout)?)
}

fn list(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// Gives everything in the tree this date: dpkg-deb itself only takes later ones back.
fn date(path: &Path, when: SystemTime) -> Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            date(&entry?.path(), when)?;
        }
    }
    Ok(std::fs::File::open(path)?.set_modified(when)?)
}
