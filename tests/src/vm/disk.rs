//! The initial RAM disk: the first process, test programs, the host's own `ip` and `tc` with their libraries, the files that
//! tests read, modules, the plan. In: paths on this machine. Out: one archive. Programs lie where they lie here, so that a
//! test finds its files by the paths it was built with. Nothing of it outlives the run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::cpio::Archive;

/// Major and minor number of the console.
const CONSOLE: (u32, u32) = (5, 1);

/// A disk that grows.
#[derive(Debug)]
pub(super) struct Disk {
    archive: Archive,
    present: BTreeSet<PathBuf>,
}

impl Disk {
    /// A disk that starts `init`.
    ///
    /// # Errors
    /// `init` cannot be read.
    pub(super) fn new(init: &Path) -> Result<Self> {
        let mut disk = Self { archive: Archive::default(), present: BTreeSet::new() };
        disk.bytes(Path::new("/init"), &stripped(init)?)?;
        // The kernel opens this one for the first process before anything is mounted.
        disk.parents(Path::new("/dev/console"))?;
        disk.archive.device("/dev/console", CONSOLE.0, CONSOLE.1)?;
        Ok(disk)
    }

    /// Adds a file with this content.
    ///
    /// # Errors
    /// The path is not plain text, or the format's limits.
    pub(super) fn bytes(&mut self, path: &Path, content: &[u8]) -> Result<()> {
        if self.present.insert(path.to_owned()) {
            self.parents(path)?;
            self.archive.file(text(path)?, content)?;
        }
        Ok(())
    }

    /// Adds a file of this machine at its own path.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn copy(&mut self, file: &Path) -> Result<()> {
        let content = std::fs::read(file).with_context(|| file.display().to_string())?;
        self.bytes(file, &content)
    }

    /// Adds a directory of this machine with all that is below it.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn copy_all(&mut self, directory: &Path) -> Result<()> {
        for entry in std::fs::read_dir(directory).with_context(|| directory.display().to_string())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                self.copy_all(&entry.path())?;
            } else {
                self.copy(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Adds a program of this machine at its own path, without what a debugger reads, and the libraries that it loads.
    ///
    /// # Errors
    /// It cannot be read, or `ldd` does not know it.
    pub(super) fn program(&mut self, file: &Path) -> Result<()> {
        self.bytes(file, &stripped(file)?)?;
        let output = Command::new("ldd").arg(file).output().context("ldd")?;
        if !output.status.success() {
            bail!("ldd {}: {}", file.display(), String::from_utf8_lossy(&output.stderr).trim());
        }
        for library in libraries(&String::from_utf8_lossy(&output.stdout)) {
            self.copy(&library)?;
        }
        Ok(())
    }

    /// The finished archive.
    ///
    /// # Errors
    /// Never for what was added.
    pub(super) fn finish(self) -> Result<Vec<u8>> {
        self.archive.finish()
    }

    fn parents(&mut self, path: &Path) -> Result<()> {
        let above: Vec<&Path> = path.ancestors().skip(1).filter(|parent| parent.parent().is_some()).collect();
        for parent in above.into_iter().rev() {
            if self.present.insert(parent.to_owned()) {
                self.archive.directory(text(parent)?)?;
            }
        }
        Ok(())
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{}: not plain text", path.display()))
}

/// A program without what a debugger reads: a debug build is 30 times smaller so.
fn stripped(file: &Path) -> Result<Vec<u8>> {
    let directory = tempfile::tempdir()?;
    let smaller = directory.path().join("program");
    let output = Command::new("strip")
        .arg("--strip-debug")
        .arg("-o")
        .arg(&smaller)
        .arg(file)
        .output()
        .context("strip (a part of binutils, as the linker)")?;
    if !output.status.success() {
        bail!("strip {}: {}", file.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(std::fs::read(smaller)?)
}

/// The files in the output of `ldd`: `name => /path (address)` and the loader's `/path (address)`.
fn libraries(output: &str) -> Vec<PathBuf> {
    output
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_ldd() {
        let output = "\tlinux-vdso.so.1 (0x00007f60)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f61)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f62)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(libraries(output), expected);
        assert_eq!(libraries("\tstatically linked\n"), [] as [PathBuf; 0]);
    }
}
