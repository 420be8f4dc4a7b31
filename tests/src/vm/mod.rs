//! Virtual machines that run the integration tests on stock kernels: the very same programs as on this machine.
//!
//! ```text
//!  kernel (in /boot, or pinned and cached) ─┐
//!  first process, test programs, ip, tc ────┼─► initial RAM disk ─► QEMU ─► report, exit code ─► judge
//!  modules, each after those it needs ──────┘                         └──► console (a file)
//! ```
//!
//! In: a [`Kernel`], [`TestProgram`]s. Out: an [`Outcome`]. What bounds it: [`limits`], and a time-out outside the machine.

mod cpio;
mod disk;
pub mod judge;
pub mod kernel;
pub mod limits;
mod modules;
pub mod qemu;
pub mod suite;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tap_vm_init::plan::{self, Plan, Program};
use tap_vm_init::report::Event;

use crate::{gwtap, need};
use disk::Disk;
use judge::{Ending, Expected};
pub use kernel::Kernel;
use qemu::{Accelerator, Boot};

/// Names the built first process; without it the harness builds one.
pub const INIT: &str = "GWTAP_VM_INIT";

/// What the tests need of a kernel that is not built into every one.
const MODULES: [&str; 11] = [
    "virtio_pci",
    "virtio_net",
    "veth",
    "sch_ingress",
    "cls_matchall",
    "cls_u32",
    "act_mirred",
    "act_gact",
    "vxlan",
    "ip_gre",
    "ip6_gre",
];

/// What the laboratory runs.
const TOOLS: [&str; 4] = ["ip", "tc", "stat", "sleep"];

/// Files that tests read, in this crate.
const FILES: [&str; 3] = ["pcaps", "cases", "verified-instructions.toml"];

/// A test program of this machine.
#[derive(Clone, Debug)]
pub struct TestProgram {
    /// Its name in the report.
    pub name: String,
    /// The program.
    pub file: PathBuf,
    /// Which of its tests: arguments of the standard harness.
    pub filter: Vec<String>,
}

/// What to boot and how.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The kernel.
    pub kernel: Kernel,
    /// CPUs.
    pub cpus: u8,
    /// What executes them.
    pub accelerator: Accelerator,
    /// The `gwtap` program; the harness finds or builds one if none is given.
    pub gwtap: Option<PathBuf>,
    /// How long it may take.
    pub at_most: Duration,
    /// Further environment of the test programs.
    pub environment: Vec<(String, String)>,
}

impl Machine {
    /// One emulated CPU and the usual time.
    #[must_use]
    pub fn new(kernel: Kernel) -> Self {
        Self {
            kernel,
            cpus: 1,
            accelerator: Accelerator::default(),
            gwtap: None,
            at_most: limits::RUN_MAX,
            environment: Vec::new(),
        }
    }
}

/// How a run went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the machine reported.
    pub events: Vec<Event>,
    /// Everything that is wrong; nothing for a run that passed.
    pub faults: Vec<String>,
    /// How it ended.
    pub ending: Ending,
    /// From the start of QEMU to its end.
    pub took: Duration,
    /// What kernel and programs printed.
    pub console: String,
}

/// Boots `machine` and runs `programs` in it; `directory` gets the disk, the console and the report.
///
/// # Errors
/// What a disk or a start of QEMU needs is absent. A run that failed is an [`Outcome`] with faults.
pub fn run(machine: &Machine, programs: &[TestProgram], directory: &Path) -> Result<Outcome> {
    if !(1..=limits::CPUS_MAX).contains(&machine.cpus) {
        bail!("a machine has 1 to {} CPUs, not {}", limits::CPUS_MAX, machine.cpus);
    }
    std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    let [disk, console, report] = ["disk.cpio", "console.txt", "report.txt"].map(|name| directory.join(name));
    let expected = programs.iter().map(expected).collect::<Result<Vec<_>>>()?;
    std::fs::write(&disk, pack(machine, programs)?).with_context(|| disk.display().to_string())?;
    let boot = Boot {
        image: &machine.kernel.image,
        disk: &disk,
        console: &console,
        report: &report,
        cpus: machine.cpus,
        accelerator: machine.accelerator,
    };
    let started = Instant::now();
    let ending = qemu::run(&boot, machine.at_most)?;
    let took = started.elapsed();
    std::fs::remove_file(&disk).ok();
    let events: Vec<Event> = read(&report)?.lines().filter_map(Event::parse).collect();
    let faults = judge::faults(ending, &events, &expected);
    Ok(Outcome { events, faults, ending, took, console: read(&console)? })
}

/// How many tests a program has, as it says here: the same program says the same inside.
fn expected(program: &TestProgram) -> Result<Expected> {
    let shown = program.file.display();
    let output =
        Command::new(&program.file).arg("--list").args(&program.filter).output().with_context(|| shown.to_string())?;
    if !output.status.success() {
        bail!("{shown} --list: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let tests = String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.ends_with(": test")).count();
    if tests == 0 {
        bail!("{shown} {}: no such test", program.filter.join(" "));
    }
    Ok(Expected { name: program.name.clone(), tests: u64::try_from(tests)? })
}

/// The disk with everything on it.
fn pack(machine: &Machine, programs: &[TestProgram]) -> Result<Vec<u8>> {
    let mut disk = Disk::new(&init()?)?;
    let mut plan = Plan::default();
    for module in modules::resolve(&machine.kernel.modules, &MODULES)? {
        let file = format!("/vm/modules/{}.ko", module.name);
        disk.bytes(Path::new(&file), &module.bytes)?;
        plan.modules.push(file);
    }
    for name in TOOLS {
        disk.program(&need::find(name).with_context(|| format!("`{name}` is not installed"))?)?;
    }
    let crate_files = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in FILES {
        let file = crate_files.join(name);
        if file.is_dir() { disk.copy_all(&file)? } else { disk.copy(&file)? }
    }
    let gwtap = machine.gwtap.clone().map_or_else(gwtap::binary, Ok)?;
    disk.program(&gwtap)?;
    for program in programs {
        disk.program(&program.file)?;
        plan.programs.push(Program {
            name: program.name.clone(),
            file: path(&program.file)?,
            words: program.filter.clone(),
        });
    }
    plan.environment = vec![
        ("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into()),
        ("RUST_BACKTRACE".into(), "1".into()),
        (gwtap::BINARY.into(), path(&gwtap)?),
        (need::NOT_RUN.into(), plan::NOT_RUN.into()),
    ];
    plan.environment.extend(machine.environment.iter().cloned());
    disk.bytes(Path::new(plan::FILE), plan.text()?.as_bytes())?;
    disk.finish()
}

fn path(file: &Path) -> Result<String> {
    Ok(file.to_str().with_context(|| format!("{}: not plain text", file.display()))?.to_owned())
}

/// The first process: the one that `GWTAP_VM_INIT` names, or built now. It is static, since it runs before anything else is
/// there.
///
/// # Errors
/// It cannot be built.
pub fn init() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(INIT) {
        return Ok(named.into());
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "tap-vm-init", "--target", TRIPLE]);
    cargo.arg("--target-dir").arg(&target);
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static").current_dir(workspace);
    if !cargo.status().context("cargo")?.success() {
        bail!("the machine's first process could not be built");
    }
    Ok(target.join(TRIPLE).join("debug/tap-vm-init"))
}

/// Naming the target keeps the flags of the first process away from everything that is built for this machine.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

fn read(file: &Path) -> Result<String> {
    // Of a machine that never started there is none.
    if !file.exists() {
        return Ok(String::new());
    }
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
