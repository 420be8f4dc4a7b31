//! The kernels that machines boot. In: the one in `/boot`, or names of `tests/kernels.toml`. Out: an image and a directory of
//! modules. Pinned packages are fetched by apt, with a state of its own beside the machine's, into the user's cache; their
//! digests are compared before anything is unpacked. What bounds it: nothing is fetched for the kernel in `/boot`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// The keys of every release of Debian that is maintained (package debian-archive-keyring).
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// What an archive of Debian calls its releases.
const RELEASES: [&str; 6] = ["bookworm", "trixie", "forky", "stable", "testing", "sid"];

/// A kernel that can be booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// As the caller names it: a name of `tests/kernels.toml`, or `/boot`.
    pub name: String,
    /// The image.
    pub image: PathBuf,
    /// Its modules.
    pub modules: PathBuf,
}

/// `tests/kernels.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    /// In the order of the file.
    pub kernel: Vec<Pin>,
}

/// A stock kernel of Debian.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Its name here.
    pub name: String,
    /// The suite that has it.
    pub suite: String,
    /// What has to be unpacked.
    pub package: Vec<Package>,
}

/// A package, exactly.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
}

/// The kernel of this machine in `/boot`, the newest if there are several.
///
/// # Errors
/// There is none that can be read with its modules; the message says what to install.
pub fn in_boot() -> Result<Kernel> {
    newest(Path::new("/boot"), Path::new("/lib/modules"))
        .context("no kernel in /boot with its modules in /lib/modules: install one (apt-get install linux-image-cloud-amd64; it need not be started), or name pinned ones, which are downloaded: cargo xtask test --vm=6.1,6.12")
}

fn newest(boot: &Path, modules: &Path) -> Option<Kernel> {
    let mut found: Vec<(Vec<u64>, Kernel)> = std::fs::read_dir(boot)
        .ok()?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let file_name = entry.file_name();
            let release = file_name.to_str()?.strip_prefix("vmlinuz-")?;
            let modules = modules.join(release);
            std::fs::File::open(entry.path()).ok()?;
            modules
                .is_dir()
                .then(|| (numbers(release), Kernel { name: release.to_owned(), image: entry.path(), modules }))
        })
        .collect();
    found.sort_by(|left, right| left.0.cmp(&right.0));
    found.pop().map(|(_, kernel)| kernel)
}

/// The numbers in a release, so that 6.12 comes after 6.9.
fn numbers(release: &str) -> Vec<u64> {
    release.split(|byte: char| !byte.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// `tests/kernels.toml`.
///
/// # Errors
/// It does not follow its form.
pub fn pins() -> Result<Pins> {
    toml::from_str(include_str!("../../kernels.toml")).context("tests/kernels.toml")
}

impl Pins {
    /// The pin of this name.
    ///
    /// # Errors
    /// There is none; the message names those there are.
    pub fn named(&self, name: &str) -> Result<&Pin> {
        let names: Vec<&str> = self.kernel.iter().map(|pin| pin.name.as_str()).collect();
        let found = self.kernel.iter().find(|pin| pin.name == name);
        found.with_context(|| format!("kernel {name}: tests/kernels.toml has {}", names.join(", ")))
    }
}

impl Pin {
    /// The kernel, if it was fetched before.
    #[must_use]
    pub fn cached(&self) -> Option<Kernel> {
        find(&self.name, &self.directory().ok()?)
    }

    /// The kernel, fetched now if it was not before.
    ///
    /// # Errors
    /// It cannot be fetched, is another than the pinned one, or has no image or no modules inside.
    pub fn fetch(&self) -> Result<Kernel> {
        if let Some(kernel) = self.cached() {
            return Ok(kernel);
        }
        let directory = self.directory()?;
        let above = directory.parent().context("no cache")?;
        std::fs::create_dir_all(above).with_context(|| above.display().to_string())?;
        // Unpacked beside its place and moved there whole: what is there is complete.
        let work = tempfile::Builder::new().prefix("fetch-").tempdir_in(above)?;
        let root = work.path().join("root");
        for file in download(self, work.path())? {
            unpack(&file, &root)?;
        }
        find(&self.name, &root).with_context(|| format!("kernel {}: no image or no modules inside", self.name))?;
        if !directory.exists() {
            std::fs::rename(&root, &directory).with_context(|| directory.display().to_string())?;
        }
        self.cached().with_context(|| format!("kernel {}: lost from the cache", self.name))
    }

    /// Where it is kept: other packages have another place.
    fn directory(&self) -> Result<PathBuf> {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let cache = cache.or_else(home).context("neither XDG_CACHE_HOME nor HOME is set")?;
        let mut digest = Sha256::new();
        for package in &self.package {
            digest.update(&package.sha256);
        }
        let short: String = hex::encode(digest.finalize()).chars().take(16).collect();
        Ok(cache.join("gwtap/kernels").join(format!("{}-{short}", self.name)))
    }
}

/// Fetches a pin's packages into `work`; their files, digests compared.
fn download(pin: &Pin, work: &Path) -> Result<Vec<PathBuf>> {
    let sources = work.join("sources.list");
    std::fs::write(&sources, format!("{}\n", source(&pin.suite)?))?;
    for directory in ["state/lists/partial", "cache/archives/partial"] {
        std::fs::create_dir_all(work.join(directory))?;
    }
    std::fs::write(work.join("status"), "")?;
    let shown = work.display();
    let apt = || {
        let mut command = Command::new("apt-get");
        command.current_dir(work).arg("-q");
        for option in [
            format!("Dir::State={shown}/state"),
            format!("Dir::State::status={shown}/status"),
            format!("Dir::Cache={shown}/cache"),
            format!("Dir::Etc::sourcelist={}", sources.display()),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            "Acquire::Languages=none".to_owned(),
            // The user that apt, when it is root, would fetch as cannot write into the cache.
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command
    };
    run(apt().arg("update"))?;
    let mut files = Vec::new();
    for package in &pin.package {
        let exact = format!("{}={}", package.name, package.version);
        run(apt().args(["download", &exact])).with_context(|| {
            format!("kernel {}: {exact} is not in {} any more? Take its successor's name, version and SHA-256 into tests/kernels.toml", pin.name, pin.suite)
        })?;
        let file = std::fs::read_dir(work)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.to_string_lossy().contains(&format!("/{}_", package.name)))
            .with_context(|| format!("apt-get download {exact} left no file"))?;
        let found = hex::encode(Sha256::digest(std::fs::read(&file)?));
        if found != package.sha256 {
            bail!("{exact}: SHA-256 is {found}, pinned is {}", package.sha256);
        }
        files.push(file);
    }
    Ok(files)
}

/// The line of a sources list for `suite`, from the archive that this machine's own apt uses.
fn source(suite: &str) -> Result<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"]);
    let output = command.output().context("apt-get (pinned kernels are Debian's and are fetched by its apt)")?;
    archive_line(&String::from_utf8_lossy(&output.stdout), suite).with_context(|| {
        format!("this machine's apt has no archive of Debian that could have {suite}: see apt-get indextargets")
    })
}

fn archive_line(targets: &str, suite: &str) -> Option<String> {
    // Security updates lie in an archive of their own, everything else in the main one.
    let security = suite.ends_with("-security");
    let archive = targets.lines().find_map(|line| {
        let (archive, release) = line.split_once(' ')?;
        let debian = RELEASES.iter().any(|name| release.starts_with(name));
        (debian && release.contains("-security") == security).then_some(archive)
    })?;
    Some(format!("deb [signed-by={KEYRING}] {archive} {suite} main"))
}

fn unpack(package: &Path, root: &Path) -> Result<()> {
    run(Command::new("dpkg-deb").arg("-x").arg(package).arg(root))
}

/// The image and the modules in an unpacked tree; where they lie differs between versions of the packages.
fn find(name: &str, root: &Path) -> Option<Kernel> {
    let modules = ["lib/modules", "usr/lib/modules"].iter().find_map(|place| {
        let mut releases = std::fs::read_dir(root.join(place)).ok()?;
        releases.find_map(|entry| Some(entry.ok()?.path()).filter(|path| path.join("kernel").is_dir()))
    })?;
    let release = modules.file_name()?.to_str()?;
    let images = [root.join(format!("boot/vmlinuz-{release}")), modules.join("vmlinuz")];
    let image = images.into_iter().find(|file| file.is_file())?;
    Some(Kernel { name: name.to_owned(), image, modules })
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| command.get_program().to_string_lossy().into_owned())?;
    if !output.status.success() {
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} {}: {}", command.get_program().to_string_lossy(), words.join(" "), said.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pin_is_complete() {
        let pins = pins().unwrap();
        assert!(pins.kernel.len() >= 3);
        for pin in &pins.kernel {
            assert!(!pin.package.is_empty(), "{}", pin.name);
            for package in &pin.package {
                assert_eq!(hex::decode(&package.sha256).unwrap().len(), 32, "{}", package.name);
                assert!(package.name.contains(&pin.name), "{} is a kernel {}", package.name, pin.name);
            }
        }
        let refusal = pins.named("2.6").unwrap_err().to_string();
        assert!(refusal.contains("6.1"), "{refusal}");
    }

    #[test]
    fn the_newest_kernel_in_boot_is_taken_if_it_has_modules() {
        let directory = tempfile::tempdir().unwrap();
        let (boot, modules) = (directory.path().join("boot"), directory.path().join("modules"));
        std::fs::create_dir_all(&boot).unwrap();
        assert_eq!(newest(&boot, &modules), None);
        for release in ["6.9.1-amd64", "6.12.3-amd64", "7.0.0-amd64"] {
            std::fs::write(boot.join(format!("vmlinuz-{release}")), "").unwrap();
        }
        for release in ["6.9.1-amd64", "6.12.3-amd64"] {
            std::fs::create_dir_all(modules.join(release)).unwrap();
        }
        assert_eq!(newest(&boot, &modules).unwrap().name, "6.12.3-amd64");
    }

    #[test]
    fn the_archive_is_the_one_that_this_machine_uses() {
        let targets = "http://a.example/other nodistro\nhttp://a.example/debian/ bookworm\n\
                       http://a.example/debian-security/ bookworm-security\n";
        let line = archive_line(targets, "trixie-backports").unwrap();
        assert_eq!(line, format!("deb [signed-by={KEYRING}] http://a.example/debian/ trixie-backports main"));
        let line = archive_line(targets, "bookworm-security").unwrap();
        assert_eq!(line, format!("deb [signed-by={KEYRING}] http://a.example/debian-security/ bookworm-security main"));
        assert_eq!(archive_line("", "trixie"), None);
    }
}
