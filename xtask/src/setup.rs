//! `cargo xtask setup`: installs what is missing, on Debian. In: the machine. Out: packages and two cargo programs; each is
//! said before it is installed. What bounds it: nothing is installed that is there, and `test` and `demo` never install.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use crate::command::{cargo, run, succeeds};
use crate::test_vm;
use tap_tests::need;

/// Arguments of `cargo xtask setup`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What the complete tests and `check` need: foreign decoders, QEMU and the kernels for it, cargo-deny
    #[arg(long)]
    test: bool,
    /// What building the BPF object from source needs: a matching compiler pair and bpf-linker
    #[arg(long)]
    ebpf: bool,
}

/// A Debian package and what it is for.
type Package = (&'static str, &'static str);

const TEST: &[Package] = &[
    ("iproute2", "namespaces, links and the mirror of the laboratory"),
    ("tshark", "independent decoder of captures and of IPFIX"),
    ("tcpdump", "second opinion on counts"),
    ("xdp-tools", "xdp-filter, the peer of the benchmark"),
    ("prometheus", "scrapes a tap and judges metrics, rules and dashboard"),
    ("libfixbuf-tools", "ipfixDump, strict decoder of IPFIX files"),
    ("socat", "TLS terminator in front of a decoder"),
    ("nfdump", "a flow collector and its reader"),
    ("softflowd", "a flow exporter"),
    ("pmacct", "nfacctd, a flow collector of the benchmark"),
    ("nats-server", "the cluster behind JetStream delivery"),
    ("curl", "speaks to the stand-in for the Commission as anybody could"),
    ("strace", "watches which system calls the processes make"),
    ("python3", "counts indicator files independently"),
    ("python3-venv", "a place of its own for schemathesis"),
    ("bpftool", "what the kernel says it has loaded"),
    ("systemd", "systemd-analyze, judge of the units"),
    ("lintian", "judge of the packages"),
    ("qemu-system-x86", "virtual machines that run the tests on other kernels"),
    ("xz-utils", "unpacks kernel modules"),
    ("zstd", "unpacks kernel modules"),
    ("g++", "compiles libFuzzer, which drives `cargo xtask fuzz`, and the laboratory's clock"),
];

const EBPF: &[Package] = &[
    ("rustc-web", "the recorded compiler of the BPF object"),
    ("cargo-web", "its cargo"),
    ("rust-web-src", "its library source, to build core for BPF"),
    ("llvm-22-dev", "the LLVM that bpf-linker links with"),
    ("libpolly-22-dev", "part of that LLVM"),
];

/// The recorded bpf-linker; the object is reproducible with this one.
const BPF_LINKER: &str = "0.13.0";

/// The cargo-deny that `deny.toml` is written for; newer ones may ask for a newer compiler than ours.
const CARGO_DENY: &str = "^0.20";

/// The schemathesis that the tests know: it drives the control API by its OpenAPI document.
const SCHEMATHESIS: &str = "4.32.5";

/// Where Debian installs the LLVM that bpf-linker links with.
const LLVM: &str = "/usr/lib/llvm-22";

pub(crate) fn setup(args: &Args) -> Result<ExitCode> {
    // Without a choice: all of it.
    let (test, ebpf) = if args.test || args.ebpf { (args.test, args.ebpf) } else { (true, true) };
    let mut wanted = Vec::new();
    if test {
        wanted.extend_from_slice(TEST);
    }
    if ebpf {
        wanted.extend_from_slice(EBPF);
    }
    packages(&wanted)?;
    if test && !succeeds(cargo().args(["deny", "--version"])) {
        println!("cargo-deny: licences and advisories of dependencies");
        run(cargo().args(["install", "--locked", "cargo-deny", "--version", CARGO_DENY]))?;
    }
    if test {
        schemathesis()?;
        test_vm::fetch()?;
    }
    if ebpf && !bpf_linker_is_there() {
        println!("bpf-linker {BPF_LINKER}: links the BPF object");
        run(cargo()
            .args(["install", "bpf-linker", "--version", BPF_LINKER, "--no-default-features", "--features", "llvm-22"])
            .env("LLVM_SYS_221_PREFIX", LLVM)
            // Its build asks `llvm-config`, which Debian keeps outside the usual PATH.
            .env("PATH", path_with_llvm()?))?;
    }
    println!("setup: everything is there");
    Ok(ExitCode::SUCCESS)
}

/// Beside what cargo builds, so that it goes with it.
fn schemathesis() -> Result<()> {
    let directory = need::tools()?.join("schemathesis");
    let said = Command::new(directory.join("bin/schemathesis")).arg("--version").output();
    if said.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(SCHEMATHESIS)) {
        return Ok(());
    }
    println!(
        "schemathesis {SCHEMATHESIS}: drives the control API by its OpenAPI document, into {}",
        directory.display()
    );
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory))?;
    let package = format!("schemathesis=={SCHEMATHESIS}");
    run(Command::new(directory.join("bin/pip")).args(["install", "--quiet", "--disable-pip-version-check", &package]))
}

fn packages(wanted: &[Package]) -> Result<()> {
    let missing: Vec<_> = wanted.iter().filter(|(name, _)| !installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("Debian packages to install:");
    for (name, purpose) in &missing {
        println!("  {name:<16} {purpose}");
    }
    let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
    if !Path::new("/etc/debian_version").exists() {
        bail!("this is not Debian: install the programs above in your system's way, then go on without setup");
    }
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "installing packages needs root; run as root: apt-get install --no-install-recommends {}",
            names.join(" ")
        );
    }
    run(apt().arg("update").arg("-q"))?;
    run(apt().args(["install", "-y", "-q", "--no-install-recommends"]).args(names))
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn installed(package: &str) -> bool {
    let query = Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]).output();
    query.is_ok_and(|output| output.status.success() && output.stdout == b"installed")
}

fn path_with_llvm() -> Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let first = std::iter::once(Path::new(LLVM).join("bin"));
    Ok(std::env::join_paths(first.chain(std::env::split_paths(&path)))?)
}

fn bpf_linker_is_there() -> bool {
    let said = Command::new("bpf-linker").arg("--version").output();
    said.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(BPF_LINKER))
}
